//! Releases that are no good: the old one serves throughout, and the command
//! line says what was wrong.

use std::time::Duration;

use cutover_tests::host::docker;
use cutover_tests::image;
use cutover_tests::load::{Kind, Outcome, Phase, Report};
use cutover_tests::rig::{Ran, Rig, Setup, TABLES};

use crate::traffic::{ensure_in_order, print};

const DEADLINE: Duration = Duration::from_secs(30);

/// What a second release is, and what is to become of it.
struct Case<'a> {
    app: &'a str,
    tables: &'a str,
    release: &'a [(&'a str, &'a str)],
    code: i32,
    told: &'a [&'a str],
}

/// What the users of a case saw.
struct Seen {
    rig: Rig,
    report: Report,
}

impl Case<'_> {
    /// Deploys a good release, then this one, under a load.
    async fn happens(&self) -> anyhow::Result<Seen> {
        let app = self.app;
        let setup = Setup {
            app_tables: Some(self.tables.to_owned()),
            ..Setup::default()
        };
        let rig = Rig::start(app, &setup).await?;
        let one = image::build(app, &[("VERSION", "1")]).await?;
        let mut environment = vec![("VERSION", "2")];
        environment.extend(self.release);
        let two = image::build(app, &environment).await?;
        rig.must_deploy(&one).await?;
        let load = rig.load()?.users_of_every_kind();
        let load = load.pause(Duration::from_millis(10)).start()?;
        load.more_ok(50, DEADLINE).await?;
        let ran = rig.deploy(&two).await?;
        load.more_ok(50, DEADLINE).await?;
        let report = load.stop().await?;
        self.told(&ran);
        // Deploys that fail must not fill the disk.
        let images = docker(&["image", "ls", "--digests", "--format", "{{.Digest}}"]).await?;
        assert!(images.contains(&one.digest), "{images}");
        assert_eq!(images.contains(&two.digest), self.code == 0, "{images}");
        Ok(Seen { rig, report })
    }

    fn told(&self, ran: &Ran) {
        assert_eq!(ran.code, self.code, "{}", ran.text);
        for part in self.told {
            assert!(ran.text.contains(part), "{part:?} is not in:\n{}", ran.text);
        }
    }

    /// No user ever saw the release.
    async fn is_never_seen(&self) -> anyhow::Result<()> {
        let Seen { rig, report } = self.happens().await?;
        report.ensure_none_failed()?;
        assert_eq!(report.versions(), ["1"]);
        self.is_gone(&rig, "failed").await
    }

    async fn is_gone(&self, rig: &Rig, outcome: &str) -> anyhow::Result<()> {
        let container = format!("cutover-{}-v1-0", self.app);
        assert_eq!(rig.containers().await?, [container]);
        assert_eq!(rig.version().await?, "1");
        let status = rig.status().await?;
        assert_eq!(status["last"]["outcome"], outcome, "{status:#}");
        assert_eq!(status["serving"]["number"], 1, "{status:#}");
        Ok(())
    }
}

fn impatient() -> String {
    TABLES.replace("deadline = \"20s\"", "deadline = \"3s\"")
}

#[tokio::test]
async fn a_release_that_exits_at_start_is_never_seen() -> anyhow::Result<()> {
    let case = Case {
        app: "exits",
        tables: TABLES,
        release: &[("EXIT_AT_START", "no database at hand")],
        code: 1,
        told: &["exited", "error: no database at hand", "v1 serves"],
    };
    case.is_never_seen().await
}

#[tokio::test]
async fn a_release_that_is_never_healthy_is_never_seen() -> anyhow::Result<()> {
    let case = Case {
        app: "unhealthy",
        tables: &impatient(),
        release: &[("UNHEALTHY", "migrations are missing")],
        code: 1,
        told: &["503", "migrations are missing", "listening on", "v1 serves"],
    };
    case.is_never_seen().await
}

/// A gate that needs no HTTP; the release before passes it.
fn asked(app: &str, with: &str) -> String {
    let tables = TABLES.replace("path = \"/healthz\"", with);
    assert_ne!(tables, TABLES, "{app} is asked in another way");
    tables.replace("deadline = \"20s\"", "deadline = \"4s\"")
}

#[tokio::test]
async fn a_release_that_takes_no_connection_is_never_seen() -> anyhow::Result<()> {
    let case = Case {
        app: "unconnected",
        tables: &asked("unconnected", "tcp = true"),
        release: &[("SLOW_START_S", "600")],
        code: 1,
        told: &["within 4s: TCP: connection refused", "v1 serves"],
    };
    case.is_never_seen().await
}

#[tokio::test]
async fn a_release_whose_own_command_fails_is_never_seen() -> anyhow::Result<()> {
    let command = "command = [\"/app\", \"ready\"]";
    let case = Case {
        app: "commanded",
        tables: &asked("commanded", command),
        release: &[("UNHEALTHY", "no connection to the database")],
        code: 1,
        told: &["/app: exit code 1", "v1 serves"],
    };
    case.is_never_seen().await
}

