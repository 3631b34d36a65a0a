//! A folder with a configuration, and the program that reads it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take on a machine that has other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Host(tempfile::TempDir);

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// An agent that runs; it is killed with the test.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Host {
    pub(crate) fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(host.path("apps")).unwrap();
        let folder = host.0.path().display();
        host.write("secret", &"s".repeat(32));
        host.write(
            "agent.toml",
            &format!(
                "listen = \"127.0.0.1:0\"\nsecret_files = [\"{folder}/secret\"]\n\
                 apps = \"{folder}/apps\"\nsocket = \"{folder}/agent.sock\"\n\
                 proxy_socket = \"{folder}/proxy.sock\"\nstate = \"{folder}/state\"\n\
                 docker = \"unix://{folder}/docker.sock\"\n"
            ),
        );
        host.write(
            "apps/shop.toml",
            "image = \"ghcr.io/acme/shop\"\ndomains = [\"shop.example.com\"]\nport = 8080\n",
        );
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn agent(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover-agent"));
        command
            .args(arguments)
            .arg("--config")
            .arg(self.path("agent.toml"))
            .env_clear()
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.agent(arguments).output().unwrap();
        Ended {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts the agent and waits until its socket answers.
    pub(crate) fn start(&self, prepare: impl FnOnce(&mut Command)) -> Running {
        let mut command = self.agent(&["run"]);
        prepare(&mut command);
        let running = Running(command.spawn().unwrap());
        let socket = self.path("agent.sock");
        until("the agent's socket", || {
            ask(&socket, "GET", "/healthz", "").starts_with("HTTP/1.1 200")
        });
        running
    }
}

/// One request on a socket, and the whole answer; empty when there is none.
pub(crate) fn ask(socket: &Path, method: &str, path: &str, body: &str) -> String {
    let mut answer = Vec::new();
    if let Ok(mut stream) = UnixStream::connect(socket) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_end(&mut answer);
    }
    String::from_utf8(answer).unwrap()
}

/// Waits until something is so, and not for ever.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
