//! One host of Cutover, made of the real programs: a proxy, an agent with its
//! configuration, and the command line to call it. Each rig has a folder,
//! ports and an app name of its own, so rigs run side by side.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use cutover_wire::proxy::{Call, LENGTH_BYTES, Reply, Request, VERSION, decode, encode, length};
use cutover_wire::table::Table;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::github::GithubModel;
use crate::host::{docker, host, program};
use crate::image::Image;
use crate::load::{Journal, Load};
use crate::process::{Process, Signal};
use crate::request::get;
use crate::wait::eventually;

mod ran;

pub use ran::Ran;

/// What any program of a rig takes to start.
const START: Duration = Duration::from_secs(20);

/// The secret that signs the calls of a rig.
pub const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A host of Cutover with one app.
pub struct Rig {
    /// The app, also the name of the rig.
    pub app: String,
    /// Its files.
    pub folder: PathBuf,
    /// Where users come in.
    pub front: SocketAddr,
    /// The same, for clients that begin with HTTP/2.
    front_of_http2: SocketAddr,
    /// Where signed calls come in.
    pub calls: SocketAddr,
    /// Variables of an agent that is started next, beside those of every rig.
    pub agent_environment: Vec<(&'static str, &'static str)>,
    proxy: Option<Process>,
    agent: Option<Process>,
    /// The file that says how wrong the agent's clock is.
    clock: Option<PathBuf>,
    engine: String,
}

/// How a rig differs from an ordinary one.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Lines of the app's file above the first table.
    pub app_top: String,
    /// Tables of the app's file, instead of short health and watch.
    pub app_tables: Option<String>,
    /// The address of a model of GitHub, where deploys are reported.
    pub github: Option<String>,
    /// Lines of the agent's file above the first table.
    pub agent_top: String,
    /// The registry of the app's image, instead of the test host's own.
    pub registry: Option<String>,
    /// A file system of this size for the agent's state, for example `1m`.
    pub state_size: Option<String>,
    /// The address of an engine of its own, instead of the test host's.
    pub engine: Option<String>,
    /// The agent has a clock of its own, which [`Rig::set_clock`] sets.
    pub own_clock: bool,
}

/// A short gate and a short watch, so that a test takes seconds.
pub const TABLES: &str = "\
[health]\npath = \"/healthz\"\ninterval = \"100ms\"\ntimeout = \"2s\"\ndeadline = \"20s\"\n\
[watch]\nwindow = \"2s\"\nmax_error_rate = \"5%\"\nmin_requests = 20\n";

/// A port that nobody else takes: the test host's network is nobody else's, and of
/// these the system gives none away by itself.
fn free_port() -> anyhow::Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        ensure!(port < 30_000, "no port is free");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
}

impl Rig {
    /// Starts a proxy and an agent for the app `name`, which runs images of
    /// the repository `name`.
    ///
    /// # Errors
    ///
    /// A file cannot be written or a program does not start.
    pub async fn start(name: &str, setup: &Setup) -> anyhow::Result<Self> {
        let folder = host().folder(&format!("rig-{name}"))?;
        let mut rig = Self {
            app: name.to_owned(),
            folder,
            front: free_port()?,
            front_of_http2: free_port()?,
            calls: free_port()?,
            agent_environment: Vec::new(),
            proxy: None,
            agent: None,
            clock: None,
            engine: match &setup.engine {
                Some(engine) => engine.clone(),
                None => std::env::var("DOCKER_HOST").context("the test host has an engine")?,
            },
        };
        if setup.own_clock {
            rig.clock = Some(rig.folder.join("clock"));
            rig.set_clock(0)?;
        }
        fs::create_dir(rig.folder.join("apps"))?;
        fs::write(rig.folder.join("secret"), SECRET)?;
        rig.configure(setup)?;
        if let Some(size) = &setup.state_size {
            rig.mount_state(size).await?;
        }
        rig.start_proxy().await?;
        rig.start_agent().await?;
        Ok(rig)
    }

