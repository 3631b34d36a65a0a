//! What is secret stays where it was put: after deploys of every kind, good, bad and
//! refused, none of the secrets stands in anything that Cutover wrote, said or
//! passed on. And it starts no program, so nothing is ever given to a shell.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cutover_tests::github::GithubModel;
use cutover_tests::host::docker;
use cutover_tests::image;
use cutover_tests::load::Kind;
use cutover_tests::rig::{Ran, Rig, SECRET, Setup, TABLES};
use cutover_tests::wait::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const DEADLINE: Duration = Duration::from_secs(60);

const APP: &str = "discreet";

/// In the app's own environment, and nowhere else.
const OF_THE_APP: &str = "secret-of-the-env-file-4b1d";

/// All others are nowhere at all, but in the files of the host.
const REGISTRY: &str = "secret-of-the-registry-93ac";
const WEBHOOK: &str = "secret-of-the-webhook-key-7e20";
const ADDRESS: &str = "secret-of-the-address-c58f";
const PREVIEW: &str = "secret-of-the-preview-2f6b";
const CALLER: &str = "secret-of-another-caller-d417";

/// The texts that a secret may be written as.
struct Secret(Vec<Vec<u8>>);

impl Secret {
    /// As it is, and what base64 makes of it wherever it stands in what is encoded.
    fn new(secret: &str) -> Self {
        let mut forms = vec![secret.as_bytes().to_vec()];
        for before in 0..3 {
            let encoded = STANDARD.encode([&vec![b'x'; before], secret.as_bytes()].concat());
            // The ends depend on the neighbours.
            let inner = encoded.as_bytes();
            forms.push(inner[4..inner.len() - 4].to_vec());
        }
        Self(forms)
    }

    fn is_in(&self, text: &[u8]) -> bool {
        let has = |form: &Vec<u8>| text.windows(form.len()).any(|part| part == form);
        self.0.iter().any(has)
    }
}

/// Everything that was written or said, by where.
#[derive(Default)]
struct Said(BTreeMap<String, Vec<u8>>);

impl Said {
    fn add(&mut self, place: impl Into<String>, text: impl Into<Vec<u8>>) {
        let text = text.into();
        self.0.entry(place.into()).or_default().extend(text);
    }

    fn ran(&mut self, what: &str, ran: &Ran) {
        self.add(format!("the command line: {what}"), ran.text.clone());
    }

    /// All files below a folder but those that hold the secrets.
    fn files(&mut self, folder: &Path, but: &[PathBuf]) -> anyhow::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.files(&path, but)?;
            } else if path.is_file() && !but.contains(&path) {
                self.add(path.display().to_string(), fs::read(&path)?);
            }
        }
        Ok(())
    }

    fn process(&mut self, name: &str, pid: u32) -> anyhow::Result<()> {
        for part in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{part}"))?;
            self.add(format!("the {part} of {name}"), text);
        }
        Ok(())
    }

    fn programs(&mut self, rig: &Rig) -> anyhow::Result<()> {
        let agent = rig.agent().context("no agent runs")?;
        let proxy = rig.proxy().context("no proxy runs")?;
        for (name, process) in [("the agent", agent), ("the proxy", proxy)] {
            self.add(format!("the log of {name}"), process.log());
            self.process(name, process.pid())?;
        }
        Ok(())
    }

    fn says(&self, secret: &Secret) -> Vec<&str> {
        let places = self.0.iter().filter(|(_, text)| secret.is_in(text));
        places.map(|(place, _)| place.as_str()).collect()
    }
}

/// The files of the host that hold the secrets.
fn write_secrets(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let key = format!("whsec_{}", STANDARD.encode(WEBHOOK));
    let files = [
        ("env", format!("DATABASE_PASSWORD={OF_THE_APP}\n")),
        ("key", key),
        // Nobody listens there.
        ("webhook.url", format!("https://127.0.0.1:9/{ADDRESS}")),
        ("slack.url", format!("https://127.0.0.1:9/{ADDRESS}")),
        ("preview", PREVIEW.to_owned()),
    ];
    let mut paths = Vec::new();
    for (name, text) in files {
        let path = folder.join(format!("{APP}.{name}"));
        fs::write(&path, text)?;
        paths.push(path);
    }
    Ok(paths)
}

