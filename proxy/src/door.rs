//! A way in for users: an address, and what is spoken there.
//!
//! A kind is one word, the same on the command line, as the name of a socket
//! that systemd passes, and in a hand-over: `http` or `https`, followed by
//! `+proxy` where a proxy in front begins each connection with the PROXY
//! protocol, and by `+h2c` where a client may begin with HTTP/2 without asking.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::origin::Scheme;

/// What is spoken on the connections of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Whether they begin with TLS.
    pub scheme: Scheme,
    /// Each begins with the PROXY protocol, and is refused without.
    pub proxied: bool,
    /// A plain one may begin with the preface of HTTP/2.
    pub prior_knowledge: bool,
}

/// Why a word is no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// It is another word.
    #[error("{0:?} is no kind of listener: it is http or https, with +proxy or +h2c behind it")]
    Unknown(String),
    /// It says something twice.
    #[error("{0:?} says the same twice")]
    Twice(String),
    /// HTTP/2 without asking, on a listener where TLS asks.
    #[error("{0:?} is impossible: with TLS the two sides agree on HTTP/2, +h2c is for http")]
    Agreed(String),
}

/// Why a text is no door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// Its kind is wrong.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// Its address is wrong.
    #[error("{0:?} is no address with a port, such as 0.0.0.0:80 or [::]:443")]
    Address(String),
}

/// An address with the kind of what is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Door {
    /// What is spoken.
    pub kind: Kind,
    /// Where.
    pub address: SocketAddr,
}

impl Kind {
    /// Plain HTTP/1.1.
    pub const HTTP: Self = Self {
        scheme: Scheme::Http,
        proxied: false,
        prior_knowledge: false,
    };

    /// The kind that the name of a socket of systemd means. The names that
    /// sockets have when nobody named them mean plain HTTP.
    pub(crate) fn of_socket(name: &str) -> Result<Self, KindError> {
        let unnamed = ["", "unknown", "stored"].contains(&name) || name.ends_with(".socket");
        if unnamed {
            return Ok(Self::HTTP);
        }
        name.parse()
    }

    /// Whether a plain request, without any preface, is served.
    pub(crate) fn is_plain(self) -> bool {
        self.scheme == Scheme::Http && !self.proxied
    }
}

impl FromStr for Kind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        let mut words = text.split('+');
        let scheme = match words.next() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(KindError::Unknown(text.to_owned())),
        };
        let mut kind = Self {
            scheme,
            ..Self::HTTP
        };
        for word in words {
            let said = match word {
                "proxy" => &mut kind.proxied,
                "h2c" => &mut kind.prior_knowledge,
                _ => return Err(KindError::Unknown(text.to_owned())),
            };
            if std::mem::replace(said, true) {
                return Err(KindError::Twice(text.to_owned()));
            }
        }
        if kind.prior_knowledge && scheme == Scheme::Https {
            return Err(KindError::Agreed(text.to_owned()));
        }
        Ok(kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme.name())?;
        if self.proxied {
            f.write_str("+proxy")?;
        }
        if self.prior_knowledge {
            f.write_str("+h2c")?;
        }
        Ok(())
    }
}

impl FromStr for Door {
    type Err = DoorError;

    fn from_str(text: &str) -> Result<Self, DoorError> {
        let (kind, address) = match text.split_once('=') {
            Some((kind, address)) => (kind.parse()?, address),
            None => (Kind::HTTP, text),
        };
        match address.parse() {
            Ok(address) => Ok(Self { kind, address }),
            Err(_) => Err(DoorError::Address(address.to_owned())),
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let door: Result<Door, String> = text.parse().map_err(|e: DoorError| e.to_string());
        match expected {
            Ok(shown) => assert_eq!(door.map(|door| door.to_string()).as_deref(), Ok(shown)),
            Err(part) => {
                let told = door.unwrap_err();
                assert!(told.contains(part), "{text}: {told}");
            }
        }
    }

    #[test]
    fn a_door_is_an_address_with_a_kind_or_plain_http() {
        check("127.0.0.1:80", Ok("http=127.0.0.1:80"));
        check("[::]:80", Ok("http=[::]:80"));
        check("http=127.0.0.1:80", Ok("http=127.0.0.1:80"));
        check("https=0.0.0.0:443", Ok("https=0.0.0.0:443"));
        check("https+proxy=[::1]:443", Ok("https+proxy=[::1]:443"));
        check(
            "http+h2c+proxy=127.0.0.1:80",
            Ok("http+proxy+h2c=127.0.0.1:80"),
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_possible() {
        check("ftp=127.0.0.1:21", Err("http or https"));
        check("http+tls=127.0.0.1:80", Err("+proxy or +h2c"));
        check("http+=127.0.0.1:80", Err("+proxy or +h2c"));
        check("=127.0.0.1:80", Err("http or https"));
        check("http+proxy+proxy=127.0.0.1:80", Err("twice"));
        check("https+h2c=127.0.0.1:80", Err("+h2c is for http"));
        check("80", Err("no address with a port"));
        check("https=localhost:443", Err("no address with a port"));
        check("http=http=127.0.0.1:80", Err("no address with a port"));
    }

    #[test]
    fn a_socket_that_nobody_named_is_plain_http() {
        for name in ["", "unknown", "stored", "cutover-http.socket"] {
            assert_eq!(Kind::of_socket(name), Ok(Kind::HTTP), "{name}");
        }
        let named = Kind::of_socket("https+proxy").unwrap();
        assert_eq!((named.scheme, named.proxied), (Scheme::Https, true));
        assert!(Kind::of_socket("admin").is_err());
    }
}