    /// Writes the configuration; an agent that is started next reads it.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn configure(&self, setup: &Setup) -> anyhow::Result<()> {
        let (folder, app, docker) = (self.folder.display(), &self.app, &self.engine);
        let mut agent = format!(
            "listen = \"{}\"\nsecret_files = [\"{folder}/secret\"]\napps = \"{folder}/apps\"\n\
             socket = \"{folder}/agent.sock\"\nproxy_socket = \"{folder}/proxy.sock\"\n\
             docker = \"{docker}\"\nstate = \"{folder}/state\"\n{}",
            self.calls, setup.agent_top
        );
        let registry = setup.registry.as_ref().unwrap_or(&host().registry);
        let mut spec = format!(
            "image = \"{registry}/{app}\"\ndomains = [\"{app}.test\"]\nport = 8080\n\
             stop_grace = \"5s\"\ndrain_deadline = \"5s\"\n{}",
            setup.app_top
        );
        spec.push_str(setup.app_tables.as_deref().unwrap_or(TABLES));
        if let Some(url) = &setup.github {
            fs::write(self.folder.join("token"), GithubModel::TOKEN)?;
            write!(
                agent,
                "[github]\ntoken_file = \"{folder}/token\"\napi_url = \"{url}\"\n"
            )?;
            write!(spec, "[github]\nrepository = \"acme/{app}\"\n")?;
        }
        fs::write(self.folder.join("agent.toml"), agent)?;
        fs::write(self.folder.join(format!("apps/{app}.toml")), spec)?;
        Ok(())
    }

    /// Where the agent keeps its journal.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The host's end unmounts it.
    async fn mount_state(&self, size: &str) -> anyhow::Result<()> {
        fs::create_dir(self.state())?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        let ended = mount.arg(self.state()).status().await?;
        ensure!(ended.success(), "mounting the state: {ended}");
        Ok(())
    }

    /// Starts the proxy, which serves the table that it stored.
    ///
    /// # Errors
    ///
    /// It does not answer on its socket.
    pub async fn start_proxy(&mut self) -> anyhow::Result<()> {
        let folder = self.folder.display();
        let arguments = [
            format!("--listen={}", self.front),
            format!("--listen=http+h2c={}", self.front_of_http2),
            format!("--control={folder}/proxy.sock"),
            format!("--state={folder}/proxy"),
        ];
        self.proxy = Some(Process::start(&program("cutover-proxy")?, arguments, &[])?);
        let front = self.front;
        eventually("the proxy answers", START, async || {
            get(front, "/").await.is_ok()
        })
        .await
    }

    /// Starts the agent, which goes on where the last one stopped.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn start_agent(&mut self) -> anyhow::Result<()> {
        self.spawn_agent()?;
        let calls = self.calls;
        eventually("the agent answers", START, async || {
            get(calls, "/healthz")
                .await
                .is_ok_and(|answer| answer.status == 200)
        })
        .await
    }

    /// Starts the agent, and does not wait for it: it may not come up.
    ///
    /// # Errors
    ///
    /// It is not built.
    pub fn spawn_agent(&mut self) -> anyhow::Result<()> {
        let config = format!("--config={}/agent.toml", self.folder.display());
        let mut command = std::process::Command::new(program("cutover-agent")?);
        command.args(["run", &config]);
        command.env("CUTOVER_LOG", "info,cutover_agent=debug");
        command.envs(self.agent_environment.iter().copied());
        if let Some(clock) = &self.clock {
            // The dynamic linker puts the folder of the machine's libraries for $LIB.
            command.env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1");
            command.env("FAKETIME_TIMESTAMP_FILE", clock);
            command.env("FAKETIME_NO_CACHE", "1");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        self.agent = Some(Process::spawn(command)?);
        Ok(())
    }

    /// Sets the agent's own clock so many seconds before the host's, or behind it
    /// where that is negative. What measures time goes on as it did.
    ///
    /// # Errors
    ///
    /// It has none, or it cannot be set.
    pub fn set_clock(&self, seconds: i64) -> anyhow::Result<()> {
        let clock = self.clock.as_ref().context("it has the host's clock")?;
        let new = clock.with_extension("new");
        // The agent never reads half a time.
        fs::write(&new, format!("{seconds:+}\n"))?;
        fs::rename(&new, clock)?;
        Ok(())
    }

    /// Kills the agent as `kill -9` does; its end is waited for.
    ///
    /// # Errors
    ///
    /// It did not run.
    pub async fn kill_agent(&mut self) -> anyhow::Result<()> {
        Self::kill(self.agent.take()).await
    }

    /// Kills the proxy as `kill -9` does; its end is waited for.
    ///
    /// # Errors
    ///
    /// It did not run.
    pub async fn kill_proxy(&mut self) -> anyhow::Result<()> {
        Self::kill(self.proxy.take()).await
    }

    async fn kill(process: Option<Process>) -> anyhow::Result<()> {
        let process = process.context("it does not run")?;
        process.signal(Signal::KILL)?;
        process.ended(START).await?;
        Ok(())
    }

    /// The agent, while it runs.
    #[must_use]
    pub fn agent(&self) -> Option<&Process> {
        self.agent.as_ref()
    }

    /// The proxy, while it runs.
    #[must_use]
    pub fn proxy(&self) -> Option<&Process> {
        self.proxy.as_ref()
    }

    /// The command line, set up to call this host by signed calls.
    ///
    /// # Errors
    ///
    /// It is not built.
    pub fn cutover(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(program("cutover")?);
        command
            .args(arguments)
            .env("CUTOVER_URL", format!("http://{}", self.calls))
            .env("CUTOVER_SECRET", SECRET)
            .env_remove("GITHUB_ACTIONS")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    /// The command line, set up to call this host by its socket, without a
    /// secret.
    ///
    /// # Errors
    ///
    /// It is not built.
    pub fn local(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.cutover(arguments)?;
        command
            .arg(format!("--socket={}/agent.sock", self.folder.display()))
            .env_remove("CUTOVER_URL")
            .env_remove("CUTOVER_SECRET");
        Ok(command)
    }

    /// Runs the command line beside the test.
    ///
    /// # Errors
    ///
    /// It cannot be run.
    pub fn begin(&self, arguments: &[&str]) -> anyhow::Result<JoinHandle<anyhow::Result<Ran>>> {
        let mut command = self.cutover(arguments)?;
        let running = async move { Ok(Ran::from(command.output().await?)) };
        Ok(tokio::spawn(running))
    }

    /// Deploys an image, beside the test.
    ///
    /// # Errors
    ///
    /// The command line cannot be run.
    pub fn begin_deploy(&self, image: &Image) -> anyhow::Result<JoinHandle<anyhow::Result<Ran>>> {
        self.begin(&["deploy", "--app", &self.app, "--image", &image.reference()])
    }

    /// Runs the command line to its end.
    ///
    /// # Errors
    ///
    /// It cannot be run.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<Ran> {
        Ok(Ran::from(self.cutover(arguments)?.output().await?))
    }

    /// Deploys an image and follows to the end.
    ///
    /// # Errors
    ///
    /// The command line cannot be run.
    pub async fn deploy(&self, image: &Image) -> anyhow::Result<Ran> {
        self.run(&["deploy", "--app", &self.app, "--image", &image.reference()])
            .await
    }

    /// Deploys an image that must be promoted.
    ///
    /// # Errors
    ///
    /// It was not.
    pub async fn must_deploy(&self, image: &Image) -> anyhow::Result<()> {
        let ran = self.deploy(image).await?;
        ensure!(
            ran.code == 0,
            "the deploy ended with {}:\n{}",
            ran.code,
            ran.text
        );
        Ok(())
    }

    /// What `cutover status` tells of the app.
    ///
    /// # Errors
    ///
    /// It does not tell.
    pub async fn status(&self) -> anyhow::Result<Value> {
        let ran = self
            .run(&["status", "--app", &self.app, "--format", "json"])
            .await?;
        ensure!(
            ran.code == 0,
            "status ended with {}:\n{}",
            ran.code,
            ran.text
        );
        let apps: Value = serde_json::from_str(&ran.text).with_context(|| ran.text.clone())?;
        Ok(apps[0].clone())
    }

    /// The version that a user of the app sees now.
    ///
    /// # Errors
    ///
    /// No release answers.
    pub async fn version(&self) -> anyhow::Result<String> {
        let request = http::Request::get("/")
            .header("host", format!("{}.test", self.app))
            .body(bytes::Bytes::new())?;
        let answer = crate::request::send(self.front, request).await?;
        let version = answer.header("x-app-version").map(str::to_owned);
        version.with_context(|| format!("status {}: {}", answer.status, answer.text()))
    }

    /// Waits until users of the app see a version.
    ///
    /// # Errors
    ///
    /// They do not within the deadline.
    pub async fn sees(&self, version: &str, deadline: Duration) -> anyhow::Result<()> {
        let what = format!("users of {} see version {version}", self.app);
        eventually(&what, deadline, async || {
            let seen = self.version().await?;
            ensure!(seen == version, "it is {seen}");
            anyhow::Ok(())
        })
        .await
    }

    /// A load on the app's front door, of no users yet.
    ///
    /// # Errors
    ///
    /// None that a rig could have.
    pub fn load(&self) -> anyhow::Result<Load> {
        Load::new(self.front, &format!("{}.test", self.app))
    }

    /// The same, of clients that begin with HTTP/2.
    ///
    /// # Errors
    ///
    /// None that a rig could have.
    pub fn load_of_http2(&self) -> anyhow::Result<Load> {
        Load::new(self.front_of_http2, &format!("{}.test", self.app))
    }

    /// The requests that a container of the app served.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub async fn journal(&self, container: &str) -> anyhow::Result<Journal> {
        let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = self
            .docker(&["inspect", "--format", template, container])
            .await?;
        Journal::of(SocketAddr::new(address.parse()?, 8080)).await
    }

    /// The routing table that the proxy has.
    ///
    /// # Errors
    ///
    /// It does not tell.
    pub async fn table(&self) -> anyhow::Result<Table> {
        let mut stream = UnixStream::connect(self.folder.join("proxy.sock")).await?;
        let call = Call {
            version: VERSION,
            request: Request::Table,
        };
        stream.write_all(&encode(&call)?).await?;
        let mut head = [0; LENGTH_BYTES];
        stream.read_exact(&mut head).await?;
        let mut body = vec![0; length(head)?];
        stream.read_exact(&mut body).await?;
        match decode(&body)? {
            Reply::Table(table) => Ok(table),
            other => bail!("the proxy answered {other:?}"),
        }
    }

    /// Whether the app's route is as after any deploy that is over: all requests go
    /// to one release, and nothing leads anywhere else.
    ///
    /// # Errors
    ///
    /// It is not, or the proxy does not tell.
    pub async fn has_a_plain_route(&self) -> anyhow::Result<()> {
        let table = self.table().await?;
        let route = table.apps.get(&self.app).context("it has no route")?;
        ensure!(route.serving.sole().is_some(), "{route:#?}");
        ensure!(
            route.rules.is_empty() && route.affinity.is_none(),
            "{route:#?}"
        );
        let side = (&route.preview, &route.mirror, &route.park);
        ensure!(side == (&None, &None, &None), "{route:#?}");
        Ok(())
    }

    /// Runs the Docker client against the engine of the agent.
    ///
    /// # Errors
    ///
    /// It failed; the error says what it printed.
    pub async fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        docker(&[&["--host", self.engine.as_str()], arguments].concat()).await
    }

    /// The command line on the host, set up to call this agent by its socket, run to
    /// its end.
    ///
    /// # Errors
    ///
    /// It cannot be run.
    pub async fn run_local(&self, arguments: &[&str]) -> anyhow::Result<Ran> {
        Ok(Ran::from(self.local(arguments)?.output().await?))
    }

    /// Waits until the deploy that is under way does a step of this name, as the
    /// agent's socket tells.
    ///
    /// # Errors
    ///
    /// It does not within the deadline.
    pub async fn does(&self, step: &str, deadline: Duration) -> anyhow::Result<()> {
        let what = format!("{} does the step {step}", self.app);
        eventually(&what, deadline, async || {
            let status = self.local_status().await?;
            let phase = status["deploying"]["phase"].as_str().unwrap_or("nothing");
            ensure!(phase.starts_with(step), "{phase}");
            anyhow::Ok(())
        })
        .await
    }

    /// What `cutover status` tells of the app on the host, where nothing is signed.
    ///
    /// # Errors
    ///
    /// It does not tell.
    pub async fn local_status(&self) -> anyhow::Result<Value> {
        let status = ["status", "--app", &self.app, "--format", "json"];
        let ran = self.run_local(&status).await?;
        let apps: Value = serde_json::from_str(&ran.text).with_context(|| ran.text.clone())?;
        Ok(apps[0].clone())
    }

    /// The names of the app's containers, running or not.
    ///
    /// # Errors
    ///
    /// The engine does not tell.
    pub async fn containers(&self) -> anyhow::Result<Vec<String>> {
        let label = format!("label=cutover.app={}", self.app);
        let names = self
            .docker(&["ps", "-a", "--filter", &label, "--format", "{{.Names}}"])
            .await?;
        let mut names: Vec<_> = names.lines().map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }
}
