//! The strategies and their tables as they are written.

use schemars::JsonSchema;

use super::scalar::{Percentage, Time};

/// How a new release takes over from the old one.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum Strategy {
    /// It starts beside the old one, gets all users at once and is watched; the old one stays warm.
    BlueGreen,
    /// The same, but the old one goes after `standby`.
    RedBlack,
    /// It gets users in stages, and is judged against the old one at each.
    Canary,
    /// Its containers take the places of the old ones a few at a time.
    Rolling,
    /// Requests are held while the old one ends and the new one starts: for hosts without room for two.
    InPlace,
    /// It gets copies of requests first, whose answers nobody sees.
    Shadow,
}

/// The stages of a canary, and who takes part in them.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Canary {
    /// The share of clients at each stage, in percent with at most two decimals,
    /// rising to 100. A first weight of 0 is for those whom a rule sends.
    #[schemars(extend("default" = [5, 25, 50, 100]), length(min = 2, max = 20), inner(range(min = 0, max = 100)))]
    pub weights: Option<Vec<f64>>,
    /// How long each stage before the last is watched. From `1s` to `24h`.
    #[schemars(extend("default" = "2m"))]
    pub bake: Option<Time>,
    /// What keeps a client where it is: a `cookie` of the proxy, its `address`,
    /// a header that it sends (`header:NAME`), or `none`.
    #[schemars(extend("default" = "cookie"), regex(pattern = "^(none|cookie|address|header:.+)$"))]
    pub affinity: Option<String>,
    /// Whether clients of the old release stay there until its end.
    #[schemars(extend("default" = false))]
    pub new_sessions_only: Option<bool>,
    /// Clients that go to the new release whatever the weight: those of any of the rules.
    #[schemars(extend("default" = []), length(max = 20))]
    pub rules: Option<Vec<Rule>>,
}

/// Clients that go to the new release: one condition written flat, or several
/// under `all`, which must all hold.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [
    { "required": ["all"], "maxProperties": 1 },
    { "required": ["header"], "minProperties": 2, "maxProperties": 2 },
    { "required": ["cookie"], "minProperties": 2, "maxProperties": 2 },
]))]
pub struct Rule {
    /// Several conditions.
    #[schemars(length(min = 1, max = 10))]
    pub all: Option<Vec<Condition>>,
    /// A header by its name.
    #[schemars(extend("examples" = ["x-beta"]), length(min = 1, max = 100))]
    pub header: Option<String>,
    /// A cookie by its name.
    #[schemars(extend("examples" = ["beta"]), length(min = 1, max = 100))]
    pub cookie: Option<String>,
    /// It is this.
    #[schemars(extend("examples" = ["yes"]), length(min = 1, max = 500))]
    pub equals: Option<String>,
    /// It begins so.
    #[schemars(extend("examples" = ["internal-"]), length(min = 1, max = 500))]
    pub starts_with: Option<String>,
    /// A regular expression finds something in it.
    #[schemars(extend("examples" = ["^v[2-9]"]), length(min = 1, max = 500))]
    pub matches: Option<String>,
}

/// Something that a request has.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("minProperties" = 2, "maxProperties" = 2, "oneOf" = [
    { "required": ["header"] },
    { "required": ["cookie"] },
]))]
pub struct Condition {
    /// A header by its name.
    #[schemars(extend("examples" = ["x-beta"]), length(min = 1, max = 100))]
    pub header: Option<String>,
    /// A cookie by its name.
    #[schemars(extend("examples" = ["beta"]), length(min = 1, max = 100))]
    pub cookie: Option<String>,
    /// It is this.
    #[schemars(extend("examples" = ["yes"]), length(min = 1, max = 500))]
    pub equals: Option<String>,
    /// It begins so.
    #[schemars(extend("examples" = ["internal-"]), length(min = 1, max = 500))]
    pub starts_with: Option<String>,
    /// A regular expression finds something in it.
    #[schemars(extend("examples" = ["^v[2-9]"]), length(min = 1, max = 500))]
    pub matches: Option<String>,
}

/// How containers are replaced.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Rolling {
    /// How many at a time, at most all of `replicas`.
    #[schemars(extend("default" = 1), range(min = 1, max = 100))]
    pub batch: Option<u16>,
    /// How long each batch before the last is watched. From `0s`, not at all, to `24h`.
    #[schemars(extend("default" = "0s"))]
    pub bake: Option<Time>,
}

/// How requests are held while the old release makes room.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct InPlace {
    /// How many are held at the most.
    #[schemars(extend("default" = 1000), range(min = 1, max = 100_000))]
    pub park_requests: Option<u32>,
    /// How long one is held at the most. From `1s` to `10m`.
    #[schemars(extend("default" = "30s"))]
    pub park_deadline: Option<Time>,
}

/// How copies of requests are compared.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Shadow {
    /// Of the safe requests, how many are copied.
    #[schemars(extend("default" = "100%"))]
    pub share: Option<Percentage>,
    /// How long. From `1s` to `24h`.
    #[schemars(extend("default" = "5m"))]
    pub window: Option<Time>,
    /// What follows a good comparison.
    #[schemars(extend("default" = "continue"))]
    pub then: Option<Then>,
}

/// What follows a good comparison.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum Then {
    /// The release takes over as `blue-green` does it.
    Continue,
    /// It goes: only the comparison was wanted.
    Stop,
}

/// Who reaches a new release before its users.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Preview {
    /// The header that they send.
    #[schemars(extend("default" = "cutover-preview"), length(min = 1, max = 100))]
    pub header: Option<String>,
    /// A file on the host whose first line is the value of the header.
    #[schemars(extend("examples" = ["/etc/cutover/shop.preview"]), regex(pattern = "^/"), length(max = 4096))]
    pub secret_file: String,
}
