//! Why GitHub did not do it, and what that means for the next attempt.
//!
//! What a person can repair (a token, a permission, a renamed secret file) is
//! tried again, ever more seldom; what only another message could cure is not.

use std::time::Duration;

use http::StatusCode;

use super::answer::Answer;
use super::text::line;
use crate::forge::DeliveryError;

/// Why one delivery stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// GitHub was not reached, or is ill. Nothing was done.
    Unreachable(String),
    /// A call went out and no answer came back: it may have had its effect.
    Lost(String),
    /// GitHub asks to be left alone for so many seconds.
    Limited(u64),
    /// The credential is not accepted.
    Unauthorized(String),
    /// The credential is good, but not for this.
    Forbidden(String),
    /// The deployment has been deleted.
    Gone(String),
    /// GitHub will never do it.
    Refused(String),
}

/// What 404 says about the thing that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The repository: GitHub hides what a credential may not see.
    Access,
    /// The deployment, in a repository that was just seen.
    Deployment,
}

/// GitHub's word for an exhausted limit without a time: at least a minute.
const LIMITED: u64 = 60;

/// No limit of GitHub lasts longer than an hour; a clock may be wrong by another.
const LONGEST_LIMIT: u64 = 2 * 3_600;

/// How seldom a broken credential is tried: from a minute to an hour, so that
/// it is neither hammered nor long unnoticed once it is repaired.
const REPAIR: (u64, u64) = (60, 3_600);

impl Failure {
    /// Reads an answer that is not the one hoped for.
    pub(super) fn of(answer: &Answer, what: &str, missing: Missing, now: i64) -> Self {
        let said = answer.message();
        let code = answer.status.as_u16();
        let told = line(&format!("{what}: {code}: {said}"));
        if let Some(seconds) = limit(answer, &said, now) {
            return Self::Limited(seconds.clamp(1, LONGEST_LIMIT));
        }
        match answer.status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized(told),
            StatusCode::FORBIDDEN => Self::Forbidden(told),
            StatusCode::NOT_FOUND => match missing {
                Missing::Access => Self::Forbidden(told),
                Missing::Deployment => Self::Gone(told),
            },
            StatusCode::REQUEST_TIMEOUT => Self::Unreachable(told),
            status if status.is_redirection() => Self::Refused(format!(
                "{told}; the repository may have moved: configure its new name"
            )),
            status if status.is_client_error() => Self::Refused(told),
            // Server errors, and successes that no call of ours asks for: a
            // gateway's page, or 202 when GitHub merged a branch instead.
            _ => Self::Unreachable(told),
        }
    }

    /// What the reporter has to know of it.
    pub(super) fn into_delivery(self, attempt: u32, settle: Duration) -> DeliveryError {
        let later = |reason, after_seconds| DeliveryError::Later {
            reason,
            after_seconds,
        };
        let repair = || {
            let doubled = REPAIR
                .0
                .saturating_mul(1 << attempt.saturating_sub(1).min(16));
            Some(doubled.min(REPAIR.1))
        };
        match self {
            Self::Unreachable(reason) => later(reason, None),
            Self::Lost(reason) => later(reason, Some(settle.as_secs())),
            Self::Limited(seconds) => later(
                format!("the rate limit is used up for {seconds} s"),
                Some(seconds),
            ),
            Self::Unauthorized(reason) => {
                tracing::error!(%reason, "GitHub does not accept the credential: statuses wait until it is replaced");
                later(reason, repair())
            }
            Self::Forbidden(reason) => {
                tracing::error!(%reason, "the credential for GitHub lacks the repository or the permission deployments: write");
                later(reason, repair())
            }
            Self::Gone(reason) | Self::Refused(reason) => DeliveryError::Never(reason),
        }
    }
}

