//! The bar: shifts under full load cost nobody anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::ensure;
use cutover_tests::image;
use cutover_tests::load::{Kind, Report, Summary};
use cutover_tests::rig::{Rig, Setup, TABLES};

/// Requests of the bar.
const REQUESTS: u64 = 100_000;

/// Each user asks one request after the other, so what one user sees must
/// follow the order in which releases took over.
pub(crate) fn ensure_in_order(report: &Report, order: &[&str]) -> anyhow::Result<()> {
    let mut seen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in &report.records {
        let Some(version) = record.version.as_deref() else {
            continue;
        };
        let changes = seen.entry(&record.user).or_default();
        if changes.last() != Some(&version) {
            changes.push(version);
        }
    }
    for (user, changes) in seen {
        let mut rest = order.iter();
        ensure!(
            changes
                .iter()
                .all(|version| rest.any(|next| next == version)),
            "the user {user} saw {changes:?}, not in the order of {order:?}"
        );
    }
    Ok(())
}

/// The figures of a load; the harness shows them when it is told to.
pub(crate) fn print(name: &str, summary: &Summary) {
    println!("--- {name}\n{summary}");
}

#[tokio::test]
async fn three_shifts_under_100_000_requests_lose_fail_and_double_none() -> anyhow::Result<()> {
    let setup = Setup {
        app_tables: Some(TABLES.replace("window = \"2s\"", "window = \"5s\"")),
        ..Setup::default()
    };
    let rig = Rig::start("bar", &setup).await?;
    let mut images = Vec::new();
    for version in ["1", "2", "3"] {
        images.push(image::build("bar", &[("VERSION", version)]).await?);
    }
    rig.must_deploy(&images[0]).await?;

    let load = rig
        .load()?
        .users(Kind::KeepAlive, 4)
        .users(Kind::Fresh, 3)
        .users(Kind::Post, 3)
        .users(Kind::WebSocket, 2)
        .users(Kind::Events, 4)
        .pause(Duration::ZERO)
        .body_bytes(1024)
        .start()?;
    let most = Duration::from_secs(60);
    load.more_ok(1_000, most).await?;
    rig.must_deploy(&images[1]).await?;
    let rollback = rig.run(&["rollback", "--app", "bar"]).await?;
    ensure!(rollback.code == 0, "{}", rollback.text);
    // No user is on v2 any more; the next deploy removes it.
    let mut journals = vec![rig.journal("cutover-bar-v2-0").await?];
    rig.must_deploy(&images[2]).await?;
    let left = REQUESTS.saturating_sub(load.ok() + load.failed());
    load.more_ok(left + 1_000, most).await?;
    let report = load.stop().await?;
    for container in rig.containers().await? {
        journals.push(rig.journal(&container).await?);
    }

    let summary = report.summary(&journals);
    print("three shifts", &summary);
    report.ensure_none_failed()?;
    assert!(summary.sent as u64 >= REQUESTS, "{summary}");
    assert_eq!(summary.ok, summary.sent, "{summary}");
    assert_eq!(summary.lost, Vec::<String>::new(), "{summary}");
    assert_eq!(summary.duplicated, Vec::<String>::new(), "{summary}");
    assert_eq!(summary.kinds.len(), 5, "{summary}");
    ensure_in_order(&report, &["1", "2", "1", "3"])?;
    // Whatever kind of connection: it lived on, or came to the next release.
    for kind in summary.kinds.keys() {
        let of_kind = report.records.iter().filter(|one| one.kind == *kind);
        let versions: BTreeSet<_> = of_kind.filter_map(|one| one.version.as_deref()).collect();
        let all = match kind {
            // A tunnel stays where it is for as long as its container lives.
            Kind::WebSocket => BTreeSet::from(["1"]),
            _ => BTreeSet::from(["1", "2", "3"]),
        };
        assert_eq!(versions, all, "{kind:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_websocket_moves_on_when_its_release_retires() -> anyhow::Result<()> {
    let rig = Rig::start("tunnel", &Setup::default()).await?;
    let one = image::build("tunnel", &[("VERSION", "1")]).await?;
    let two = image::build("tunnel", &[("VERSION", "2")]).await?;
    let three = image::build("tunnel", &[("VERSION", "3")]).await?;
    rig.must_deploy(&one).await?;
    let load = rig.load()?.users(Kind::WebSocket, 3).start()?;
    let most = Duration::from_secs(20);
    load.more_ok(50, most).await?;
    rig.must_deploy(&two).await?;
    // Retires v1, on which the users still are.
    rig.must_deploy(&three).await?;
    load.more_ok(50, most).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    ensure_in_order(&report, &["1", "2", "3"])?;
    let last = report.records.last().and_then(|one| one.version.as_deref());
    assert_ne!(last, Some("1"));
    assert_eq!(
        rig.containers().await?,
        ["cutover-tunnel-v2-0", "cutover-tunnel-v3-0"]
    );
    Ok(())
}