fn setup(folder: &Path, github: &GithubModel) -> Setup {
    let file = |name: &str| format!("{}/{APP}.{name}", folder.display());
    let tables = format!(
        "[[notify]]\nkind = \"webhook\"\nurl_file = \"{}\"\nsecret_file = \"{}\"\n\
         [[notify]]\nkind = \"slack\"\nurl_file = \"{}\"\n\
         [preview]\nsecret_file = \"{}\"\n\
         [hooks.before_start]\ncommand = [\"migrate\"]\n",
        file("webhook.url"),
        file("key"),
        file("slack.url"),
        file("preview"),
    );
    Setup {
        app_top: format!("env_file = \"{}\"\n", file("env")),
        app_tables: Some(format!(
            "{}{tables}",
            TABLES.replace("deadline = \"20s\"", "deadline = \"3s\"")
        )),
        github: Some(github.url()),
        ..Setup::default()
    }
}

/// What stands at a path of the agent's socket.
async fn page(rig: &Rig, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(rig.folder.join("agent.sock")).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{path} is not there");
    Ok(answer)
}

/// What is seen of a container from outside, by whether it is the app's own.
async fn look_into(said: &mut Said, container: &str) -> anyhow::Result<Vec<u8>> {
    let all = docker(&["inspect", container]).await?;
    let own = docker(&["inspect", "--format", "{{.Config.Env}}", container]).await?;
    // Its environment is the one place where its own secrets are.
    let named = "{{json .Config.Labels}} {{json .Config.Cmd}} {{json .Config.Entrypoint}}";
    said.add(
        format!("the labels and command of {container}"),
        docker(&["inspect", "--format", named, container]).await?,
    );
    let others = all.replace(OF_THE_APP, "");
    said.add(format!("the engine's view of {container}"), others);
    said.add(
        format!("the output of {container}"),
        docker(&["logs", container]).await?,
    );
    Ok(own.into_bytes())
}

#[tokio::test]
async fn no_secret_is_in_anything_that_is_written_said_or_passed_on() -> anyhow::Result<()> {
    let github = GithubModel::start(&[&format!("acme/{APP}")]).await?;
    let mut rig = Rig::start(APP, &Setup::default()).await?;
    let mut files = write_secrets(&rig.folder)?;
    files.extend([rig.folder.join("secret"), rig.folder.join("token")]);
    let mut said = Said::default();
    let one = image::build(APP, &[("VERSION", "1")]).await?;
    let two = image::build(APP, &[("VERSION", "2")]).await?;
    let ill = image::build(APP, &[("VERSION", "3"), ("UNHEALTHY", "no database")]).await?;
    let fails = image::build(APP, &[("VERSION", "4"), ("ERROR_RATE", "1")]).await?;
    let hook = [("VERSION", "5"), ("HOOK_TAKES_S", "3"), ("HOOK_EXIT", "3")];
    let hook = image::build(APP, &hook).await?;
    let mut unknown = one.clone();
    unknown.digest = format!("sha256:{}", "5".repeat(64));

    rig.kill_agent().await?;
    rig.configure(&setup(&rig.folder, &github))?;
    rig.agent_environment = vec![("CUTOVER_LOG", "info,cutover_agent=trace")];
    rig.start_agent().await?;
    let deploy = async |rig: &Rig, image: &image::Image, code: i32| -> anyhow::Result<Ran> {
        let reference = image.reference();
        let arguments = ["deploy", "--app", APP, "--image", &reference];
        let mut command = rig.cutover(&[&arguments[..], &["--format", "json"]].concat())?;
        command
            .env("CUTOVER_REGISTRY_USERNAME", "robot")
            .env("CUTOVER_REGISTRY_PASSWORD", REGISTRY);
        let ran = Ran::from(command.output().await?);
        ensure!(ran.code == code, "{reference}: {}: {}", ran.code, ran.text);
        Ok(ran)
    };
    said.ran("a first deploy", &deploy(&rig, &one, 0).await?);
    let load = rig.load()?.users(Kind::KeepAlive, 2).start()?;
    load.more_ok(50, DEADLINE).await?;
    said.ran("a good deploy", &deploy(&rig, &two, 0).await?);
    said.ran("a bad deploy", &deploy(&rig, &ill, 1).await?);
    said.ran("no such image", &deploy(&rig, &unknown, 1).await?);

    // From here on its log is for programs.
    said.programs(&rig)?;
    rig.kill_agent().await?;
    rig.agent_environment.push(("CUTOVER_LOG_FORMAT", "json"));
    rig.start_agent().await?;
    said.ran("bad for users", &deploy(&rig, &fails, 3).await?);
    let arguments = ["deploy", "--app", APP, "--image", &hook.reference()];
    let following = rig.begin(&arguments)?;
    let of_hook = eventually("the hook runs", DEADLINE, async || {
        let name = format!("cutover-{APP}-v6-before_start");
        let own = look_into(&mut said, &name).await?;
        let pid = docker(&["inspect", "--format", "{{.State.Pid}}", &name]).await?;
        let pid: u32 = pid.parse()?;
        ensure!(pid > 0, "it does not");
        said.add(
            "the cmdline of the hook",
            fs::read(format!("/proc/{pid}/cmdline"))?,
        );
        anyhow::Ok([own, fs::read(format!("/proc/{pid}/environ"))?])
    })
    .await?;
    said.ran("a hook that fails", &following.await??);
    let rollback = rig.run(&["rollback", "--app", APP]).await?;
    ensure!(rollback.code == 0, "{}", rollback.text);
    said.ran("a rollback", &rollback);
    let mut stranger = rig.cutover(&arguments)?;
    stranger.env(
        "CUTOVER_SECRET",
        format!("whsec_{}", STANDARD.encode(CALLER)),
    );
    let ran = Ran::from(stranger.output().await?);
    ensure!(ran.code == 4, "{}: {}", ran.code, ran.text);
    said.ran("a caller with another secret", &ran);
    load.stop().await?;

    let reference = one.reference();
    for arguments in [
        &["status", "--format", "json"][..],
        &["status"],
        &["history", "--app", APP],
        &["history", "--app", APP, "--format", "json"],
        &["plan", "--app", APP, "--image", &reference],
    ] {
        let ran = rig.run(arguments).await?;
        ensure!(ran.code == 0, "{arguments:?}: {}", ran.text);
        said.ran(&arguments.join(" "), &ran);
    }
    said.add("the figures", page(&rig, "/metrics").await?);
    let table = serde_json::to_vec(&rig.table().await?)?;
    said.add("the table", table);
    let mut own = Vec::from(of_hook);
    for container in rig.containers().await? {
        own.push(look_into(&mut said, &container).await?);
    }
    said.programs(&rig)?;
    said.files(&rig.folder, &files)?;

    // It was looked at in the right places, and what is there is found.
    let digest = Secret::new("cutover-discreet-v2-0");
    let known = said.says(&digest);
    for place in ["the log of the agent", "agent.db", "proxy", "the table"] {
        let found = known.iter().any(|one| one.contains(place));
        assert!(found, "{place}: {known:#?}");
    }
    let of_the_app = Secret::new(OF_THE_APP);
    assert!(
        own.iter().all(|text| of_the_app.is_in(text)),
        "not passed on"
    );
    for part in ["the log of the agent", "the engine's view", "the output of"] {
        let there = said.0.keys().any(|place| place.contains(part));
        assert!(there, "{part} was not looked at");
    }

    let decoded = "0123456789abcdef0123456789abcdef";
    for name in [
        OF_THE_APP,
        REGISTRY,
        WEBHOOK,
        ADDRESS,
        PREVIEW,
        CALLER,
        GithubModel::TOKEN,
        SECRET,
        decoded,
    ] {
        let secret = Secret::new(name);
        assert_eq!(said.says(&secret), Vec::<&str>::new(), "{name} is said");
        let others = own.iter().filter(|text| secret.is_in(text)).count();
        assert!(name == OF_THE_APP || others == 0, "{name} is passed on");
    }
    Ok(())
}

