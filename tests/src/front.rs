//! A proxy without an agent: its process, its control socket, and the ways in
//! which another process takes its place.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use cutover_wire::proxy::{
    Call, Cut, Drained, LENGTH_BYTES, Refusal, Reply, Request, Status, VERSION, decode, encode,
    length,
};
use cutover_wire::statistics::Statistics;
use cutover_wire::table::Table;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::host::program;
use crate::process::Process;
use crate::wait::eventually;

/// What a start, or any call but a drain, takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Room for an answer beside the deadline of a drain.
const SLACK: Duration = Duration::from_secs(10);

/// How the shell makes a socket of its standard input the first one of those
/// that systemd passes, and the process number its own, which exec leaves.
const PASS: &str = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";

/// What is spoken at the front door: HTTP/1.1, and HTTP/2 without asking.
pub const KIND: &str = "http+h2c";

/// The proxy that answers at one address: one process after another.
#[derive(Debug)]
pub struct Front {
    /// Where users come in.
    pub address: SocketAddr,
    /// Its socket and state; every process after the first uses the same.
    folder: PathBuf,
    process: Process,
    /// The instance that answers on the control socket.
    instance: String,
}

/// Everything the proxy says of its options.
///
/// # Errors
///
/// It is not built.
pub fn help() -> anyhow::Result<String> {
    let output = Command::new(program("cutover-proxy")?)
        .arg("--help")
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Front {
    /// Starts a proxy with its files in `folder` and these further options, one
    /// of which says where to listen.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub async fn start(folder: &Path, options: &[&str]) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut command = Self::command(folder)?;
        command.args(options);
        Self::come_up(folder, Process::spawn(command)?).await
    }

    /// Starts one that is given a listening socket as systemd gives it.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub async fn start_on(
        listener: &TcpListener,
        folder: &Path,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let process = Self::pass(listener, folder, options)?;
        Self::come_up(folder, process).await
    }

    /// Lets another process take the place of this one, by itself, and gives
    /// the old one.
    ///
    /// # Errors
    ///
    /// The new one does not come up.
    pub async fn take_over(&mut self, options: &[&str]) -> anyhow::Result<Process> {
        let mut command = Self::command(&self.folder)?;
        command.args(self.takeover()).args(options);
        self.succeed(Process::spawn(command)?).await
    }

    /// Starts another process on the same socket of systemd, which takes over
    /// all but the socket, and gives the old one.
    ///
    /// # Errors
    ///
    /// The new one does not come up.
    pub async fn hand_over(
        &mut self,
        listener: &TcpListener,
        options: &[&str],
    ) -> anyhow::Result<Process> {
        let takeover = self.takeover();
        let mut all: Vec<&str> = takeover.iter().map(String::as_str).collect();
        all.extend(options);
        let process = Self::pass(listener, &self.folder, &all)?;
        self.succeed(process).await
    }

    fn takeover(&self) -> [String; 2] {
        let socket = self.folder.join("proxy.sock");
        ["--takeover".to_owned(), socket.display().to_string()]
    }

    /// The process that serves now.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A talk on its control socket.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub async fn talk(&self) -> anyhow::Result<Talk> {
        Talk::begin(&self.folder).await
    }

    /// Who it is and what it can do.
    ///
    /// # Errors
    ///
    /// It does not tell.
    pub async fn status(&self) -> anyhow::Result<Status> {
        self.talk().await?.status().await
    }

    /// The table in force.
    ///
    /// # Errors
    ///
    /// It does not tell.
    pub async fn table(&self) -> anyhow::Result<Table> {
        match self.talk().await?.ask(Request::Table, DEADLINE).await? {
            Reply::Table(table) => Ok(table),
            other => bail!("asked for its table, the proxy answered {other:?}"),
        }
    }

    /// Changes the table in force; the outer error is the talk's, the inner one
    /// the proxy's own.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn try_change(
        &self,
        change: impl FnOnce(&mut Table),
    ) -> anyhow::Result<Result<(), Refusal>> {
        let mut table = self.table().await?;
        let expected = table.generation;
        table.generation = expected + 1;
        change(&mut table);
        let request = Request::Apply { expected, table };
        match self.talk().await?.ask(request, DEADLINE).await? {
            Reply::Applied { .. } => Ok(Ok(())),
            Reply::Refused(refusal) => Ok(Err(refusal)),
            other => bail!("given a table, the proxy answered {other:?}"),
        }
    }

    /// Changes the table in force.
    ///
    /// # Errors
    ///
    /// It does not answer, or refuses.
    pub async fn change(&self, change: impl FnOnce(&mut Table)) -> anyhow::Result<()> {
        let refusal = self.try_change(change).await?.err();
        refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// Waits until targets of an app hold nothing, and tells what they hold at
    /// the deadline. Long answers are ended as `cut` says.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn drain(
        &self,
        app: &str,
        targets: Vec<String>,
        deadline: Duration,
        cut: Cut,
    ) -> anyhow::Result<Drained> {
        let request = Request::Drain {
            app: app.to_owned(),
            targets,
            deadline_ms: u64::try_from(deadline.as_millis())?,
            cut: Some(cut),
            of_successor: false,
        };
        let mut talk = self.talk().await?;
        match talk.ask(request, deadline + SLACK).await? {
            Reply::Drained(drained) => Ok(drained),
            other => bail!("told to drain, the proxy answered {other:?}"),
        }
    }

    /// What it counted.
    ///
    /// # Errors
    ///
    /// It does not tell.
    pub async fn statistics(&self) -> anyhow::Result<Statistics> {
        self.talk().await?.statistics().await
    }

    fn command(folder: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new(program("cutover-proxy")?);
        command
            .arg("--control")
            .arg(folder.join("proxy.sock"))
            .arg("--state")
            .arg(folder.join("state"))
            .env("NO_COLOR", "1");
        Ok(command)
    }

    fn pass(listener: &TcpListener, folder: &Path, options: &[&str]) -> anyhow::Result<Process> {
        let proxy = Self::command(folder)?;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", PASS, "sh"])
            .arg(proxy.get_program())
            .args(proxy.get_args())
            .args(options)
            .env("LISTEN_FDNAMES", KIND)
            .env("NO_COLOR", "1");
        let socket = OwnedFd::from(listener.try_clone()?);
        Process::spawn_with_input(shell, Stdio::from(socket))
    }

    async fn come_up(folder: &Path, process: Process) -> anyhow::Result<Self> {
        let status = eventually("the proxy answers", DEADLINE, async || {
            Talk::begin(folder).await?.status().await
        })
        .await?;
        let address = status.listeners.first().copied();
        Ok(Self {
            address: address.context("the proxy listens nowhere")?,
            folder: folder.to_owned(),
            process,
            instance: status.instance,
        })
    }

    /// Waits until a new process answers in place of this one.
    async fn succeed(&mut self, process: Process) -> anyhow::Result<Process> {
        let what = "another instance answers on the control socket";
        let status = eventually(what, DEADLINE, async || {
            let status = self.status().await?;
            ensure!(status.instance != self.instance, "it is the old one");
            Ok(status)
        })
        .await;
        let status = match status {
            Ok(status) => status,
            Err(error) => return Err(error.context(format!("its log: {}", process.log()))),
        };
        self.instance = status.instance;
        Ok(std::mem::replace(&mut self.process, process))
    }
}

