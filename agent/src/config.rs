//! The host's configuration: `agent.toml`, one file for each app, and the
//! files they name. Everything is read and checked before anything is begun,
//! and all mistakes are told at once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cutover_plan::id::AppName;
use cutover_plan::spec::reader::{self, Fault, Table, Value};
use cutover_plan::spec::{self, AppSpec, NotifySpec, PreviewSpec};
use cutover_wire::signature::Secret;

use crate::docker::{Docker, Keyring};
use crate::fingerprint;
use crate::github::Credentials;
use crate::github::Options as GithubOptions;
use crate::notify;

/// Where the configuration is, unless `--config` says otherwise.
pub const DEFAULT: &str = "/etc/cutover/agent.toml";

/// Apps of one host; as many as the routing table takes.
const MAX_APPS: usize = cutover_wire::table::MAX_APPS;

/// What the agent is told by its host.
pub struct Config {
    /// `listen`: where signed calls arrive; default `127.0.0.1:8420`.
    pub listen: SocketAddr,
    /// `secret_files`: any of these may sign a call; the first makes tokens.
    pub secrets: Arc<[Secret]>,
    /// `socket`: where calls of the host itself arrive.
    pub socket: PathBuf,
    /// `socket_group`: the number of the group that may use it.
    pub socket_group: Option<u32>,
    /// `metrics`: where figures are told, an address of the loopback; default nowhere.
    pub metrics: Option<SocketAddr>,
    /// `proxy_socket`: where the proxy listens to its agent.
    pub proxy_socket: PathBuf,
    /// `docker`: the engine, in the form of `DOCKER_HOST`.
    pub docker: Option<String>,
    /// `registry_config` and `registry_helpers`: what the host knows to say to registries.
    pub keyring: Keyring,
    /// `state`: the folder of the journal.
    pub state: PathBuf,
    /// `[history]`: what is remembered of deploys.
    pub history: History,
    /// `[github]`: where and as whom deploys are reported.
    pub github: Option<GithubOptions>,
    /// The apps; the receivers of the host's own `[[notify]]` are among those of each.
    pub apps: BTreeMap<AppName, AppSpec>,
}

/// What is remembered of deploys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// `deploys`: of each app, at the least; default 100.
    pub deploys: usize,
    /// `age`: younger ones are kept, however many; default 90 days.
    pub age: Duration,
}

/// The shortest time that calls are remembered: twice the tolerance of
/// signatures, so that none can be repeated after it was forgotten.
const SHORTEST_HISTORY: Duration = Duration::from_secs(2 * 300);
/// The longest file that is read: far more than any of them has to say.
const MAX_FILE: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// `agent.toml`, as it is written.
struct Written {
    listen: SocketAddr,
    secret_files: Vec<PathBuf>,
    apps: PathBuf,
    socket: PathBuf,
    socket_group: Option<u32>,
    metrics: Option<SocketAddr>,
    proxy_socket: PathBuf,
    docker: Option<String>,
    keyring: Keyring,
    state: PathBuf,
    history: History,
    github: Option<GithubOptions>,
    notify: Vec<NotifySpec>,
}

/// Reads the configuration, or tells every mistake in it, each as a line.
pub fn read(path: &Path) -> Result<Config, Vec<String>> {
    let mut mistakes = Vec::new();
    let text = read_text(path).map_err(|mistake| vec![mistake])?;
    let name = path.display().to_string();
    let written = reader::read(&name, &text, written);
    let written =
        written.map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let secrets = secrets(&written.secret_files, &mut mistakes);
    let mut apps = apps(&written.apps, &mut mistakes);
    tell_all(&mut apps, &written.notify);
    let previews = apps.values().filter_map(|spec| spec.preview.as_ref());
    mistakes.extend(previews.filter_map(|preview| preview_secret(preview).err()));
    check_receivers(&apps, &written.notify, &mut mistakes);
    check_claims(&apps, &mut mistakes);
    if let Some(github) = &written.github {
        check_credentials(&github.credentials, &mut mistakes);
    }
    let reported = apps.values().find(|spec| spec.github.is_some());
    if let (Some(spec), None) = (reported, &written.github) {
        let app = &spec.app;
        mistakes.push(format!(
            "{name}: apps/{app}.toml has [github], but there is no [github] here (hint: add token_file)"
        ));
    }
    if !mistakes.is_empty() {
        // Alone they are no reason not to start: the file changes while the agent runs.
        mistakes.extend(written.keyring.check());
        return Err(mistakes);
    }
    Ok(Config {
        listen: written.listen,
        secrets: secrets.into(),
        socket: written.socket,
        socket_group: written.socket_group,
        metrics: written.metrics,
        proxy_socket: written.proxy_socket,
        docker: written.docker,
        keyring: written.keyring,
        state: written.state,
        history: written.history,
        github: written.github,
        apps,
    })
}

