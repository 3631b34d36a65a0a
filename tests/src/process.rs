//! Programs under test: logs captured, always ended.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
pub use rustix::process::Signal;

use crate::wait::eventually;

/// Lines kept of one program's log at most; the first are kept.
const KEPT_LINES: usize = 200_000;

/// A running program. Dropping it kills it and prints its log, which shows
/// when the test fails.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Mutex<Child>,
    pid: u32,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `program` with `arguments`. Only `environment` is added to the
    /// test's own environment.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().copied());
        Self::spawn(command)
    }

    /// Starts a command prepared by the test; its output is captured.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn spawn(command: Command) -> anyhow::Result<Self> {
        Self::spawn_with_input(command, Stdio::null())
    }

    /// The same with something to read, such as a socket.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn spawn_with_input(mut command: Command, input: Stdio) -> anyhow::Result<Self> {
        let program = command.get_program().to_owned();
        let name = Path::new(&program).file_name().unwrap_or(&program);
        let name = name.to_string_lossy().into_owned();
        let mut child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let pid = child.id();
        let log = Arc::default();
        let mut readers = Vec::new();
        if let Some(output) = child.stdout.take() {
            readers.push(read(output, Arc::clone(&log)));
        }
        if let Some(output) = child.stderr.take() {
            readers.push(read(output, Arc::clone(&log)));
        }
        Ok(Self {
            name,
            child: Mutex::new(child),
            pid,
            log,
            readers,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its output and errors so far, in the order they were read.
    pub fn log(&self) -> String {
        let mut text = locked(&self.log).join("\n");
        text.push('\n');
        text
    }

    /// The first line that contains `part`.
    pub fn line(&self, part: &str) -> Option<String> {
        let log = locked(&self.log);
        log.iter().find(|line| line.contains(part)).cloned()
    }

    /// Waits for a line that contains `part`.
    ///
    /// # Errors
    ///
    /// It did not come within `deadline`.
    pub async fn wait_for_line(&self, part: &str, deadline: Duration) -> anyhow::Result<String> {
        let what = format!("{} writes {part:?}", self.name);
        eventually(&what, deadline, async || self.line(part)).await
    }

    /// Sends it a signal: `Signal::TERM`, `Signal::KILL`, `Signal::STOP`, …
    ///
    /// # Errors
    ///
    /// It has ended already.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = locked(&self.child);
        let pid = rustix::process::Pid::from_child(&child);
        // Nobody reaps it while the lock is held, so the id is still its own.
        rustix::process::kill_process(pid, signal)
            .with_context(|| format!("signalling {}", self.name))
    }

    /// How it ended, or nothing while it runs.
    ///
    /// # Errors
    ///
    /// The system cannot say.
    pub fn exit_status(&self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(locked(&self.child).try_wait()?)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// It still runs after `deadline`.
    pub async fn ended(&self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        eventually(&what, deadline, async || {
            self.exit_status()?.context("it still runs")
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        {
            let mut child = locked(&self.child);
            // An error means that it has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
        // A child of the program may still hold its output open, so the log's
        // readers end by themselves; only those that are done are joined.
        for reader in self.readers.drain(..) {
            if reader.is_finished() {
                let _ = reader.join();
            }
        }
        print_log(&format!("{} ({})", self.name, self.pid), &self.log());
    }
}

fn read(output: impl Read + Send + 'static, log: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { return };
            let mut log = locked(&log);
            if log.len() < KEPT_LINES {
                log.push(String::from_utf8_lossy(&line).into_owned());
            }
        }
    })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked elsewhere still wants its logs and its cleaning up.
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Prints a log. The test harness shows what a test printed only when the test
/// fails, by a panic or by an error.
#[expect(clippy::print_stdout, reason = "the harness captures it, per test")]
pub(crate) fn print_log(name: &str, log: &str) {
    println!("--- log of {name}\n{}\n--- end of {name}", log.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Process {
        Process::start(
            Path::new("/bin/sh"),
            ["-c", script],
            &[("GREETING", "hello")],
        )
        .unwrap()
    }

    #[tokio::test]
    async fn output_and_exit_status_are_seen() {
        let process = shell("echo $GREETING; echo oh >&2; exit 3");
        let line = process.wait_for_line("hell", DEADLINE).await.unwrap();
        assert_eq!(line, "hello");
        process.wait_for_line("oh", DEADLINE).await.unwrap();
        let status = process.ended(DEADLINE).await.unwrap();
        assert_eq!(status.code(), Some(3));
    }

    #[tokio::test]
    async fn a_signal_reaches_the_program() {
        let process = shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done");
        process.wait_for_line("up", DEADLINE).await.unwrap();
        process.signal(Signal::TERM).unwrap();
        assert!(process.ended(DEADLINE).await.unwrap().success());
        assert!(process.log().ends_with("bye\n"));
    }

    #[test]
    fn a_dropped_program_has_ended() {
        let process = shell("exec sleep 1000");
        let pid = process.pid();
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
