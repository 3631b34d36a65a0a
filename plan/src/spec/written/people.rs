//! `[hooks]`, `[approval]`, `[supersede]`, `[windows]`, `[github]` and `[[notify]]` as they are written.

use schemars::JsonSchema;

use super::scalar::Time;

/// Containers of the new image that do one thing and end.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Hooks {
    /// Before its containers start: migrations.
    pub before_start: Option<Hook>,
    /// Once it is healthy, before it gets users: smoke tests.
    pub before_shift: Option<Hook>,
    /// Once it has users.
    pub after_shift: Option<Hook>,
    /// Once it has proved itself. Its failure changes nothing.
    pub after_success: Option<Hook>,
    /// Once all was taken back. Its failure changes nothing.
    pub on_failure: Option<Hook>,
}

/// One hook.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Hook {
    /// What the entry point gets, each word by itself; without an entry point it
    /// is what is run. Exit code 0 is success. After a crash of the agent it may
    /// run a second time. Plans and logs show it: secrets belong into `env_file`.
    #[schemars(extend("examples" = [["./migrate"]]), length(min = 1, max = 100), inner(length(min = 1, max = 16384)))]
    pub command: Vec<String>,
    /// How long it may take. From `1s` to `1h`.
    #[schemars(extend("default" = "5m"))]
    pub timeout: Option<Time>,
}

/// Where a deploy waits for a person.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Approval {
    /// Which move of users needs an approval.
    #[schemars(extend("default" = "shift"))]
    pub before: Option<Before>,
    /// How long the deploy waits. From `1m` to `168h`.
    #[schemars(extend("default" = "1h"))]
    pub deadline: Option<Time>,
    /// What happens then.
    #[schemars(extend("default" = "abort"))]
    pub on_timeout: Option<OnTimeout>,
}

/// Which move of users needs an approval.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum Before {
    /// The first.
    Shift,
    /// The last, which gives the release all users.
    Full,
}

/// What happens when nobody answers.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum OnTimeout {
    /// The deploy is taken back.
    Abort,
    /// It goes on.
    Promote,
}

/// What becomes of a deploy that is asked for while another one is under way.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Supersede {
    /// While the running one has sent nobody to its release.
    #[schemars(extend("default" = "supersede"))]
    pub before_shift: Option<Newcomer>,
    /// Once it has.
    #[schemars(extend("default" = "queue"))]
    pub after_shift: Option<Newcomer>,
}

/// What becomes of the newer one of two deploys.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum Newcomer {
    /// It waits for the end of the running one. One waits at the most: a still newer one takes its place.
    Queue,
    /// It takes the place of the running one, which is taken back first.
    Supersede,
    /// It is refused.
    Reject,
}

/// When deploys may begin.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Windows {
    /// Whose clocks are meant, by the name in the IANA database.
    #[schemars(extend("default" = "UTC"))]
    pub timezone: Option<String>,
    /// The only spans in which deploys begin: days of the week with or without
    /// times, or dates. Without any it is always, but for `deny`.
    #[schemars(extend("default" = []), extend("examples" = [["mon-thu 09:00-17:00"]]), length(max = 100))]
    pub allow: Option<Vec<String>>,
    /// Spans in which none begins, whatever `allow` says.
    #[schemars(extend("default" = []), extend("examples" = [["fri 17:00-24:00", "2026-12-24..2026-12-26"]]), length(max = 100))]
    pub deny: Option<Vec<String>>,
}

/// Where deploys are reported.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Github {
    /// The repository, as `owner/name`.
    #[schemars(extend("examples" = ["acme/shop"]), regex(pattern = "^[A-Za-z0-9_-]+/[A-Za-z0-9_.-]+$"))]
    pub repository: String,
    /// The environment's name at GitHub.
    #[schemars(extend("default" = "production"), length(min = 1, max = 255))]
    pub environment: Option<String>,
    /// What `View deployment` opens. By default the first domain.
    #[schemars(extend("examples" = ["https://shop.example.com"]), regex(pattern = "^https?://"), length(max = 2048))]
    pub url: Option<String>,
}

/// A receiver of messages about ends of deploys.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Notify {
    /// What it understands.
    pub kind: NotifyKind,
    /// A file with its address, which begins with `https://`. Who knows the
    /// address may write there: it is a secret, and never logged.
    #[schemars(extend("examples" = ["/etc/cutover/slack.url"]), regex(pattern = "^/"), length(max = 4096))]
    pub url_file: String,
    /// A file with the secret that signs the messages to a `webhook`, which needs it.
    #[schemars(extend("examples" = ["/etc/cutover/webhook.secret"]), regex(pattern = "^/"), length(max = 4096))]
    pub secret_file: Option<String>,
    /// Which ends it is told of. By default all of them.
    #[schemars(extend("default" = [
        "promoted", "failed", "aborted", "superseded", "rolled_back", "no_verdict", "shadowed",
    ]), extend("examples" = [["failed", "rolled_back"]]), length(min = 1, max = 7))]
    pub on: Option<Vec<Ending>>,
}

/// What a receiver understands.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum NotifyKind {
    /// Signed JSON, as [Standard Webhooks](https://www.standardwebhooks.com) has it.
    Webhook,
    /// `{"text": …}`, as Slack and those that are like it take it.
    Slack,
}

/// How a deploy ends.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Ending {
    /// The release serves and has proved itself.
    Promoted,
    /// It did not make it, and no user saw it, or no better one was there.
    Failed,
    /// A person stopped it.
    Aborted,
    /// A newer deploy took its place.
    Superseded,
    /// It had users, was bad, and the one before serves again.
    RolledBack,
    /// There was too little data for a judgement.
    NoVerdict,
    /// It was compared on copies of requests, as was wanted.
    Shadowed,
}