/// Reads where the agent's socket is, and nothing of secrets or apps: whoever may
/// use the socket need not be able to read those.
pub fn read_socket(path: &Path) -> Result<PathBuf, Vec<String>> {
    let text = read_text(path).map_err(|mistake| vec![mistake])?;
    let read = reader::read(&path.display().to_string(), &text, written);
    let read = read.map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(read.socket)
}

fn written(root: &mut Table<'_>) -> Option<Written> {
    let path = |value: &Value<'_>| value.parse(absolute);
    let default = |text: &str| PathBuf::from(text);
    let listen = root.or_default("listen", SocketAddr::from(([127, 0, 0, 1], 8420)), |v| {
        v.parse(|text| address(text, "0.0.0.0:8420"))
    });
    let metrics = root.optional("metrics", |v| v.parse(loopback));
    let secret_files = root.required("secret_files", "[\"/etc/cutover/secret\"]", |v| {
        v.array(1..=10, path)
    });
    let apps = root.or_default("apps", default("/etc/cutover/apps"), path);
    let socket = root.or_default("socket", default("/run/cutover/agent.sock"), path);
    let socket_group = root.optional("socket_group", |v| v.integer(0..=u32::MAX));
    let proxy = root.or_default("proxy_socket", default("/run/cutover/proxy.sock"), path);
    let docker = root.optional("docker", |v| v.parse(engine));
    let registry_config = root.optional("registry_config", path);
    let registry_helpers = root.optional("registry_helpers", |v| v.array(1..=10, path));
    let state = root.or_default("state", default("/var/lib/cutover"), |v| v.parse(folder));
    let history = root.table("history", |history| {
        let deploys = history.or_default("deploys", 100, |v| v.integer(1..=100_000));
        let age = history.or_default("age", 90 * DAY, |v| {
            v.duration(SHORTEST_HISTORY..=3650 * DAY)
        });
        Some(History {
            deploys: deploys?,
            age: age?,
        })
    });
    let github = root.optional("github", |v| v.table(github));
    let notify = root.or_default("notify", Vec::new(), spec::read_notify);
    Some(Written {
        listen: listen?,
        secret_files: secret_files?,
        apps: apps?,
        socket: socket?,
        socket_group: socket_group?,
        metrics: metrics?,
        proxy_socket: proxy?,
        docker: docker?,
        keyring: keyring(registry_config?, registry_helpers?),
        state: state?,
        history: history?,
        github: github?,
        notify: notify?,
    })
}

/// A file that is named must be there; ours may be missed.
fn keyring(file: Option<PathBuf>, folders: Option<Vec<PathBuf>>) -> Keyring {
    let ours = Keyring::default();
    Keyring {
        is_required: file.is_some(),
        file: file.unwrap_or(ours.file),
        folders: folders.unwrap_or(ours.folders),
    }
}