/// A connection to the control socket of one instance.
#[derive(Debug)]
pub struct Talk(UnixStream);

impl Talk {
    /// Connects to the proxy of a folder.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub async fn begin(folder: &Path) -> anyhow::Result<Self> {
        let socket = folder.join("proxy.sock");
        let stream = UnixStream::connect(&socket).await;
        Ok(Self(stream.with_context(|| socket.display().to_string())?))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// It did not come within `deadline`.
    pub async fn ask(&mut self, request: Request, deadline: Duration) -> anyhow::Result<Reply> {
        let version = VERSION;
        let frame = encode(&Call { version, request })?;
        let exchange = async {
            self.0.write_all(&frame).await?;
            let mut head = [0; LENGTH_BYTES];
            self.0.read_exact(&mut head).await?;
            let mut body = vec![0; length(head)?];
            self.0.read_exact(&mut body).await?;
            anyhow::Ok(decode(&body)?)
        };
        timeout(deadline, exchange).await.context("no answer")?
    }

    /// Who answers here.
    ///
    /// # Errors
    ///
    /// It does not tell.
    pub async fn status(&mut self) -> anyhow::Result<Status> {
        match self.ask(Request::Status, DEADLINE).await? {
            Reply::Status(status) => Ok(status),
            other => bail!("asked for its status, the proxy answered {other:?}"),
        }
    }

    /// What was counted here.
    ///
    /// # Errors
    ///
    /// It does not tell.
    pub async fn statistics(&mut self) -> anyhow::Result<Statistics> {
        match self.ask(Request::Statistics, DEADLINE).await? {
            Reply::Statistics(statistics) => Ok(statistics),
            other => bail!("asked what it counted, the proxy answered {other:?}"),
        }
    }

    /// Sends the first `size` bytes of a call and hangs up.
    ///
    /// # Errors
    ///
    /// They could not be sent.
    pub async fn break_off(mut self, request: Request, size: usize) -> anyhow::Result<()> {
        let version = VERSION;
        let frame = encode(&Call { version, request })?;
        let part = frame.get(..size).unwrap_or(&frame);
        Ok(self.0.write_all(part).await?)
    }
}

/// The socket that listens on an address, by the number of its inode.
///
/// # Errors
///
/// None does, or more than one.
pub fn listening_inode(address: SocketAddr) -> anyhow::Result<u64> {
    /// `TCP_LISTEN` of the kernel's `tcp_states.h`.
    const LISTENING: &str = "0A";
    let SocketAddr::V4(address) = address else {
        bail!("{address} is not of IPv4");
    };
    // The kernel writes the address as the number it is in memory.
    let ip = u32::from_ne_bytes(address.ip().octets());
    let local = format!("{ip:08X}:{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp")?;
    let mut found = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = *fields.get(1)? == local && *fields.get(3)? == LISTENING;
        listens.then(|| fields.get(9)?.parse().ok()).flatten()
    });
    let inode = found.next().context("nobody listens there")?;
    ensure!(found.next().is_none(), "two sockets listen on {address}");
    Ok(inode)
}

/// Whether a process has a socket open.
///
/// # Errors
///
/// The process has ended.
pub fn holds(pid: u32, inode: u64) -> anyhow::Result<bool> {
    let socket = format!("socket:[{inode}]");
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be closed between the listing and the look.
        if fs::read_link(entry?.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_and_known_as_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inode = listening_inode(address).unwrap();
        assert!(holds(std::process::id(), inode).unwrap());
        assert!(!holds(std::process::id(), inode + 1_000_000).unwrap());
        drop(listener);
        assert!(listening_inode(address).is_err());
    }
}