#[tokio::test]
async fn a_release_whose_port_never_opens_is_never_seen() -> anyhow::Result<()> {
    let case = Case {
        app: "refused",
        tables: &impatient(),
        release: &[("SLOW_START_S", "600")],
        code: 1,
        told: &["refused", "starting version=2", "v1 serves"],
    };
    case.is_never_seen().await
}

#[tokio::test]
async fn a_release_out_of_memory_is_never_seen_and_says_so() -> anyhow::Result<()> {
    let tables = format!("{TABLES}[limits]\nmemory = \"48MiB\"\n");
    let case = Case {
        app: "hungry",
        tables: &tables,
        release: &[("MEMORY_MB", "400"), ("UNHEALTHY", "not yet")],
        code: 1,
        told: &["out of memory", "taking 400 MB", "v1 serves"],
    };
    case.is_never_seen().await
}

#[tokio::test]
async fn a_release_that_starts_slowly_is_promoted_within_its_deadline() -> anyhow::Result<()> {
    let case = Case {
        app: "slow",
        tables: TABLES,
        release: &[("SLOW_START_S", "3")],
        code: 0,
        told: &["v2 serves"],
    };
    let Seen { rig, report } = case.happens().await?;
    report.ensure_none_failed()?;
    ensure_in_order(&report, &["1", "2"])?;
    assert_eq!(rig.version().await?, "2");
    Ok(())
}

#[tokio::test]
async fn errors_under_traffic_bring_the_old_release_back() -> anyhow::Result<()> {
    let case = Case {
        app: "errors",
        tables: TABLES,
        release: &[("ERROR_RATE", "0.5")],
        code: 3,
        told: &["requests failed, more than 5%", "v1 serves"],
    };
    let Seen { rig, report } = case.happens().await?;
    let failed: Vec<_> = report.failed().collect();
    assert!(!failed.is_empty(), "nobody saw the bad release");
    for record in failed {
        // The app's own answers; no connection was lost.
        assert_eq!(record.version.as_deref(), Some("2"), "{record:?}");
        let own = Outcome::Failed {
            phase: Phase::Status,
            reason: "500".to_owned(),
        };
        assert_eq!(record.outcome, own);
    }
    ensure_in_order(&report, &["1", "2", "1"])?;
    case.is_gone(&rig, "rolled_back").await
}

#[tokio::test]
async fn a_crash_under_traffic_brings_the_old_release_back() -> anyhow::Result<()> {
    let tables = TABLES.replace("window = \"2s\"", "window = \"20s\"");
    let case = Case {
        app: "crashes",
        tables: &tables,
        release: &[("CRASH_IN_USE_S", "1")],
        code: 3,
        told: &[
            "why      cutover-crashes-v2-0 exited with 1",
            "error: crashing as asked to",
            "v1 serves",
        ],
    };
    let Seen { rig, report } = case.happens().await?;
    print("a crash", &report.summary(&[]));
    let at: Vec<_> = report.failed().map(|record| record.began).collect();
    if let (Some(first), Some(last)) = (at.first(), at.last()) {
        // From the crash until it was seen.
        assert!(
            *last - *first < Duration::from_secs(2),
            "{first:?} to {last:?}"
        );
    }
    for record in report.failed() {
        let Outcome::Failed { phase, reason } = &record.outcome else {
            continue;
        };
        // What was cut off was being answered by the release that died. Its
        // network died with it, so of what was just on the way there not even
        // a reset comes back. All others got an answer from the proxy.
        let cut_off = record.kind == Kind::Events || record.kind == Kind::WebSocket;
        let vanished = *phase == Phase::Head && reason == "timed out";
        let answered = *phase == Phase::Status && (reason == "502" || reason == "503");
        assert!(cut_off || vanished || answered, "{record:?}");
    }
    case.is_gone(&rig, "rolled_back").await
}

#[tokio::test]
async fn an_image_that_is_unknown_or_foreign_moves_nothing() -> anyhow::Result<()> {
    let app = "strange";
    let rig = Rig::start(app, &Setup::default()).await?;
    let one = image::build(app, &[("VERSION", "1")]).await?;
    let foreign = image::build("stranger", &[("VERSION", "9")]).await?;
    rig.must_deploy(&one).await?;
    let load = rig.load()?.users_of_every_kind().start()?;

    let mut unknown = one.clone();
    unknown.digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let ran = rig.deploy(&unknown).await?;
    assert_eq!(ran.code, 1, "{}", ran.text);
    for part in [
        "asking the registry for",
        "0123456789abcdef",
        "v1 serves",
        "hint",
    ] {
        assert!(ran.text.contains(part), "{part:?} is not in:\n{}", ran.text);
    }

    assert!(!ran.text.contains("pull"), "{}", ran.text);

    let before = rig.status().await?;
    let ran = rig.deploy(&foreign).await?;
    assert_eq!(ran.code, 4, "{}", ran.text);
    for part in ["/strange only", "/stranger", "hint"] {
        assert!(ran.text.contains(part), "{part:?} is not in:\n{}", ran.text);
    }
    // It was refused before it was a deploy.
    assert_eq!(rig.status().await?, before);

    load.more_ok(20, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    assert_eq!(report.versions(), ["1"]);
    assert_eq!(rig.containers().await?, ["cutover-strange-v1-0"]);
    Ok(())
}
