//! Every way in which a release can be bad, in every strategy, on real parts. It is
//! taken back for a reason that is told, and users notice no more than they must:
//! nothing before it had users, and then its own errors alone.

use std::time::Duration;

use anyhow::ensure;
use cutover_tests::image;
use cutover_tests::load::{Kind, Outcome, Phase, Record, Report, RunningLoad};
use cutover_tests::rig::{Rig, Setup, TABLES};

use crate::shapes::{BLUE_GREEN, CANARY, IN_PLACE, RED_BLACK, ROLLING, SHADOW, Shape};
use crate::traffic::print;

const DEADLINE: Duration = Duration::from_secs(60);

/// From the crash of a container until its watch has failed, and from the end of the
/// last shift until nobody is there: a look each, on a busy machine. The times of a
/// deploy are told in whole seconds from ten on.
const UNTIL_SEEN: Duration = Duration::from_secs(3);

/// What is wrong with a release, and what becomes of it.
struct Fault {
    release: &'static [(&'static str, &'static str)],
    told: &'static [&'static str],
    seen: Seen,
}

/// What users have to do with a bad release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Nobody is sent there.
    Never,
    /// It answers some with errors.
    Errors,
    /// It dies while it answers some.
    Crash,
}

const EXITS: Fault = Fault {
    release: &[("EXIT_AT_START", "no database at hand")],
    told: &["exited with 1", "error: no database at hand"],
    seen: Seen::Never,
};

const UNHEALTHY: Fault = Fault {
    release: &[("UNHEALTHY", "migrations are missing")],
    told: &["503", "migrations are missing"],
    seen: Seen::Never,
};

const ERRORS: Fault = Fault {
    release: &[("ERROR_RATE", "0.5")],
    told: &["requests failed, more than 5%"],
    seen: Seen::Errors,
};

const CRASHES: Fault = Fault {
    release: &[("CRASH_IN_USE_S", "1")],
    told: &["exited with 1", "error: crashing as asked to"],
    seen: Seen::Crash,
};

const HUNGRY: Fault = Fault {
    release: &[("MEMORY_MB", "400"), ("MEMORY_AFTER_S", "2.5")],
    told: &["out of memory", "taking 400 MB"],
    seen: Seen::Crash,
};

/// What is said of one that fails more than the old release beside it.
const COMPARED: &[&str] = &["v4 failed", "v1 beside it", "likelier"];

impl Fault {
    /// The same, found on copies.
    const fn before_users(self) -> Self {
        let seen = Seen::Never;
        Self { seen, ..self }
    }

    const fn told(self, told: &'static [&'static str]) -> Self {
        Self { told, ..self }
    }

    const fn release(self, release: &'static [(&'static str, &'static str)]) -> Self {
        Self { release, ..self }
    }

    /// The failures are those of the release, and no others.
    fn is_all_that_failed(&self, report: &Report, version: &str, told: &str) -> anyhow::Result<()> {
        match self.seen {
            Seen::Never => {
                report.ensure_none_failed()?;
                ensure!(report.versions() == ["1"], "{:?}", report.versions());
            }
            Seen::Errors => {
                ensure!(report.failed().count() > 0, "nobody saw it");
                for record in report.failed() {
                    let own = record.is_error_of_app();
                    ensure!(
                        own && record.version.as_deref() == Some(version),
                        "{record:?}"
                    );
                }
            }
            Seen::Crash => {
                let seen = report.versions().contains(&version);
                ensure!(seen, "nobody saw it: {:?}", report.versions());
                for record in report.failed() {
                    ensure!(is_of_a_crash(record), "{record:?}");
                }
                let at: Vec<_> = report.failed().map(|record| record.began).collect();
                if let (Some(first), Some(last)) = (at.first(), at.last()) {
                    let lasted = *last - *first;
                    let longest = UNTIL_SEEN + way_back(told);
                    ensure!(lasted < longest, "requests failed for {lasted:?}");
                }
            }
        }
        Ok(())
    }
}

/// From the failure of the watch to the last shift of the way back, as a deploy told
/// of it. Where replicas were stopped, they start again before they get users: that
/// takes what it takes on the machine.
fn way_back(told: &str) -> Duration {
    let at = |line: &str| line.trim().split_once("s ")?.0.parse().ok();
    let mut failed = told.lines().filter(|line| line.contains("watch failed"));
    let shifted = told.lines().rev();
    let mut shifted = shifted.filter(|line| line.contains("way back: shift done"));
    let times = (failed.next().and_then(at), shifted.next().and_then(at));
    let (Some(failed), Some(shifted)): (Option<f64>, Option<f64>) = times else {
        return Duration::ZERO;
    };
    Duration::from_secs_f64((shifted - failed).max(0.0))
}

