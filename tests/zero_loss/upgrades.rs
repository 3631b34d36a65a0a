//! One process of the proxy takes the place of another.

use anyhow::{Context as _, ensure};
use cutover_tests::front::{holds, listening_inode};
use cutover_tests::process::{Process, Signal};

use crate::stage::{DEADLINE, FIRST, Stage};

const OTHER: &str = "v2";

/// The old process hands its listeners over when it is asked for them.
pub(crate) async fn takeover(stage: &mut Stage) -> anyhow::Result<()> {
    stage.start_release(OTHER).await?;
    for serving in [OTHER, FIRST] {
        stage.pause(100, 300).await;
        let old = replace(stage).await?;
        // What the old process still carries follows the new table, too.
        stage.pause(5, 100).await;
        stage.serve(serving).await?;
        ends(stage, &old).await?;
    }
    stage.answers(100).await
}

/// Two processes share a socket of systemd, and the old one is told to go.
pub(crate) async fn hand_over(stage: &mut Stage) -> anyhow::Result<()> {
    stage.start_release(OTHER).await?;
    for serving in [OTHER, FIRST] {
        stage.pause(100, 300).await;
        let old = replace(stage).await?;
        stage.pause(5, 100).await;
        old.signal(Signal::TERM)?;
        stage.pause(5, 100).await;
        stage.serve(serving).await?;
        ends(stage, &old).await?;
    }
    stage.answers(100).await
}

/// A new process on the same socket.
async fn replace(stage: &mut Stage) -> anyhow::Result<Process> {
    let address = stage.front.address;
    let before = listening_inode(address)?;
    let old = stage.succeed().await?;
    let after = listening_inode(address).context("after the take-over")?;
    ensure!(before == after, "the socket is another one");
    let new = stage.front.process().pid();
    ensure!(
        holds(new, after)?,
        "the new process does not hold the socket"
    );
    Ok(old)
}

/// The old process has served what it had, and ends.
async fn ends(stage: &mut Stage, old: &Process) -> anyhow::Result<()> {
    let status = old.ended(DEADLINE).await?;
    ensure!(status.success(), "the old process ended with {status}");
    if old.log().contains("panicked") {
        stage.trouble("the old process panicked".to_owned());
    }
    Ok(())
}
