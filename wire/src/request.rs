//! What a caller asks of the agent: the bodies of signed calls.
//!
//! A body names an app and brings a digest; it brings no host, path, command
//! or URL that the agent would use. Every text in it has a limit.

use std::fmt;

use cutover_plan::id::{AppName, DeployId, ImageReference};
use serde::{Deserialize, Serialize};

/// The largest body of a call in bytes; a deploy request has a few hundred.
pub const MAX_BODY: usize = 64 * 1024;

/// The longest text in a request: URLs of workflow runs have about a hundred.
const MAX_TEXT: usize = 500;

/// Deploys of a history where nobody says how many: what fits on a screen.
pub const HISTORY: u32 = 20;
/// Deploys of a history at the most: as many of an app as a host keeps at the least.
pub const MAX_HISTORY: u32 = 100;

/// `POST /v1/deploys`: bring an app to a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The app.
    pub app: AppName,
    /// What is wanted.
    pub change: Change,
    /// Where the call comes from.
    #[serde(default)]
    pub source: Source,
    /// Why the deploy is to begin although a deploy window is closed; who says
    /// so is the source's actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_override: Option<WindowOverride>,
    /// What the registry asks for, used for this pull only and never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryCredentials>,
}

/// A closed deploy window is not to hold this deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowOverride {
    /// Why, in a sentence that is kept and shown.
    pub why: String,
}

/// What is wanted of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// This image.
    Deploy {
        /// Pinned by digest.
        image: ImageReference,
    },
    /// The last release that proved itself.
    Rollback {},
}

/// Where a call comes from; only shown and reported, never trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The commit that the image was built of: the pull request's head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// Where the workflow run can be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_url: Option<String>,
}

/// A user and a password of the registry. They cannot be printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryCredentials {
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: String,
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryCredentials(…)")
    }
}

/// `POST /v1/queries`: a question that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Query {
    /// Are we talking? Answered with [`crate::agent::Welcome`].
    Verify {},
    /// What serves? Answered with [`crate::agent::AppView`]s.
    Status {
        /// One app, or all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<AppName>,
    },
    /// What would a deploy do? Answered with [`crate::agent::PlanView`].
    Plan {
        /// The app.
        app: AppName,
        /// What would be wanted.
        change: Change,
    },
    /// What was deployed? Answered with [`crate::agent::DeployView`]s, newest
    /// first and without the lines of the app.
    History {
        /// One app, or all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<AppName>,
        /// How many, at most [`MAX_HISTORY`]; [`HISTORY`] when not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
}

impl Query {
    /// The first mistake that the types do not catch, as a sentence.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::History { limit, .. } => limit.and_then(beyond),
            Self::Verify {} | Self::Status { .. } | Self::Plan { .. } => None,
        }
    }
}

/// What keeps a number of deploys from being told.
fn beyond(limit: u32) -> Option<String> {
    let sane = (1..=MAX_HISTORY).contains(&limit);
    (!sane).then(|| format!("limit is {limit}, it must be from 1 to {MAX_HISTORY}"))
}

/// `POST /v1/deploys/{id}/abort`, where no capability token is at hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbortRequest {
    /// The deploy; must be the one of the path.
    pub abort: DeployId,
    /// Who aborts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// `POST /v1/deploys/{id}/approve`, `/reject` or `/promote`: what a person says to a
/// deploy that waits or bides its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRequest {
    /// The deploy; must be the one of the path.
    pub deploy: DeployId,
    /// What is said; must be the word of the path.
    pub decision: Decision,
    /// Who says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What a person says to a deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Decision {
    /// Yes to what it waits for.
    Approve {},
    /// No to what it waits for: it is taken back.
    Reject {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// Do not wait for the end of the watch or the approval.
    Promote {
        /// Whether to go to all users at once, and not to the next step only.
        #[serde(default)]
        full: bool,
    },
}

impl Decision {
    /// The last word of its path.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Approve {} => "approve",
            Self::Reject { .. } => "reject",
            Self::Promote { .. } => "promote",
        }
    }
}

impl DecisionRequest {
    /// The first mistake that the types do not catch, as a sentence.
    pub fn problem(&self) -> Option<String> {
        let why = match &self.decision {
            Decision::Reject { why } => why.as_ref(),
            Decision::Approve {} | Decision::Promote { .. } => None,
        };
        let why = why.and_then(|why| faulty("decision.reject.why", why));
        why.or_else(|| self.by.as_ref().and_then(|by| faulty("by", by)))
    }
}