/// What was cut off was being answered by the release that died. Its network died
/// with it, so of what was just on the way there not even a reset comes back. All
/// others got an answer from the proxy.
pub(crate) fn is_of_a_crash(record: &Record) -> bool {
    let Outcome::Failed { phase, reason } = &record.outcome else {
        return true;
    };
    let vanished = *phase == Phase::Head && reason == "timed out";
    let answered = *phase == Phase::Status && (reason == "502" || reason == "503");
    vanished || answered || *phase == Phase::Body
}

/// A rig on which one bad release comes after the other, always over the good v1.
struct Host {
    shape: Shape,
    rig: Rig,
    deploys: usize,
}

impl Host {
    async fn start(shape: Shape, app: &'static str) -> anyhow::Result<Self> {
        let shape = shape.named(app);
        let rig = Rig::start(app, &setup(&shape)).await?;
        let one = image::build(app, &[("VERSION", "1")]).await?;
        rig.must_deploy(&one).await?;
        let deploys = 1;
        Ok(Self {
            shape,
            rig,
            deploys,
        })
    }

    fn load(&self) -> anyhow::Result<RunningLoad> {
        let load = self.rig.load()?;
        let load = load.users(Kind::KeepAlive, 3).users(Kind::Fresh, 2);
        let load = load.users(Kind::Post, 1);
        load.pause(Duration::from_millis(10)).start()
    }

    /// Deploys the bad release; afterwards all is as before.
    async fn takes_back(&mut self, fault: &Fault) -> anyhow::Result<Report> {
        self.deploys += 1;
        let version = self.deploys.to_string();
        let mut environment = vec![("VERSION", version.as_str())];
        environment.extend(fault.release);
        let image = image::build(self.shape.app, &environment).await?;
        let load = self.load()?;
        load.more_ok(50, DEADLINE).await?;
        let ran = self.rig.deploy(&image).await?;
        load.more_ok(50, DEADLINE).await?;
        let report = load.stop().await?;
        let name = format!("{}: {:?}", self.shape.app, fault.release);
        print(&name, &report.summary(&[]));
        println!("{}", ran.text);

        let code = if fault.seen == Seen::Never { 1 } else { 3 };
        ensure!(ran.code == code, "{name}: {}: {}", ran.code, ran.text);
        for part in fault.told.iter().chain(&["v1 serves"]) {
            ensure!(
                ran.text.contains(part),
                "{name}: no {part:?} in:\n{}",
                ran.text
            );
        }
        fault.is_all_that_failed(&report, &version, &ran.text)?;
        let status = self.rig.status().await?;
        let outcome = match fault.seen {
            Seen::Never => "failed",
            Seen::Errors | Seen::Crash => "rolled_back",
        };
        ensure!(status["last"]["outcome"] == outcome, "{name}: {status:#}");
        ensure!(status["serving"]["number"] == 1, "{name}: {status:#}");
        let containers = self.rig.containers().await?;
        let replicas = 0..self.shape.replicas;
        let old: Vec<_> = replicas
            .map(|replica| format!("cutover-{}-v1-{replica}", self.shape.app))
            .collect();
        ensure!(containers == old, "{name}: {containers:?}");
        self.rig.has_a_plain_route().await?;
        Ok(report)
    }

    /// A release that takes its time to start is none of these.
    async fn promotes_the_slow(mut self) -> anyhow::Result<()> {
        self.deploys += 1;
        let version = self.deploys.to_string();
        let slow = [("VERSION", version.as_str()), ("SLOW_START_S", "2")];
        let image = image::build(self.shape.app, &slow).await?;
        let load = self.load()?;
        load.more_ok(50, DEADLINE).await?;
        self.rig.must_deploy(&image).await?;
        load.more_ok(50, DEADLINE).await?;
        let report = load.stop().await?;
        report.ensure_none_failed()?;
        ensure!(
            report.versions().last() == Some(&version.as_str()),
            "{:?}",
            report.versions()
        );
        Ok(())
    }
}

/// Room for the app and not for what a hungry one takes.
fn setup(shape: &Shape) -> Setup {
    let common = TABLES.replace("deadline = \"20s\"", "deadline = \"4s\"");
    let common = common.replace("window = \"2s\"", "window = \"4s\"");
    let tables = format!("{common}{}[limits]\nmemory = \"48MiB\"\n", shape.tables);
    Setup {
        app_top: shape.top.to_owned(),
        app_tables: Some(tables),
        ..Setup::default()
    }
}

