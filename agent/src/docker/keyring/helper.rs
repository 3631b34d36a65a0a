//! Programs that know credentials: `docker-credential-NAME get` reads the name
//! of a registry and writes a user and a secret. It is run each time a registry
//! is asked, without a shell, with a deadline; nothing that it writes is shown.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use cutover_plan::spec::render_duration;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::containers::ContainerErrorKind;

use super::Login;

/// The longest a program is waited for: those of clouds ask a server.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// The longest answer: tokens of clouds have a few thousand letters.
const MAX_ANSWER: u64 = 64 * 1024;

/// How long a program that was killed may take to be gone.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a program writes that knows no credentials for the registry.
const NOT_FOUND: &str = "credentials not found";

/// The user that stands for a token instead of a password.
const TOKEN: &str = "<token>";

pub(super) const HINT: &str = "run it by hand as the agent's user: echo REGISTRY | docker-credential-NAME get; it may need variables in a drop-in of the unit";

/// Why a program gave no credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelperFault {
    #[error("it cannot be run: {0}")]
    Start(io::Error),
    #[error("it did not end within {}, and was killed", render_duration(*.0))]
    Slow(Duration),
    #[error("it wrote more than {} KiB, and was killed", MAX_ANSWER / 1024)]
    Huge,
    #[error("it ended with {}", ending(*.0))]
    Failed(ExitStatus),
    #[error("what it wrote could not be read as credentials")]
    Garbage,
}

impl HelperFault {
    /// What is asked over a network may be there a moment later.
    pub(super) fn kind(&self) -> ContainerErrorKind {
        match self {
            Self::Slow(_) | Self::Failed(_) => ContainerErrorKind::Unavailable,
            Self::Start(_) | Self::Huge | Self::Garbage => ContainerErrorKind::Host,
        }
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or(0)),
    }
}

/// The program of this name, in the first of the folders that has it.
pub(super) fn locate(name: &str, folders: &[PathBuf]) -> Result<PathBuf, String> {
    let file = format!("docker-credential-{name}");
    let mut places = folders.iter().map(|folder| folder.join(&file));
    places.find(|place| place.is_file()).ok_or_else(|| {
        let folders: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
        let folders = folders.join(", ");
        format!("names the program {file}, which is not in {folders} (hint: install it there, or name its folder in registry_helpers of agent.toml)")
    })
}

/// Asks a program for the login of a registry.
pub(super) async fn ask(
    program: &Path,
    registry: &str,
    limit: Duration,
) -> Result<Option<Login>, HelperFault> {
    let mut child = Command::new(program)
        .arg("get")
        // What it needs of the agent's variables it gets, but not the way to systemd.
        .env_remove("NOTIFY_SOCKET")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(HelperFault::Start)?;
    // Dropped before `child`, so that the group's number is still its own.
    let group = Group::of(&child);
    let Ok(talked) = tokio::time::timeout(limit, talk(&mut child, registry)).await else {
        end(group, &mut child).await;
        return Err(HelperFault::Slow(limit));
    };
    match talked {
        Ok((status, answer)) => {
            group.leave();
            judge(status, &answer)
        }
        Err(fault) => {
            end(group, &mut child).await;
            Err(fault)
        }
    }
}

async fn talk(child: &mut Child, registry: &str) -> Result<(ExitStatus, Vec<u8>), HelperFault> {
    if let Some(mut input) = child.stdin.take() {
        // One that asks nothing has an answer all the same.
        let _ = input.write_all(registry.as_bytes()).await;
    }
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.take() {
        let mut output = output.take(MAX_ANSWER + 1);
        let read = output.read_to_end(&mut answer).await;
        read.map_err(|_| HelperFault::Garbage)?;
    }
    if answer.len() as u64 > MAX_ANSWER {
        return Err(HelperFault::Huge);
    }
    let status = child.wait().await.map_err(|_| HelperFault::Garbage)?;
    Ok((status, answer))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

fn judge(status: ExitStatus, answer: &[u8]) -> Result<Option<Login>, HelperFault> {
    if !status.success() {
        let said = String::from_utf8_lossy(answer);
        return match said.trim_start().starts_with(NOT_FOUND) {
            true => Ok(None),
            false => Err(HelperFault::Failed(status)),
        };
    }
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| HelperFault::Garbage)?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(match answer.username.as_str() {
        TOKEN => Login {
            identity_token: Some(answer.secret),
            ..Login::default()
        },
        _ => Login {
            username: Some(answer.username),
            password: Some(answer.secret),
            identity_token: None,
        },
    }))
}