#[test]
fn a_secret_is_found_in_whatever_form() {
    let secret = Secret::new(REGISTRY);
    for before in ["", "a", "ab", "abc"] {
        let json = format!("{before}{{\"password\":\"{REGISTRY}\"}}");
        assert!(secret.is_in(json.as_bytes()));
        assert!(secret.is_in(STANDARD.encode(&json).as_bytes()));
    }
    assert!(!secret.is_in(STANDARD.encode("nothing of the kind").as_bytes()));
}

/// The sources of the programs, without their tests.
fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&path)?;
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            found.push((path, product.to_owned()));
        }
    }
    Ok(())
}

/// The one place where a program is started: for credentials, by its path.
const STARTS: &str = "agent/src/docker/keyring/helper.rs";

#[test]
fn no_program_of_the_product_starts_another_but_one_for_credentials() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for folder in ["plan", "wire", "proxy", "agent", "cli"] {
        sources(&root.join(folder).join("src"), &mut found)?;
    }
    assert!(found.len() > 100, "{} files", found.len());
    let starts = root.join(STARTS);
    for (path, text) in found {
        // Tests of it may start what they like.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        if path == starts {
            assert_eq!(text.matches("Command::new").count(), 1);
            assert!(text.contains("Command::new(program)") && !text.contains("/bin/sh"));
            continue;
        }
        for word in [
            "process::Command",
            "Command::new",
            "execve",
            "posix_spawn",
            "CommandExt",
        ] {
            assert!(!text.contains(word), "{word} is in {}", path.display());
        }
    }
    Ok(())
}
