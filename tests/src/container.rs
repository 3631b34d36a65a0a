//! Containers that a test runs itself. Those that Cutover runs are Cutover's.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use crate::host::docker;
use crate::request::get;
use crate::wait::eventually;

/// A running container. Dropping it removes it and prints its log, which shows
/// when the test fails.
#[derive(Debug)]
pub struct Container {
    id: String,
}

impl Container {
    /// Runs `image` with more arguments of `docker run`, such as `--memory=32m`.
    ///
    /// # Errors
    ///
    /// The engine could not start it.
    pub async fn run(image: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut all = vec!["run", "--detach"];
        all.extend(arguments);
        all.push(image);
        let id = docker(&all).await?;
        Ok(Self { id })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// One value of `docker inspect`, by a Go template such as `{{.State.Pid}}`.
    ///
    /// # Errors
    ///
    /// The engine or the template.
    pub async fn inspect(&self, template: &str) -> anyhow::Result<String> {
        docker(&["inspect", "--format", template, &self.id]).await
    }

    /// Where its app listens, on the engine's bridge.
    ///
    /// # Errors
    ///
    /// It has no address, because it does not run.
    pub async fn address(&self) -> anyhow::Result<SocketAddr> {
        let ip = self
            .inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
            .await?;
        let ip: IpAddr = ip.parse().context("the container has no address")?;
        Ok(SocketAddr::from((ip, 8080)))
    }

    /// Its address, once the app there answers anything at all.
    ///
    /// # Errors
    ///
    /// It does not within ten seconds.
    pub async fn answering(&self) -> anyhow::Result<SocketAddr> {
        eventually(
            "the container answers",
            Duration::from_secs(10),
            async || {
                let address = self.address().await?;
                get(address, "/healthz").await.map(|_| address)
            },
        )
        .await
    }

    /// What it wrote so far, errors included.
    ///
    /// # Errors
    ///
    /// The engine cannot say.
    pub async fn logs(&self) -> anyhow::Result<String> {
        docker(&["logs", &self.id]).await
    }

    /// Its exit code, once it has ended.
    ///
    /// # Errors
    ///
    /// It still runs after `deadline`.
    pub async fn exit_code(&self, deadline: Duration) -> anyhow::Result<i32> {
        eventually("the container ends", deadline, async || {
            let state = self
                .inspect("{{.State.Status}} {{.State.ExitCode}}")
                .await?;
            match state.split_once(' ') {
                Some(("exited", code)) => Ok(code.parse()?),
                _ => anyhow::bail!("it is {state}"),
            }
        })
        .await
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let run = |arguments: &[&str]| Command::new("docker").args(arguments).output();
        if let Ok(logs) = run(&["logs", &self.id]) {
            let text = String::from_utf8_lossy(&logs.stdout);
            crate::process::print_log(&format!("container {}", self.id), &text);
        }
        // The host ends every container; this one only ends early.
        let _ = run(&["rm", "--force", "--volumes", &self.id]);
    }
}