fn github(table: &mut Table<'_>) -> Option<GithubOptions> {
    let path = |value: &Value<'_>| value.parse(absolute);
    let token_file = table.optional("token_file", path);
    let app_id = table.optional("app_id", |v| v.integer(1..=i64::MAX.unsigned_abs()));
    let key_file = table.optional("app_key_file", path);
    let api_url = table.or_default("api_url", GithubOptions::DOTCOM.to_owned(), |v| {
        v.parse(
            |text| match text.starts_with("https://") || text.starts_with("http://") {
                true => Ok(text.trim_end_matches('/').to_owned()),
                false => Err(Fault::new("is no URL").hint("it begins with https://")),
            },
        )
    });
    let credentials = match (token_file?, app_id?, key_file?) {
        (Some(file), None, None) => Some(Credentials::Token { file }),
        (None, Some(id), Some(key_file)) => Some(Credentials::App { id, key_file }),
        (None, None, None) => table.fault(
            "token_file",
            Fault::new("is missing").hint("or give app_id and app_key_file of a GitHub App"),
        ),
        (None, None, Some(_)) => table.fault("app_key_file", "needs app_id beside it"),
        (None, Some(_), None) => table.fault("app_id", "needs app_key_file beside it"),
        (Some(_), _, _) => table.fault("token_file", "and a GitHub App exclude each other"),
    };
    let mut options = GithubOptions::new(credentials?);
    options.api_url = api_url?;
    Some(options)
}

fn address(text: &str, example: &str) -> Result<SocketAddr, Fault> {
    let hint = format!("write an address and a port, for example {example:?}");
    let fault = Fault::new("is no address with a port").hint(hint);
    text.parse().map_err(|_| fault)
}

/// An address that nobody but this host reaches: what is told there is not signed.
fn loopback(text: &str) -> Result<SocketAddr, Fault> {
    let found = address(text, "127.0.0.1:8421")?;
    match found.ip().to_canonical().is_loopback() {
        true => Ok(found),
        false => Err(Fault::new("is no address of the loopback")
            .hint("whoever reaches it reads the names of all apps; let a monitor on this host read 127.0.0.1:8421")),
    }
}

fn absolute(text: &str) -> Result<PathBuf, Fault> {
    let path = PathBuf::from(text);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(Fault::new("is no absolute path").hint("begin it with /")),
    }
}

/// A folder that is there, or can be made.
fn folder(text: &str) -> Result<PathBuf, Fault> {
    let path = absolute(text)?;
    match fs::metadata(&path) {
        Ok(found) if !found.is_dir() => {
            Err(Fault::new("is no folder").hint("name the folder that the journal is in"))
        }
        // What keeps the agent out of it, the journal tells when it is opened.
        _ => Ok(path),
    }
}

fn engine(text: &str) -> Result<String, Fault> {
    match Docker::connect(Some(text)) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Fault::new("is no address of a container engine")
            .hint("write unix:///path/to/docker.sock or tcp://127.0.0.1:2375")),
    }
}

/// Reads a file that is not longer than [`MAX_FILE`]: some never end.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    let name = path.display();
    let unreadable = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::IsADirectory => " (hint: it is a folder, name a file)",
            io::ErrorKind::NotFound => " (hint: make it, or correct the path)",
            io::ErrorKind::PermissionDenied => {
                " (hint: the user whom the agent runs as must be able to read it)"
            }
            _ => "",
        };
        format!("{name}: cannot be read: {error}{hint}")
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!(
            "{name}: is longer than 1 MiB (hint: is it the right file?)"
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to();
        format!(
            "{name}: byte {byte} is not UTF-8 (hint: save it as UTF-8 text; a secret as what openssl rand -base64 32 prints)"
        )
    })
}

/// The secret of the preview: the first line of its file.
pub(crate) fn preview_secret(spec: &PreviewSpec) -> Result<String, String> {
    let text = read_text(Path::new(&spec.secret_file))?;
    let secret = text.lines().next().unwrap_or_default().trim();
    match secret.is_empty() {
        true => Err(format!(
            "{}: has no secret in its first line (hint: write one with: openssl rand -base64 32)",
            spec.secret_file
        )),
        false => Ok(secret.to_owned()),
    }
}

