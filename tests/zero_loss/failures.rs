//! What goes wrong around the proxy.

use std::collections::BTreeMap;

use anyhow::ensure;
use cutover_wire::proxy::{Refusal, Request};
use cutover_wire::table::{Split, Table, Target, Weight};

use crate::stage::{APP, FIRST, Stage};

const OTHER: &str = "v2";

/// Wrong tables, one after another.
pub(crate) async fn rejected(stage: &mut Stage) -> anyhow::Result<()> {
    let nobody = Target {
        id: "nobody".to_owned(),
        address: "127.0.0.1:0".parse()?,
    };
    let wrong: [fn(&mut Table, &Target); 6] = [
        |table, _| route(table).serving = Split::all_to("v9"),
        |table, _| {
            route(table).serving = Split::of(BTreeMap::from([(FIRST.to_owned(), Weight(1))]))
        },
        |table, nobody| pool(table).push(nobody.clone()),
        |table, _| pool(table).clear(),
        |table, _| route(table).path_prefix = "no path".to_owned(),
        |table, _| table.generation += 1,
    ];
    let before = stage.front.table().await?;
    for _ in 0..40 {
        stage.pause(5, 40).await;
        let number = stage.chance.between(0, wrong.len() as u64 - 1);
        let make = wrong[usize::try_from(number)?];
        let answer = stage.front.try_change(|table| make(table, &nobody)).await?;
        ensure!(answer.is_err(), "the proxy took wrong table {number}");
    }
    ensure!(
        stage.front.table().await? == before,
        "the table has changed"
    );
    stage.answers(100).await
}

fn route(table: &mut Table) -> &mut cutover_wire::table::Route {
    table.apps.get_mut(APP).expect("the app is in the table")
}

fn pool(table: &mut Table) -> &mut Vec<Target> {
    let pool = route(table).pools.get_mut(FIRST);
    &mut pool.expect("its release is in the table").targets
}

/// An agent that dies in the middle of its calls, and comes back each time.
pub(crate) async fn control_cut(stage: &mut Stage) -> anyhow::Result<()> {
    stage.start_release(OTHER).await?;
    for turn in 0..40 {
        stage.pause(5, 50).await;
        let serving = if turn % 2 == 0 { OTHER } else { FIRST };
        let mut table = stage.front.table().await?;
        let expected = table.generation;
        table.generation += 1;
        route(&mut table).serving = Split::all_to(serving);
        let request = match stage.chance.between(0, 2) {
            0 => Request::Statistics,
            _ => Request::Apply { expected, table },
        };
        // Often within the frame, at times behind it: then it counts.
        let size = stage.chance.between(0, 900);
        let talk = stage.front.talk().await?;
        talk.break_off(request, usize::try_from(size)?).await?;
        loop {
            let serve = |table: &mut Table| route(table).serving = Split::all_to(serving);
            match stage.front.try_change(serve).await? {
                Ok(()) => break,
                // The table of the call that was broken off came between.
                Err(Refusal::Generation { .. }) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }
    stage.answers(100).await
}

/// Targets that close their connections all the time, so that requests run into
/// the closes.
pub(crate) async fn closing(stage: &mut Stage) -> anyhow::Result<()> {
    stage.start_release(OTHER).await?;
    for serving in [OTHER, FIRST] {
        stage.pause(800, 1200).await;
        stage.serve(serving).await?;
    }
    stage.pause(400, 600).await;
    stage.answers(200).await
}

/// One of two targets is killed, and comes back; then the other.
pub(crate) async fn killed(stage: &mut Stage) -> anyhow::Result<()> {
    for turn in 0..3 {
        stage.pause(100, 300).await;
        stage.kill_one(turn).await?;
        stage.pause(100, 600).await;
        stage.start_one_again(turn).await?;
        stage.answers(50).await?;
    }
    Ok(())
}