/// Kills a program with all that it started, and waits for its end.
async fn end(group: Group, child: &mut Child) {
    drop(group);
    // Whatever is not gone by then is reaped by the runtime.
    let _ = tokio::time::timeout(FAREWELL, child.wait()).await;
}

/// The processes of a program. They are ended with it, unless it ended well.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    /// Its number is no longer ours.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // An error means that it has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        /// A program; another process writes it, so that none of this one's
        /// other children can have it open for writing when it is run.
        fn program(&self, name: &str, script: &str) {
            let path = self.0.path().join(format!("docker-credential-{name}"));
            let status = std::process::Command::new("/bin/sh")
                .args([
                    "-c",
                    "printf '#!/bin/sh\n%s\n' \"$1\" >\"$2\" && chmod +x \"$2\"",
                    "write",
                    script,
                ])
                .arg(path)
                .status();
            assert!(status.unwrap().success());
        }

        async fn ask(&self, name: &str) -> Result<Option<Login>, HelperFault> {
            let program = locate(name, &[self.0.path().into()]).unwrap();
            ask(&program, "ghcr.io", LIMIT).await
        }
    }

    #[tokio::test]
    async fn a_program_is_told_the_registry_and_tells_a_login() {
        let folder = Folder::new();
        let script = r#"read -r registry || :; echo "{\"ServerURL\":\"$registry\",\"Username\":\"$1 $registry\",\"Secret\":\"hunter2\"}""#;
        folder.program("good", script);
        let login = folder.ask("good").await.unwrap();
        let expected = Login {
            username: Some("get ghcr.io".to_owned()),
            password: Some("hunter2".to_owned()),
            identity_token: None,
        };
        assert!(login == Some(expected));
        folder.program(
            "token",
            r#"echo '{"Username":"<token>","Secret":"hunter2"}'"#,
        );
        let expected = Login {
            identity_token: Some("hunter2".to_owned()),
            ..Login::default()
        };
        assert!(folder.ask("token").await.unwrap() == Some(expected));
        let none = "echo credentials not found in native keychain; exit 1";
        folder.program("none", none);
        assert!(folder.ask("none").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_program_that_misbehaves_is_told_of_without_its_words() {
        use ContainerErrorKind::{Host, Unavailable};
        let folder = Folder::new();
        for (name, script, kind, told) in [
            (
                "failing",
                "echo hunter2; echo hunter2 >&2; exit 3",
                Unavailable,
                "exit status 3",
            ),
            ("killed", "kill -9 $$", Unavailable, "signal 9"),
            (
                "garbage",
                "echo hunter2",
                Host,
                "could not be read as credentials",
            ),
            (
                "half",
                r#"echo '{"Username":"hunter2"}'"#,
                Host,
                "could not be read",
            ),
            ("huge", "yes hunter2", Host, "more than 64 KiB"),
        ] {
            folder.program(name, script);
            let Err(fault) = folder.ask(name).await else {
                panic!("{name} gave credentials");
            };
            let text = fault.to_string();
            assert_eq!(fault.kind(), kind, "{name}");
            assert!(text.contains(told) && !text.contains("hunter2"), "{text}");
        }
        let plain = folder.0.path().join("docker-credential-plain");
        std::fs::write(plain, "no program").unwrap();
        assert!(matches!(
            folder.ask("plain").await,
            Err(HelperFault::Start(_))
        ));
        let mistake = locate("nowhere", &["/usr/bin".into(), "/bin".into()]).unwrap_err();
        assert!(mistake.contains("docker-credential-nowhere, which is not in /usr/bin, /bin"));
    }

    #[tokio::test]
    async fn a_slow_program_is_killed_with_all_that_it_started() {
        let folder = Folder::new();
        let pids = folder.0.path().join("pids");
        let script = format!("sleep 1000 & echo $! $$ >{}; wait", pids.display());
        folder.program("slow", &script);
        let program = locate("slow", &[folder.0.path().into()]).unwrap();
        // It has begun before it is late.
        let asked = ask(&program, "ghcr.io", Duration::from_secs(2)).await;
        assert!(matches!(asked, Err(HelperFault::Slow(_))));
        let pids = std::fs::read_to_string(pids).unwrap();
        let mut pids = pids.split_whitespace();
        let child = pids.next().unwrap();
        // Its parent is dead, so whoever reaps it may take a moment; it runs no more.
        let state = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().unwrap_or_default().chars().next()
        };
        cutover_tests::wait::eventually("it is dead", Duration::from_secs(10), async || {
            matches!(state(child), None | Some('Z' | 'X'))
        })
        .await
        .unwrap();
        let own = pids.next().unwrap();
        assert!(
            !Path::new(&format!("/proc/{own}")).exists(),
            "it was reaped"
        );
    }
}
