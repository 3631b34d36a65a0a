//! A container's stand-in: the demo app as a process that journals each id it
//! is asked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure};
use cutover_wire::table;

use crate::host::program;
use crate::process::{Process, Signal};
use crate::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(20);

/// Ports below those that the kernel gives to clients, so that a target that
/// comes back finds its own free.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// Ports that may be taken by others before it is no coincidence any more.
const TRIES: usize = 50;

/// How it treats its connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    /// Closes those that are idle for so long, in milliseconds.
    pub keep_alive_ms: Option<u64>,
    /// Speaks HTTP/2 without being asked.
    pub speaks_http2: bool,
    /// Closes one without a word after so many answers.
    pub leaves_after: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Target {
    id: String,
    address: SocketAddr,
    journal: PathBuf,
    version: String,
    habits: Habits,
    process: Option<Process>,
}

fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let width = PORTS.end - PORTS.start;
    // Test runs beside each other begin at different places.
    let first = (std::process::id() % 100) as u16 * (width / 100);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PORTS.start + first.wrapping_add(number) % width
}

impl Target {
    /// Starts one of the release `version`, with its journal in `folder`.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub async fn start(
        folder: &Path,
        version: &str,
        id: &str,
        habits: Habits,
    ) -> anyhow::Result<Self> {
        let mut target = Self {
            id: id.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            journal: folder.join(format!("journal-{id}")),
            version: version.to_owned(),
            habits,
            process: None,
        };
        for _ in 0..TRIES {
            target.address.set_port(next_port());
            if target.come_up().await? {
                return Ok(target);
            }
        }
        bail!("none of {TRIES} ports is free");
    }

    /// As it stands in a table.
    #[must_use]
    pub fn entry(&self) -> table::Target {
        table::Target {
            id: self.id.clone(),
            address: self.address,
        }
    }

    /// The file with every id that it was asked.
    #[must_use]
    pub fn journal(&self) -> &Path {
        &self.journal
    }

    /// Kills it, and waits until the kernel has closed its sockets.
    ///
    /// # Errors
    ///
    /// It had ended by itself.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.signal(Signal::KILL)?;
            process.ended(DEADLINE).await?;
        }
        Ok(())
    }

    /// Starts it again, at the same address.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let came_up = self.come_up().await?;
        ensure!(came_up, "the address of {} was taken meanwhile", self.id);
        Ok(())
    }

    /// Whether its address was free.
    async fn come_up(&mut self) -> anyhow::Result<bool> {
        let (ip, port) = (self.address.ip(), self.address.port());
        let (ip, port) = (ip.to_string(), port.to_string());
        let text = |number: Option<u64>| number.map_or(String::new(), |number| number.to_string());
        let keep_alive = text(self.habits.keep_alive_ms);
        let leaves_after = text(self.habits.leaves_after);
        let http2 = if self.habits.speaks_http2 { "1" } else { "" };
        let journal = self.journal.to_string_lossy();
        let environment = [
            ("ADDRESS", ip.as_str()),
            ("PORT", port.as_str()),
            ("VERSION", self.version.as_str()),
            ("JOURNAL", &journal),
            ("KEEP_ALIVE_MS", &keep_alive),
            ("LEAVES_AFTER", &leaves_after),
            ("H2C", http2),
        ];
        let process = Process::start(&program("cutover-demo-app")?, [""; 0], &environment)?;
        let listens = eventually("a target listens", DEADLINE, async || {
            let status = process.exit_status()?;
            let is_listening = process.line("listening on").is_some();
            ensure!(is_listening || status.is_some(), "not yet");
            anyhow::Ok(is_listening)
        });
        let listens = listens.await?;
        if listens {
            self.process = Some(process);
        }
        Ok(listens)
    }
}
