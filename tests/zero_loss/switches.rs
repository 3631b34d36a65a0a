//! What an agent does to the table of a healthy app.

use std::time::Duration;

use cutover_wire::table::{Park, Split, WHOLE, Weight};

use crate::stage::{APP, CUT, DRAIN, FIRST, Stage};

const OTHER: &str = "v2";

/// Twenty switches; some of the releases that were left are drained, stopped
/// and replaced by new ones.
pub(crate) async fn switch(stage: &mut Stage) -> anyhow::Result<()> {
    stage.start_release(OTHER).await?;
    let (mut serving, mut idle) = (FIRST, OTHER);
    let turns = [stage.chance.between(3, 9), stage.chance.between(11, 18)];
    for turn in 1..=20 {
        stage.pause(20, 100).await;
        (serving, idle) = (idle, serving);
        stage.serve(serving).await?;
        if turns.contains(&turn) {
            stage.retire(idle).await?;
            stage.start_release(idle).await?;
        }
    }
    stage.answers(100).await
}

/// 5, 25, 50 and 100 percent, then the old release goes.
pub(crate) async fn weights(stage: &mut Stage) -> anyhow::Result<()> {
    let (mut serving, mut new) = (FIRST, OTHER);
    for _ in 0..2 {
        stage.start_release(new).await?;
        for percent in [5, 25, 50] {
            let weight = percent * (WHOLE / 100);
            let shares = [(serving, WHOLE - weight), (new, weight)];
            let shares = shares.map(|(pool, weight)| (pool.to_owned(), Weight(weight)));
            let split = Split::of(shares.into());
            stage.change(|route| route.serving = split).await?;
            stage.pause(100, 300).await;
        }
        stage.serve(new).await?;
        stage.retire(serving).await?;
        stage.pause(50, 150).await;
        (serving, new) = (new, serving);
    }
    stage.answers(100).await
}

/// The new release serves, the old one drains, and is called back before it
/// is empty.
pub(crate) async fn rollback(stage: &mut Stage) -> anyhow::Result<()> {
    for _ in 0..3 {
        stage.start_release(OTHER).await?;
        stage.pause(50, 150).await;
        stage.serve(OTHER).await?;
        // Event streams and WebSockets keep the old release from being empty.
        let mut talk = stage.front.talk().await?;
        let request = cutover_wire::proxy::Request::Drain {
            app: APP.to_owned(),
            targets: stage.ids(FIRST),
            deadline_ms: stage.chance.between(400, 900),
            cut: Some(CUT),
            of_successor: false,
        };
        let drain = tokio::spawn(async move { talk.ask(request, 10 * DRAIN).await });
        stage.pause(5, 300).await;
        stage.serve(FIRST).await?;
        // What it answers is of no interest, but that it does.
        drain.await??;
        stage.retire(OTHER).await?;
    }
    stage.answers(100).await
}

/// The host has no room for two releases: users wait while one goes and the
/// next comes.
pub(crate) async fn park(stage: &mut Stage) -> anyhow::Result<()> {
    let (mut serving, mut new) = (FIRST, OTHER);
    for _ in 0..2 {
        stage.pause(100, 200).await;
        let park = Park {
            max_requests: 1_000,
            max_bytes: 64 << 20,
            max_age_ms: u64::try_from(Duration::from_secs(10).as_millis())?,
        };
        stage.change(|route| route.park = Some(park)).await?;
        stage.retire(serving).await?;
        let pool = stage.start_targets(new).await?;
        let change = |route: &mut cutover_wire::table::Route| {
            route.serving = Split::all_to(new);
            route.pools = [(new.to_owned(), pool)].into();
            route.park = None;
        };
        stage.change(change).await?;
        stage.answers(100).await?;
        (serving, new) = (new, serving);
    }
    Ok(())
}