/// The seconds that GitHub asks to wait, if the answer is about a limit. A
/// limit is 429, or 403 that differs from a missing permission by its headers
/// or, for some secondary limits, by its words alone.
fn limit(answer: &Answer, said: &str, now: i64) -> Option<u64> {
    let status = answer.status;
    let retry_after = answer.number("retry-after");
    let reset = match answer.number("x-ratelimit-remaining") {
        Some(0) => answer.number("x-ratelimit-reset"),
        _ => None,
    };
    let until_reset = || {
        let now = u64::try_from(now).unwrap_or(0);
        // One second more: the reset is told in whole seconds.
        reset.map(|at| at.saturating_sub(now) + 1)
    };
    let in_words = said.to_ascii_lowercase().contains("rate limit");
    match status {
        StatusCode::TOO_MANY_REQUESTS => retry_after.or_else(until_reset).or(Some(LIMITED)),
        StatusCode::FORBIDDEN => match retry_after.or_else(until_reset) {
            None if in_words => Some(LIMITED),
            wait => wait,
        },
        StatusCode::SERVICE_UNAVAILABLE => retry_after,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    const NOW: i64 = 1_000_000;

    /// What becomes of an answer at the first attempt.
    fn check(status: u16, headers: &[(&'static str, &str)], body: &str, expected: &str) {
        let named = |(name, value): &(&'static str, &str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().map(named).collect::<HeaderMap>(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        let failure = Failure::of(&answer, "x", Missing::Access, NOW);
        let shown = match failure.into_delivery(1, Duration::from_secs(5)) {
            DeliveryError::Later {
                reason,
                after_seconds,
            } => format!("later {after_seconds:?}: {reason}"),
            DeliveryError::Never(reason) => format!("never: {reason}"),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_person_can_repair_a_credential() {
        check(
            401,
            &[],
            r#"{"message":"Bad credentials"}"#,
            "later Some(60): x: 401: Bad credentials",
        );
        check(
            404,
            &[],
            r#"{"message":"Not Found"}"#,
            "later Some(60): x: 404: Not Found",
        );
        let left = [
            ("x-ratelimit-remaining", "4999"),
            ("x-ratelimit-reset", "1000009"),
        ];
        let denied = r#"{"message":"Resource not accessible by integration"}"#;
        check(
            403,
            &left,
            denied,
            "later Some(60): x: 403: Resource not accessible by integration",
        );
    }

    #[test]
    fn a_limit_is_told_by_headers_or_words() {
        let used_up = |seconds: u64| {
            format!("later Some({seconds}): the rate limit is used up for {seconds} s")
        };
        check(403, &[("retry-after", "7")], "{}", &used_up(7));
        check(429, &[("retry-after", "7")], "{}", &used_up(7));
        check(429, &[], "{}", &used_up(60));
        let reset = |at| [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", at)];
        check(403, &reset("1000090"), "{}", &used_up(91));
        check(429, &reset("1000090"), "{}", &used_up(91));
        // The reset has passed already, or the clock is wrong by days.
        check(403, &reset("999000"), "{}", &used_up(1));
        check(403, &reset("9000000"), "{}", &used_up(7_200));
        check(
            403,
            &[],
            r#"{"message":"You have exceeded a secondary rate limit"}"#,
            &used_up(60),
        );
        check(503, &[("retry-after", "7")], "{}", &used_up(7));
    }

    #[test]
    fn an_ill_server_is_asked_again_and_a_refusal_is_not() {
        check(500, &[], "", "later None: x: 500:");
        check(
            502,
            &[],
            "<html>\nbad gateway</html>",
            "later None: x: 502: <html> bad gateway</html>",
        );
        check(
            202,
            &[],
            r#"{"message":"Auto-merged main"}"#,
            "later None: x: 202: Auto-merged main",
        );
        check(
            409,
            &[],
            r#"{"message":"Conflict"}"#,
            "never: x: 409: Conflict",
        );
        check(
            422,
            &[],
            r#"{"message":"No","errors":["a"]}"#,
            "never: x: 422: No; \"a\"",
        );
        let moved = "never: x: 301: Moved; the repository may have moved: configure its new name";
        check(301, &[], r#"{"message":"Moved"}"#, moved);
    }

    #[test]
    fn a_lost_answer_waits_until_lists_have_caught_up() {
        let lost = Failure::Lost("x".to_owned()).into_delivery(1, Duration::from_secs(5));
        assert!(matches!(
            lost,
            DeliveryError::Later {
                after_seconds: Some(5),
                ..
            }
        ));
    }
}
