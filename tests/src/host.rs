//! The test host a test runs in; see `tests/host/run`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

/// The throw-away host that `tests/host/run` made.
#[derive(Debug)]
pub struct Host {
    /// Its registry, as it stands in an image's name.
    pub registry: String,
    /// A folder for files of tests, gone with the host.
    pub folder: PathBuf,
}

/// The test host.
///
/// # Panics
///
/// There is none: a test that needs one must fail, not pass by not running.
pub fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    let variable = |name: &str| {
        std::env::var(name).unwrap_or_else(|_| {
            panic!("no test host ({name} is not set): run through `make test` or `tests/host/run`")
        })
    };
    HOST.get_or_init(|| {
        variable("DOCKER_HOST");
        Host {
            registry: variable("CUTOVER_TEST_REGISTRY"),
            folder: variable("CUTOVER_TEST_DIR").into(),
        }
    })
}

impl Host {
    /// A new folder of one test's own; `name` is that of the test.
    ///
    /// # Errors
    ///
    /// It exists already or cannot be made.
    pub fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }
}

/// Runs the Docker client against the test host's engine and gives its output.
///
/// # Errors
///
/// It failed; the error says what it printed.
pub async fn docker(arguments: &[&str]) -> anyhow::Result<String> {
    docker_with_input(arguments, None).await
}

pub(crate) async fn docker_with_input(
    arguments: &[&str],
    input: Option<&Path>,
) -> anyhow::Result<String> {
    host();
    let stdin = match input {
        None => Stdio::null(),
        Some(file) => std::fs::File::open(file)
            .with_context(|| format!("opening {}", file.display()))?
            .into(),
    };
    let output = Command::new("docker")
        .args(arguments)
        .stdin(stdin)
        .kill_on_drop(true)
        .output()
        .await
        .context("starting the docker client")?;
    ensure!(
        output.status.success(),
        "docker {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The folder of the running program's build, where its siblings are.
fn build_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    // A test is in `deps`, a program beside it.
    let folder = program
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"));
    Ok(folder.context("a program in no folder")?.to_owned())
}

/// A program of the workspace, as built for this test run.
///
/// # Errors
///
/// It was not built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let program = build_folder()?.join(name);
    ensure!(
        program.exists(),
        "{} is not built: cargo build --workspace",
        program.display()
    );
    Ok(program)
}

/// The demo app's static binary.
///
/// # Errors
///
/// It was not built.
pub fn demo_app() -> anyhow::Result<PathBuf> {
    let build = build_folder()?;
    let target = build.parent().context("a build in no folder")?;
    let app = target.join("x86_64-unknown-linux-musl/app/cutover-demo-app");
    ensure!(app.exists(), "{} is not built: make build", app.display());
    Ok(app)
}
