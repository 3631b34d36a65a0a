//! A Docker Engine of one test's own, which the test stops and starts. The test
//! host's own is shared by all tests, and never stops.
//!
//! It changes no packet filter, and has bridges and addresses of its own, so it is in
//! nobody's way. What it and its containers leave ends with the test host.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::host::{docker, host};
use crate::process::Process;
use crate::wait::eventually;

/// What it takes to start or to stop, containers included.
const DEADLINE: Duration = Duration::from_secs(40);

/// What becomes of its containers while it is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Containers {
    /// They live on: `live-restore`.
    LiveOn,
    /// They end with it, and are started again by it.
    EndToo,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    folder: PathBuf,
    containers: Containers,
    /// Its networks are in 10.NUMBER.0.0/16, and its bridge has this number.
    number: u8,
    process: Option<Process>,
}

/// Runs a program that the test host has.
fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let ended = Command::new(program).args(arguments).status()?;
    ensure!(
        ended.success(),
        "{program} {}: {ended}",
        arguments.join(" ")
    );
    Ok(())
}

impl Engine {
    /// Starts an engine without images.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn start(name: &str, containers: Containers) -> anyhow::Result<Self> {
        let folder = host().folder(&format!("engine-{name}"))?;
        let store = folder.join("store");
        fs::create_dir(&store)?;
        // In memory, as all that the test host stores; it is unmounted with it. Below
        // a gibibyte no deploy is begun.
        let path = store.to_str().context("a folder has a name")?;
        let options = "mode=0711,size=2g";
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", path])?;
        static NEXT: AtomicU8 = AtomicU8::new(100);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Without one of its own it would take the bridge of the test host's engine.
        let bridge = format!("bridge{number}");
        run("ip", &["link", "add", &bridge, "type", "bridge"])?;
        let address = format!("10.{number}.0.1/24");
        run("ip", &["address", "add", &address, "dev", &bridge])?;
        run("ip", &["link", "set", &bridge, "up"])?;
        fs::write(folder.join("daemon.json"), "{}\n")?;
        let mut engine = Self {
            folder,
            containers,
            number,
            process: None,
        };
        engine.begin().await?;
        // The agent would name the bridge of the network as it does with every engine,
        // and the test host's engine has one of that name.
        let label = "--label=cutover.network=cutover";
        let subnet = format!("--subnet=10.{number}.1.0/24");
        let range = format!("--ip-range=10.{number}.1.128/25");
        let network = ["network", "create", label, &subnet, &range, "cutover"];
        engine.docker(&network).await?;
        Ok(engine)
    }

    /// Where it listens, in the form of `DOCKER_HOST`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.display())
    }

    /// Starts it again.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn begin(&mut self) -> anyhow::Result<()> {
        let host_name = host().folder.parent().and_then(|folder| folder.file_name());
        let host_name = host_name.context("a test host has a name")?;
        let folder = self.folder.display();
        let mut command = Command::new("dockerd");
        command
            .arg(format!("--config-file={folder}/daemon.json"))
            .arg(format!("--host={}", self.address()))
            .arg(format!("--data-root={folder}/store"))
            .arg(format!("--exec-root={folder}/run"))
            .arg(format!("--pidfile={folder}/docker.pid"))
            .arg(format!("--bridge=bridge{}", self.number))
            .arg(format!(
                "--default-address-pool=base=10.{}.128.0/17,size=24",
                self.number
            ))
            .args(["--iptables=false", "--ip6tables=false"])
            .arg("--exec-opt=native.cgroupdriver=cgroupfs")
            // The group of the test host, which goes with it.
            .arg(format!("--cgroup-parent=/{}", host_name.display()));
        if self.containers == Containers::LiveOn {
            command.arg("--live-restore");
        }
        self.process = Some(Process::spawn(command)?);
        eventually("the engine answers", DEADLINE, async || {
            let process = self.process.as_ref().context("it was started")?;
            if let Some(ended) = process.exit_status()? {
                anyhow::bail!("it ended with {ended}");
            }
            self.docker(&["version"]).await
        })
        .await?;
        Ok(())
    }

    /// Stops it, as the host's own init does, and waits for its end.
    ///
    /// # Errors
    ///
    /// It does not end.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.end(Signal::TERM).await
    }

    /// Kills it, and what its containers are run by with it.
    ///
    /// # Errors
    ///
    /// It did not run.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.end(Signal::KILL).await
    }

    /// Has it stand still for a while, as one on a busy disk does.
    ///
    /// # Errors
    ///
    /// It did not run.
    pub async fn stand_still(&self, time: Duration) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("it does not run")?;
        process.signal(Signal::STOP)?;
        tokio::time::sleep(time).await;
        process.signal(Signal::CONT)
    }

    async fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.take().context("it does not run")?;
        process.signal(signal)?;
        process.ended(DEADLINE).await?;
        Ok(())
    }

    /// Kills it and every container, as a host does that loses its power.
    ///
    /// # Errors
    ///
    /// It did not run.
    pub async fn lose_power(&mut self) -> anyhow::Result<()> {
        let running = self.docker(&["ps", "--quiet"]).await?;
        let mut victims = Vec::new();
        for container in running.lines() {
            let pid = self
                .docker(&["inspect", "--format", "{{.State.Pid}}", container])
                .await?;
            let pid: i32 = pid.parse()?;
            // Who holds a container would report its end.
            victims.push(parent(pid)?);
            victims.push(pid);
        }
        self.kill().await?;
        for pid in &victims {
            let pid = Pid::from_raw(*pid).context("a process has a number")?;
            // Some ended with the ones before.
            let _ = kill_process(pid, Signal::KILL);
        }
        let gone = || victims.iter().all(|pid| !runs(*pid));
        eventually("the containers end", DEADLINE, async || gone()).await
    }

    /// Leaves so much room for what it stores, in KiB.
    ///
    /// # Errors
    ///
    /// The room cannot be changed.
    pub fn leave_room(&self, left: u64) -> anyhow::Result<()> {
        let store = self.folder.join("store");
        let room = rustix::fs::statvfs(&store)?;
        let used = (room.f_blocks - room.f_bfree) * room.f_frsize;
        let size = format!("remount,size={}k", used / 1024 + left);
        let path = store.to_str().context("a folder has a name")?;
        run("mount", &["-o", &size, path])
    }

    /// Runs the Docker client against it and gives its output.
    ///
    /// # Errors
    ///
    /// It failed; the error says what it printed.
    pub async fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let address = self.address();
        docker(&[&["--host", address.as_str()], arguments].concat()).await
    }
}

fn stat(pid: i32) -> anyhow::Result<(String, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(") ").context("a process has a name")?;
    let mut words = rest.split(' ');
    let state = words.next().context("a process has a state")?.to_owned();
    let parent = words.next().context("a process has a parent")?.parse()?;
    Ok((state, parent))
}

fn parent(pid: i32) -> anyhow::Result<i32> {
    Ok(stat(pid)?.1)
}

fn runs(pid: i32) -> bool {
    stat(pid).is_ok_and(|(state, _)| state != "Z")
}