/// Faults that are seen before the first user, then those that users see, then a
/// slow release, which is good.
async fn takes_back_all(shape: Shape, app: &'static str, faults: &[Fault]) -> anyhow::Result<()> {
    let mut host = Host::start(shape, app).await?;
    for fault in faults {
        host.takes_back(fault).await?;
    }
    host.promotes_the_slow().await
}

#[tokio::test]
async fn blue_green_takes_back_what_is_bad_before_and_after_it_has_users() -> anyhow::Result<()> {
    let all = [EXITS, UNHEALTHY, ERRORS, CRASHES, HUNGRY];
    takes_back_all(BLUE_GREEN, "badblue", &all).await
}

#[tokio::test]
async fn red_black_takes_back_what_is_bad_before_and_after_it_has_users() -> anyhow::Result<()> {
    let all = [EXITS, UNHEALTHY, ERRORS, CRASHES, HUNGRY];
    takes_back_all(RED_BLACK, "badblack", &all).await
}

#[tokio::test]
async fn a_canary_takes_back_what_is_bad_before_and_after_it_has_users() -> anyhow::Result<()> {
    let compared = ERRORS.told(COMPARED);
    let mut host = Host::start(CANARY, "badbird").await?;
    host.takes_back(&EXITS).await?;
    host.takes_back(&UNHEALTHY).await?;
    let report = host.takes_back(&compared).await?;
    let (failed, all) = (report.failed().count(), report.records.len());
    // Most users never saw it.
    assert!(failed * 10 < all, "{failed} of {all} requests failed");
    host.takes_back(&CRASHES).await?;
    host.takes_back(&HUNGRY).await?;
    // When it has had all users for a while.
    let late = CRASHES.release(&[("CRASH_IN_USE_S", "6")]);
    host.takes_back(&late).await?;
    host.promotes_the_slow().await
}

#[tokio::test]
async fn a_rolling_deploy_takes_back_what_is_bad_in_its_first_container() -> anyhow::Result<()> {
    let late = CRASHES.release(&[("CRASH_IN_USE_S", "5.5")]);
    let errors = ERRORS.told(COMPARED);
    let all = [EXITS, UNHEALTHY, errors, CRASHES, HUNGRY, late];
    takes_back_all(ROLLING, "badroll", &all).await
}

#[tokio::test]
async fn a_bad_release_in_place_gives_its_place_back_and_nobody_in_the_queue_is_lost()
-> anyhow::Result<()> {
    let all = [EXITS, UNHEALTHY, ERRORS, CRASHES, HUNGRY];
    takes_back_all(IN_PLACE, "badplace", &all).await
}

#[tokio::test]
async fn a_shadow_takes_back_what_is_bad_for_copies_and_no_user_sees_it() -> anyhow::Result<()> {
    let late = CRASHES.release(&[("CRASH_IN_USE_S", "5.5")]);
    let errors = ERRORS.before_users().told(&["copies", "another status"]);
    let all = [
        EXITS,
        UNHEALTHY,
        errors,
        CRASHES.before_users(),
        HUNGRY.before_users(),
        // On copies it was well.
        late,
    ];
    takes_back_all(SHADOW, "badshade", &all).await
}

#[tokio::test]
async fn a_release_that_crashes_after_20_seconds_under_traffic_is_taken_back() -> anyhow::Result<()>
{
    let mut host = Host::start(BLUE_GREEN, "latecrash").await?;
    host.rig.kill_agent().await?;
    let mut patient = setup(&host.shape);
    patient.app_tables = Some(TABLES.replace("window = \"2s\"", "window = \"25s\""));
    host.rig.configure(&patient)?;
    host.rig.start_agent().await?;
    let late = CRASHES.release(&[("CRASH_IN_USE_S", "20")]);
    let report = host.takes_back(&late).await?;
    // Users were there for nearly all of that time.
    let of_new = report
        .records
        .iter()
        .filter(|one| one.version.as_deref() == Some("2"));
    let at: Vec<_> = of_new.map(|record| record.began).collect();
    let (Some(first), Some(last)) = (at.first(), at.last()) else {
        anyhow::bail!("nobody saw it");
    };
    assert!(
        *last - *first > Duration::from_secs(15),
        "{first:?} to {last:?}"
    );
    Ok(())
}
