//! Sends clients elsewhere: from a host that moved, and from HTTP to HTTPS.
//!
//! A client that needs both is sent once. Path and query stay. The port does
//! not: the table knows hosts without port, and the other scheme has another
//! one. What a certificate authority asks for over HTTP stays where it is asked,
//! because some of them do not follow.

use cutover_wire::table::{Https, Redirect};
use http::{HeaderValue, StatusCode, Uri};

use crate::origin::Scheme;

/// Where an authority looks for the answer to its challenge (RFC 8555, section 8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Where the clients of a host went.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Moved {
    to: Box<str>,
    status: StatusCode,
}

impl Moved {
    pub(super) fn of(redirect: &Redirect) -> Self {
        let status = StatusCode::from_u16(redirect.status.into());
        Self {
            to: redirect.to.as_str().into(),
            status: status.unwrap_or(StatusCode::PERMANENT_REDIRECT),
        }
    }
}

/// Where a client is sent, if it is. A request without host, as HTTP/1.0 allows,
/// cannot be sent to another scheme and is served.
pub(super) fn redirect(
    moved: Option<&Moved>,
    https: Https,
    uri: &Uri,
    scheme: Scheme,
    host: &str,
) -> Option<(StatusCode, HeaderValue)> {
    let wanted = match https {
        Https::Redirect => Scheme::Https,
        Https::Optional => scheme,
    };
    let (to, status) = match moved {
        Some(moved) => (&*moved.to, moved.status),
        None if wanted == scheme || host.is_empty() => return None,
        None => (host, StatusCode::PERMANENT_REDIRECT),
    };
    let rest = uri.path_and_query()?.as_str();
    let challenge = scheme == Scheme::Http && rest.starts_with(CHALLENGES);
    if !rest.starts_with('/') || challenge {
        return None;
    }
    let location = format!("{}://{to}{rest}", wanted.name());
    Some((status, HeaderValue::try_from(location).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutover_wire::table::RedirectStatus;

    const KEPT: Option<&str> = None;

    fn check(
        moved: Option<&str>,
        https: Https,
        (scheme, host, path): (Scheme, &str, &str),
        expected: Option<&str>,
    ) {
        let moved = moved.map(|to| {
            Moved::of(&Redirect {
                to: to.to_owned(),
                status: RedirectStatus::default(),
            })
        });
        let uri: Uri = path.parse().unwrap();
        let found = redirect(moved.as_ref(), https, &uri, scheme, host);
        let found = found.map(|(status, location)| {
            assert_eq!(status, StatusCode::PERMANENT_REDIRECT);
            location
        });
        assert_eq!(found.as_ref().map(|to| to.to_str().unwrap()), expected);
    }

    #[test]
    fn clients_are_sent_once_with_path_and_query() {
        use Scheme::{Http, Https as Tls};
        let (optional, only) = (Https::Optional, Https::Redirect);
        let www = Some("b.example");
        let asked = |scheme| (scheme, "a.example", "/x?y=1");
        check(KEPT, optional, asked(Http), None);
        check(KEPT, optional, asked(Tls), None);
        check(KEPT, only, asked(Tls), None);
        check(KEPT, only, asked(Http), Some("https://a.example/x?y=1"));
        check(www, optional, asked(Http), Some("http://b.example/x?y=1"));
        check(www, optional, asked(Tls), Some("https://b.example/x?y=1"));
        check(www, only, asked(Http), Some("https://b.example/x?y=1"));
        let slashes = (Http, "a.example", "//c.example");
        check(KEPT, only, slashes, Some("https://a.example//c.example"));
    }

    #[test]
    fn what_cannot_follow_is_not_sent_elsewhere() {
        use Scheme::{Http, Https as Tls};
        let (only, www) = (Https::Redirect, Some("b.example"));
        let challenge = "/.well-known/acme-challenge/tok";
        check(KEPT, only, (Http, "a.example", challenge), None);
        check(www, only, (Http, "a.example", challenge), None);
        let over_tls = Some("https://b.example/.well-known/acme-challenge/tok");
        check(www, only, (Tls, "a.example", challenge), over_tls);
        check(KEPT, only, (Http, "", "/"), None);
        check(KEPT, only, (Http, "a.example", "*"), None);
    }

    #[test]
    fn a_host_may_say_its_status() {
        let moved = Moved::of(&Redirect {
            to: "b.example".to_owned(),
            status: RedirectStatus::MovedPermanently,
        });
        assert_eq!(moved.status, StatusCode::MOVED_PERMANENTLY);
    }
}