impl DeployRequest {
    /// The first mistake that the types do not catch, as a sentence.
    pub fn problem(&self) -> Option<String> {
        let Source {
            actor,
            sha,
            run_url,
        } = &self.source;
        let texts = [("source.actor", actor), ("source.run_url", run_url)];
        for (place, text) in texts {
            if let Some(problem) = text.as_ref().and_then(|text| faulty(place, text)) {
                return Some(problem);
            }
        }
        let is_url = |text: &String| text.starts_with("https://") || text.starts_with("http://");
        if run_url.as_ref().is_some_and(|url| !is_url(url)) {
            return Some("source.run_url must begin with https://".to_owned());
        }
        if let Some(sha) = sha {
            let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if ![40, 64].contains(&sha.len()) || !sha.bytes().all(hex) {
                return Some(
                    "source.sha must be 40 or 64 lower-case hexadecimal digits".to_owned(),
                );
            }
        }
        if let Some(WindowOverride { why }) = &self.window_override {
            if why.trim().is_empty() {
                return Some("window_override.why must say why".to_owned());
            }
            if let Some(problem) = faulty("window_override.why", why) {
                return Some(problem);
            }
            if actor.as_ref().is_none_or(|actor| actor.trim().is_empty()) {
                return Some("window_override needs source.actor, who answers for it".to_owned());
            }
        }
        if let Some(RegistryCredentials { username, password }) = &self.registry {
            // Tokens of cloud registries have up to a few thousand bytes.
            if username.is_empty() || username.len() > MAX_TEXT || password.len() > 16 * 1024 {
                return Some(
                    "registry.username or registry.password has no sane length".to_owned(),
                );
            }
        }
        None
    }
}

impl AbortRequest {
    /// The first mistake that the types do not catch, as a sentence.
    pub fn problem(&self) -> Option<String> {
        self.by.as_ref().and_then(|by| faulty("by", by))
    }
}