fn secrets(files: &[PathBuf], mistakes: &mut Vec<String>) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for file in files {
        let secret = read_text(file).and_then(|text| {
            let hint = "hint: write one with: openssl rand -base64 32";
            Secret::parse(&text).map_err(|error| format!("{}: {error} ({hint})", file.display()))
        });
        match secret {
            Ok(secret) => secrets.push(secret),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    secrets
}

fn apps(folder: &Path, mistakes: &mut Vec<String>) -> BTreeMap<AppName, AppSpec> {
    let mut apps = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            mistakes.push(format!("{}: cannot be read: {error}", folder.display()));
            return apps;
        }
    };
    let mut files: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "toml")
    });
    files.sort();
    if files.len() > MAX_APPS {
        let (found, folder) = (files.len(), folder.display());
        mistakes.push(format!("{folder}: {found} apps, at most {MAX_APPS}"));
    }
    for file in files {
        let name = file.display().to_string();
        let stem = file
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        let text = match read_text(&file) {
            Ok(text) => text,
            Err(mistake) => {
                mistakes.push(mistake);
                continue;
            }
        };
        match spec::parse(&name, &stem.unwrap_or_default(), &text) {
            Ok(spec) => {
                if let Err(error) = fingerprint::environment(&spec.run) {
                    mistakes.push(format!("{name}: {error}"));
                }
                apps.insert(spec.app.clone(), spec);
            }
            Err(found) => mistakes.extend(found.iter().map(ToString::to_string)),
        }
    }
    apps
}

/// Two apps that claim the same host and path would take each other's users.
fn check_claims(apps: &BTreeMap<AppName, AppSpec>, mistakes: &mut Vec<String>) {
    let mut claims = BTreeMap::new();
    for spec in apps.values() {
        for domain in &spec.domains {
            let claim = (domain, &spec.path_prefix);
            if let Some(other) = claims.insert(claim, &spec.app) {
                let (app, prefix) = (&spec.app, &spec.path_prefix);
                mistakes.push(format!(
                    "apps/{app}.toml: {domain}{prefix} is already taken by apps/{other}.toml (hint: give one of them another domain or path_prefix)"
                ));
            }
        }
    }
}

/// What the host tells its receivers, it tells them of every app. An app that
/// names one of them itself says of which ends.
fn tell_all(apps: &mut BTreeMap<AppName, AppSpec>, notify: &[NotifySpec]) {
    for spec in apps.values_mut() {
        let named: Vec<_> = spec.notify.iter().map(NotifySpec::name).collect();
        let others = notify.iter().filter(|one| !named.contains(&one.name()));
        spec.notify.extend(others.cloned());
    }
}

fn check_receivers(
    apps: &BTreeMap<AppName, AppSpec>,
    notify: &[NotifySpec],
    mistakes: &mut Vec<String>,
) {
    let all = apps.values().flat_map(|spec| &spec.notify).chain(notify);
    let mut known: BTreeMap<String, &NotifySpec> = BTreeMap::new();
    for receiver in all {
        let first = *known.entry(receiver.name()).or_insert_with(|| {
            mistakes.extend(notify::check(receiver));
            receiver
        });
        if first.secret_file != receiver.secret_file {
            mistakes.push(format!(
                "[[notify]] of {} has two secret_files (hint: a receiver has one secret, whatever app tells it)",
                receiver.url_file
            ));
        }
    }
}

fn check_credentials(credentials: &Credentials, mistakes: &mut Vec<String>) {
    let (file, is_key) = match credentials {
        Credentials::Token { file } => (file, false),
        Credentials::App { key_file, .. } => (key_file, true),
    };
    match read_text(file) {
        Ok(text) if text.trim().is_empty() => {
            mistakes.push(format!("{}: is empty", file.display()));
        }
        Ok(text) if is_key && !is_private_key(&text) => mistakes.push(format!(
            "{}: is no private key (hint: it is the .pem file that GitHub gives for the App, with -----BEGIN RSA PRIVATE KEY----- in its first line)",
            file.display()
        )),
        Ok(_) => {}
        Err(mistake) => mistakes.push(mistake),
    }
}

/// Whether a text looks like a key in PEM; whether it is one, its use tells.
fn is_private_key(text: &str) -> bool {
    let marked = |line: &str, mark: &str| {
        let rest = line.trim().strip_prefix(mark);
        rest.is_some_and(|kind| kind.ends_with("PRIVATE KEY-----"))
    };
    let mut lines = text.lines();
    lines.any(|line| marked(line, "-----BEGIN ")) && lines.any(|line| marked(line, "-----END "))
}

#[cfg(test)]
mod tests;
