//! Where the agent is, and whether what is said to it can be read on the way.
//!
//! It opens nothing; see [`crate::connection`].

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http::Uri;

use crate::arguments::Connection;
use crate::failure::Failure;

/// Where the agent's socket is on its host.
const SOCKET: &str = "/run/cutover/agent.sock";

/// Where calls go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// The agent's socket on this host; its permissions are the check.
    Socket(PathBuf),
    /// An address on the network; calls are signed.
    Network(Address),
}

/// An address on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Whether the conversation is encrypted.
    pub(crate) tls: Tls,
    /// A name or an IP address, without brackets.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// What stands before `/v1`; empty or `/…` without a slash at its end.
    pub(crate) prefix: String,
}

/// Whether a conversation is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    /// `https`.
    On,
    /// `http`.
    Off,
}

impl Endpoint {
    /// The endpoint that the command line names.
    pub(crate) fn choose(connection: &Connection) -> Result<Self, Failure> {
        if let Some(path) = &connection.socket {
            return Ok(Self::Socket(path.clone()));
        }
        match connection.url.as_deref().map(str::trim) {
            Some(url) if !url.is_empty() => {
                let address = Address::parse(url)?;
                address.readable_only_if(connection.insecure_http)?;
                Ok(Self::Network(address))
            }
            _ if Path::new(SOCKET).exists() => Ok(Self::Socket(PathBuf::from(SOCKET))),
            _ => Err(Failure::usage("no agent is named").hint(format!(
                "use --url https://… or CUTOVER_URL; on the agent's own host, {SOCKET} is used when the agent runs"
            ))),
        }
    }

    /// The endpoint as a person names it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Socket(path) => path.display().to_string(),
            Self::Network(address) => {
                let scheme = match address.tls {
                    Tls::On => "https",
                    Tls::Off => "http",
                };
                format!("{scheme}://{}{}", address.authority(), address.prefix)
            }
        }
    }

    /// Whether nobody on the way can read what is said.
    pub(crate) fn is_private(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Network(address) => address.tls == Tls::On || address.is_loopback(),
        }
    }

    /// The options that reach this endpoint again, for hints.
    pub(crate) fn options(&self) -> String {
        match self {
            Self::Socket(path) if path == Path::new(SOCKET) => String::new(),
            Self::Socket(path) => format!(" --socket {}", path.display()),
            Self::Network(_) => format!(" --url {}", self.name()),
        }
    }
}

impl Address {
    fn parse(url: &str) -> Result<Self, Failure> {
        let bad = |fault: &str| {
            Failure::usage(format!("the URL {url:?} {fault}"))
                .hint("write it like https://deploy.example.com or https://example.com/cutover")
        };
        let uri: Uri = url.parse().map_err(|_| bad("cannot be read"))?;
        let tls = match uri.scheme_str() {
            Some("https") => Tls::On,
            Some("http") => Tls::Off,
            _ => return Err(bad("must begin with https://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("names no host"))?;
        if authority.as_str().contains('@') {
            // The text may hold a password, so it is not repeated.
            return Err(
                Failure::usage("the URL must not carry a user or a password")
                    .hint("calls are signed with CUTOVER_SECRET; leave only the host in the URL"),
            );
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(bad("must end with its path"));
        }
        let prefix = uri.path().trim_end_matches('/');
        if prefix.ends_with("/v1") || prefix.contains("/v1/") {
            return Err(bad("must not contain /v1: that is added"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(bad("names no host"));
        }
        let port = match (authority.port(), tls) {
            (Some(port), _) => port.as_u16(),
            (None, Tls::On) => 443,
            (None, Tls::Off) => 80,
        };
        Ok(Self {
            tls,
            host,
            port,
            prefix: prefix.to_owned(),
        })
    }

    /// The `Host` of its requests: the port only where it is not the usual one.
    pub(crate) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.tls, self.port) {
            (Tls::On, 443) | (Tls::Off, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            // Resolvers answer this name without asking anybody (RFC 6761).
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    fn readable_only_if(&self, allowed: bool) -> Result<(), Failure> {
        if self.tls == Tls::On || self.is_loopback() || allowed {
            return Ok(());
        }
        let host = &self.host;
        Err(Failure::usage(format!("http://{host} can be read by everybody on the way"))
            .hint("use https://; or --insecure-http, if the network between is private: calls stay signed, and registry credentials are not sent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn check(url: &str, expected: Result<&str, &str>) {
        let connection = Connection {
            url: Some(url.to_owned()),
            socket: None,
            secret_file: None,
            insecure_http: false,
            retry_for: Duration::from_secs(1),
        };
        match (Endpoint::choose(&connection), expected) {
            (Ok(endpoint), Ok(name)) => assert_eq!(endpoint.name(), name),
            (Err(failure), Err(part)) => {
                assert!(failure.sentence().contains(part), "{url}: {failure:?}");
                assert!(failure.hint.is_some());
            }
            (got, _) => panic!("{url}: {got:?}"),
        }
    }

    #[test]
    fn urls_are_read_with_port_and_prefix() {
        check(
            "https://deploy.example.com",
            Ok("https://deploy.example.com"),
        );
        check("https://e.com:443/cutover/", Ok("https://e.com/cutover"));
        check("https://e.com:8443/", Ok("https://e.com:8443"));
        check("http://127.0.0.1:9000", Ok("http://127.0.0.1:9000"));
        check("http://[::1]:9000/a", Ok("http://[::1]:9000/a"));
        check("http://localhost:9000", Ok("http://localhost:9000"));
        check("deploy.example.com", Err("https://"));
        check("ftp://e.com", Err("https://"));
        check("https://e.com/v1", Err("/v1"));
        check("https://e.com/?a=b", Err("path"));
        check("https://", Err("cannot be read"));
    }

    #[test]
    fn http_to_another_machine_needs_a_decision() {
        check("http://deploy.example.com", Err("read by everybody"));
        check("http://127.0.0.1.example.com", Err("read by everybody"));
        check("http://10.0.0.1", Err("read by everybody"));
    }

    #[test]
    fn a_password_in_the_url_is_not_repeated() {
        let failure = Address::parse("https://me:hunter2@e.com").unwrap_err();
        assert!(!format!("{failure:?}").contains("hunter2"));
    }
}