/// What keeps a text from being kept and shown, as a sentence.
fn faulty(place: &str, text: &str) -> Option<String> {
    if text.len() > MAX_TEXT {
        let bytes = text.len();
        return Some(format!("{place} has {bytes} bytes, at most {MAX_TEXT}"));
    }
    let control = text.chars().any(char::is_control);
    control.then(|| format!("{place} has control characters"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn good() -> Value {
        json!({
            "app": "shop",
            "change": {"rollback": {}},
            "source": {
                "actor": "ada",
                "sha": "0".repeat(40),
                "run_url": "https://github.com/acme/shop/actions/runs/1",
            },
            "window_override": {"why": "the shop is down"},
            "registry": {"username": "ada", "password": "secret"},
        })
    }

    /// A sound request with one value changed, and what is said of it.
    fn check(place: &str, value: impl Into<Value>, expected: &str) {
        let mut request = good();
        *request.pointer_mut(place).unwrap() = value.into();
        let told = match serde_json::from_value::<DeployRequest>(request) {
            Ok(request) => request.problem().unwrap_or_else(|| "taken".to_owned()),
            Err(error) => error.to_string(),
        };
        assert!(told.contains(expected), "{place}: {told}");
    }

    #[test]
    fn every_text_has_its_limit() {
        check("/source/actor", "ada", "taken");
        check("/source/actor", "é".repeat(250), "taken");
        check(
            "/source/actor",
            "é".repeat(251),
            "source.actor has 502 bytes",
        );
        check("/source/actor", "a\nb", "source.actor has control");
        check("/source/actor", Value::Null, "needs source.actor");
        check("/source/actor", " ", "needs source.actor");
        check("/source/sha", "0".repeat(39), "source.sha must be");
        check("/source/sha", "A".repeat(40), "source.sha must be");
        check(
            "/source/run_url",
            "javascript:1",
            "must begin with https://",
        );
        check("/window_override/why", "x".repeat(500), "taken");
        check(
            "/window_override/why",
            "x".repeat(501),
            "window_override.why has 501",
        );
        check(
            "/window_override/why",
            "",
            "window_override.why must say why",
        );
        check(
            "/window_override/why",
            " ",
            "window_override.why must say why",
        );
        check(
            "/window_override/why",
            "a\u{1b}[2J",
            "window_override.why has control",
        );
        check("/window_override", Value::Null, "taken");
        check(
            "/window_override",
            json!({"why": "x", "until": 1}),
            "unknown field",
        );
        check("/registry/username", "", "no sane length");
        check(
            "/registry/password",
            "x".repeat(16 * 1024 + 1),
            "no sane length",
        );
        check("/app", "x".repeat(MAX_BODY), "app");
        check(
            "/change",
            json!({"rollback": {"to": "v1"}}),
            "unknown field",
        );
        check("/change", json!({"dance": {}}), "unknown variant");
    }

    #[test]
    fn a_request_of_an_older_program_is_read_and_ours_without_the_new_is_the_same() {
        let text = r#"{"app":"shop","change":{"rollback":{}},"source":{}}"#;
        let request: DeployRequest = serde_json::from_str(text).unwrap();
        assert_eq!(request.problem(), None);
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
    }

    #[test]
    fn who_aborts_has_a_limit_too() {
        let by = |by: &str| {
            let abort = json!({"abort": "0".repeat(26), "by": by});
            let Ok(abort) = serde_json::from_value::<AbortRequest>(abort) else {
                panic!("no abort request");
            };
            abort.problem()
        };
        assert_eq!(by("ada"), None);
        assert!(by(&"x".repeat(501)).unwrap().contains("501 bytes"));
        assert!(by("a\0").unwrap().contains("control"));
    }

    #[test]
    fn a_decision_is_a_word_with_what_belongs_to_it() {
        let check = |decision: Value, expected: &str| {
            let request = json!({"deploy": "0".repeat(26), "decision": decision, "by": "ada"});
            let told = match serde_json::from_value::<DecisionRequest>(request) {
                Ok(request) => match request.problem() {
                    Some(problem) => problem,
                    None => format!("{} {:?}", request.decision.name(), request.decision),
                },
                Err(error) => error.to_string(),
            };
            assert!(told.contains(expected), "{told}");
        };
        check(json!({"approve": {}}), "approve Approve");
        check(json!({"reject": {}}), "reject Reject { why: None }");
        check(
            json!({"reject": {"why": "x".repeat(501)}}),
            "why has 501 bytes",
        );
        check(
            json!({"promote": {"full": true}}),
            "promote Promote { full: true }",
        );
        check(json!({"promote": {}}), "full: false");
        check(json!({"promote": {"to": 50}}), "unknown field");
        check(json!({"abort": {}}), "unknown variant");
    }

    #[test]
    fn a_history_has_its_bounds() {
        let check = |history: Value, expected: &str| {
            let told = match serde_json::from_value::<Query>(json!({"history": history})) {
                Ok(query) => query.problem().unwrap_or_else(|| "taken".to_owned()),
                Err(error) => error.to_string(),
            };
            assert!(told.contains(expected), "{told}");
        };
        check(json!({}), "taken");
        check(json!({"app": "shop", "limit": 1}), "taken");
        check(json!({"limit": 100}), "taken");
        check(json!({"limit": 0}), "from 1 to 100");
        check(json!({"limit": 101}), "from 1 to 100");
        check(json!({"limit": -1}), "invalid value");
        check(json!({"until": 1}), "unknown field");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z_]{1,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn judge(body: &[u8]) {
        if let Ok(request) = serde_json::from_slice::<DeployRequest>(body) {
            request.problem();
        }
        if let Ok(abort) = serde_json::from_slice::<AbortRequest>(body) {
            abort.problem();
        }
        if let Ok(decision) = serde_json::from_slice::<DecisionRequest>(body) {
            decision.problem();
        }
        if let Ok(query) = serde_json::from_slice::<Query>(body) {
            query.problem();
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            judge(&bytes);
        }

        #[test]
        fn no_json_in_any_place_makes_a_panic(
            value in any_json(),
            place in prop::sample::select(vec![
                "", "/app", "/change", "/change/rollback", "/source", "/source/actor",
                "/source/sha", "/source/run_url", "/window_override", "/window_override/why",
                "/registry", "/registry/username", "/registry/password",
            ]),
        ) {
            let mut request = good();
            *request.pointer_mut(place).unwrap() = value;
            judge(&serde_json::to_vec(&request).unwrap());
        }
    }
}
