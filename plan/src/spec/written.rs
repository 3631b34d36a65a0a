//! An app's file as people write it: the keys of each table, for editors and
//! for the reference.
//!
//! Nothing is read through these types: [`parse()`](super::parse()) does that,
//! with better words for a mistake than a schema has. From them come
//! `docs/schema/app.schema.json`, which an editor completes and checks by, and
//! `docs/app.md`. A description is what a user reads; a default here is a
//! repetition of the reader's, and the tests hold the two together.

mod health;
mod page;
mod people;
mod run;
mod scalar;
mod strategy;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use serde_json::Value;

use scalar::{Size, Time};

/// What an app speaks at its port.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS that is not asked for first, as servers of gRPC have it.
    /// Clients may speak either version. The status of a gRPC call stands behind
    /// its answer, so the watch counts it as good; a `GET` of `[health]` is asked
    /// in HTTP/2, and `tcp` or `command` suit a server that knows no `GET`.
    H2c,
}

/// An app of Cutover: what runs, where it answers, how a new release takes over.
/// The file is `/etc/cutover/apps/NAME.toml`, where `NAME` is the app's name.
#[derive(JsonSchema)]
#[schemars(title = "app", deny_unknown_fields)]
pub struct AppFile {
    /// The only repository that the app may run, with its registry and without tag or digest.
    #[schemars(extend("examples" = ["ghcr.io/acme/shop"]), length(min = 3, max = 255))]
    pub image: String,
    /// The hosts it answers for, exactly as browsers send them, without port.
    /// `*` is every host that no other app takes.
    #[schemars(extend("examples" = [["shop.example.com"]]), length(min = 1, max = 100), inner(length(min = 1, max = 253)))]
    pub domains: Vec<String>,
    /// The part of the hosts' paths it answers for. It ends in a whole segment.
    #[schemars(extend("default" = "/"), regex(pattern = "^/"), length(max = 2048))]
    pub path_prefix: Option<String>,
    /// How a new release takes over from the old one.
    #[schemars(extend("default" = "blue-green"))]
    pub strategy: Option<strategy::Strategy>,
    /// How many containers a release has. The one that serves gets more or has
    /// fewer once the agent was restarted, without a call.
    #[schemars(extend("default" = 1), range(min = 1, max = 100))]
    pub replicas: Option<u16>,
    /// Where the app listens inside the container.
    #[schemars(extend("examples" = [8080]), range(min = 1, max = 65535))]
    pub port: u16,
    /// What it speaks there.
    #[schemars(extend("default" = "http1"))]
    pub protocol: Option<Protocol>,
    /// Variables set in the container. They win over `env_file`.
    #[schemars(extend("examples" = [{ "LOG_LEVEL": "info" }]))]
    pub env: Option<BTreeMap<String, String>>,
    /// A file of `NAME=value` lines on the host, read at each start: the place for secrets.
    #[schemars(extend("examples" = ["/etc/cutover/shop.env"]), regex(pattern = "^/"), length(max = 4096))]
    pub env_file: Option<String>,
    /// Folders of the host and named volumes, as `source:target` or `source:target:ro`.
    #[schemars(extend("default" = []), extend("examples" = [["shop-data:/data", "/srv/shop/theme:/theme:ro"]]), length(max = 100), inner(regex(pattern = "^[^:]+:/[^:]+(:ro)?$")))]
    pub volumes: Option<Vec<String>>,
    /// Memory in the place of folders, as `target` or `target:size`. Without a
    /// size it may take half of the host's memory.
    #[schemars(extend("default" = []), extend("examples" = [["/tmp:64MiB", "/run"]]), length(max = 100), inner(regex(pattern = "^/")))]
    pub tmpfs: Option<Vec<String>>,
    /// Who the app runs as in the container, by number or by a name of the image:
    /// `user` or `user:group`. By default the image's own.
    #[schemars(extend("examples" = ["1000:1000"]), regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$"))]
    pub user: Option<String>,
    /// Whether the container's own file system may not be written. Volumes and `tmpfs` still may.
    #[schemars(extend("default" = false))]
    pub read_only: Option<bool>,
    /// What the entry point gets, each word by itself. No shell reads it. By
    /// default the image's own; beside an `entrypoint` of the file, nothing.
    #[schemars(extend("examples" = [["serve", "--verbose"]]), length(min = 1, max = 100), inner(length(min = 1, max = 16384)))]
    pub command: Option<Vec<String>>,
    /// What is started in the container, each word by itself. By default the image's own.
    #[schemars(extend("examples" = [["/app/shop"]]), length(min = 1, max = 100), inner(length(min = 1, max = 16384)))]
    pub entrypoint: Option<Vec<String>>,
    /// Labels of the container. Names with dots stand in quotes. Those that
    /// begin with `cutover.`, or as Docker's own do, are refused.
    #[schemars(extend("examples" = [{ "com.example.team": "web" }]))]
    pub labels: Option<BTreeMap<String, String>>,
    /// What asks the app to end. By default the image's own, or `SIGTERM`.
    #[schemars(extend("examples" = ["SIGQUIT"]), extend("enum" = [
        "SIGABRT", "SIGALRM", "SIGHUP", "SIGINT", "SIGPWR", "SIGQUIT",
        "SIGRTMIN+3", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH",
    ]))]
    pub stop_signal: Option<String>,
    /// How long the app has from the stop signal to the kill. From `0s` to `10m`.
    #[schemars(extend("default" = "10s"))]
    pub stop_grace: Option<Time>,
    /// Networks of Docker that the container joins beside Cutover's own. They must be there already.
    #[schemars(extend("default" = []), extend("examples" = [["databases"]]), length(max = 20), inner(length(min = 1, max = 128)))]
    pub networks: Option<Vec<String>>,
    /// Names that the container resolves by itself, as `name:address`.
    /// The address `host-gateway` is the host that it runs on.
    #[schemars(extend("default" = []), extend("examples" = [["db:10.0.0.5", "host:host-gateway"]]), length(max = 100), inner(regex(pattern = "^[^:]+:.+$")))]
    pub extra_hosts: Option<Vec<String>>,
    /// How long open requests of the release that leaves are waited for. From `0s` to `1h`.
    #[schemars(extend("default" = "30s"))]
    pub drain_deadline: Option<Time>,
    /// How long a deploy may go without getting further, before it is taken back.
    /// Watches and waits for a person do not count. From `1m` to `24h`, and
    /// longer than every other wait of the file.
    #[schemars(extend("default" = "30m"))]
    pub progress_deadline: Option<Time>,
    /// How long `red-black` keeps the old release warm. From `0s`, not at all, to `168h`.
    #[schemars(extend("default" = "10m"))]
    pub standby: Option<Time>,
    /// What a container may take of the host. Without a key there is no limit.
    pub limits: Option<run::Limits>,
    /// How much of a container's output is kept.
    pub logging: Option<run::Logging>,
    /// When a container may get requests.
    pub health: Option<health::Health>,
    /// When a release that gets requests is bad.
    pub watch: Option<health::Watch>,
    /// The stages of the strategy `canary`, and who takes part in them.
    pub canary: Option<strategy::Canary>,
    /// How the strategy `rolling` replaces containers.
    pub rolling: Option<strategy::Rolling>,
    /// How the strategy `in-place` holds requests while the old release makes room.
    pub in_place: Option<strategy::InPlace>,
    /// How the strategy `shadow` compares on copies of requests.
    pub shadow: Option<strategy::Shadow>,
    /// Who reaches a new release before its users. Without the table nobody does.
    pub preview: Option<strategy::Preview>,
    /// Containers of the new image that do one thing and end: migrations, smoke
    /// tests, messages. They get what the app's containers get, but no requests.
    pub hooks: Option<people::Hooks>,
    /// Where a deploy waits for a person. Without the table it does not.
    pub approval: Option<people::Approval>,
    /// What becomes of a deploy that is asked for while another one is under way.
    pub supersede: Option<people::Supersede>,
    /// When deploys may begin and move users. One that is overtaken by a closed
    /// window is taken back; a rollback never waits. Without
    /// the table they begin at any time.
    pub windows: Option<people::Windows>,
    /// Where deploys are reported. Without the table they are not.
    pub github: Option<people::Github>,
    /// Who else is told how deploys end. Those of the host's file are told, too.
    #[schemars(extend("default" = []), length(max = 10))]
    pub notify: Option<Vec<people::Notify>>,
}

/// The schema of an app's file, as JSON Schema of draft 7: that is what the
/// editors' TOML plug-ins read.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<AppFile>();
    RecursiveTransform(plain).transform(&mut schema);
    schema.to_value()
}

/// The schema as its file has it.
pub fn schema_text() -> String {
    format!("{:#}\n", schema())
}

/// The reference of an app's file, in Markdown.
pub fn page() -> String {
    page::render(&schema())
}

/// Takes out what the types say and TOML does not have: an absent key is no
/// `null`, and numbers have no formats. Line breaks of a comment are no breaks.
fn plain(schema: &mut schemars::Schema) {
    schema.remove("format");
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let Some(Value::Array(mut choices)) = schema.remove("anyOf") else {
        return;
    };
    choices.retain(|choice| choice.get("type") != Some(&Value::from("null")));
    match choices.as_slice() {
        // What stands outside is said of the key, and wins over what is said of its type.
        [Value::Object(only)] => {
            for (name, value) in only.clone() {
                if schema.get(&name).is_none() {
                    schema.insert(name, value);
                }
            }
        }
        _ => {
            schema.insert("anyOf".to_owned(), Value::Array(choices));
        }
    }
}

#[cfg(test)]
mod tests;
