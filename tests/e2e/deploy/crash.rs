//! The agent dies, at any moment and for any time, and no user notices.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cutover_tests::image;
use cutover_tests::load::Kind;
use cutover_tests::rig::{Rig, Setup, TABLES};

use crate::traffic::{ensure_in_order, print};

/// How often the agent is killed while it deploys.
const KILLS: u32 = 20;

/// And in one deploy at the most: a step is given up after ten deaths.
const KILLS_OF_A_DEPLOY: u32 = 5;

const DEADLINE: Duration = Duration::from_secs(60);

/// Chance that can be repeated: `CUTOVER_TEST_SEED` is the seed to repeat.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let seed = match std::env::var("CUTOVER_TEST_SEED") {
            Ok(seed) => seed.parse()?,
            Err(_) => getrandom::u64()?,
        };
        println!("CUTOVER_TEST_SEED={seed}");
        Ok(Self(seed))
    }

    /// A time below `most`, by SplitMix64.
    pub(crate) fn below(&mut self, most: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(mixed % micros.max(1))
    }
}

/// A strategy in whose deploys the agent is killed.
struct Strategy {
    app: &'static str,
    top: &'static str,
    /// Tables that are its own, beside a short gate and a short watch.
    tables: &'static str,
    replicas: usize,
    after: After,
    users: Users,
    /// A deploy takes about this long, so that a kill can come anywhere in it.
    takes: Duration,
}

/// What becomes of the old release in a deploy that goes well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    StandsBy,
    IsGone,
}

/// How users come from one release to the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Users {
    AtOnce,
    /// Whoever brings no cookie back may be sent to either one meanwhile.
    ByAndBy,
}

impl Strategy {
    fn setup(&self) -> Setup {
        let common = TABLES.replace("window = \"2s\"", "window = \"1s\"");
        Setup {
            app_top: self.top.to_owned(),
            app_tables: Some(format!("{common}{}", self.tables)),
            ..Setup::default()
        }
    }

    /// The containers once the release of this number has proved itself.
    fn containers(&self, number: usize) -> Vec<String> {
        let first = match self.after {
            After::StandsBy => number - 1,
            After::IsGone => number,
        };
        let names = (first..=number).flat_map(|release| {
            (0..self.replicas)
                .map(move |replica| format!("cutover-{}-v{release}-{replica}", self.app))
        });
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// Kills the agent so often, at moments of chance, in one deploy after the
    /// other. Each ends as if nothing had been.
    async fn survives(&self) -> anyhow::Result<()> {
        let app = self.app;
        let mut chance = Chance::new()?;
        let mut rig = Rig::start(app, &self.setup()).await?;
        let first = image::build(app, &[("VERSION", "1")]).await?;
        rig.must_deploy(&first).await?;
        let load = rig
            .load()?
            .users(Kind::KeepAlive, 2)
            .users(Kind::Fresh, 1)
            .users(Kind::Post, 1)
            .users(Kind::Events, 1)
            .pause(Duration::from_millis(20))
            .start()?;

        let mut versions = vec!["1".to_owned()];
        let mut kills = 0;
        while kills < KILLS {
            let number = versions.len() + 1;
            let version = number.to_string();
            let image = image::build(app, &[("VERSION", &version)]).await?;
            let following = rig.begin_deploy(&image)?;
            for _ in 0..KILLS_OF_A_DEPLOY {
                // The moment is what is chosen here; nothing is waited for.
                tokio::time::sleep(chance.below(self.takes)).await;
                if following.is_finished() || kills == KILLS {
                    break;
                }
                rig.kill_agent().await?;
                kills += 1;
                rig.start_agent().await?;
            }
            let ran = tokio::time::timeout(DEADLINE, following).await;
            let ran = ran.context("the command line did not end")???;
            ensure!(
                ran.code == 0,
                "version {version}: {}: {}",
                ran.code,
                ran.text
            );
            assert_eq!(rig.version().await?, version);
            versions.push(version);
            // Each call became one deploy: none was done twice or left half done.
            let status = rig.status().await?;
            assert_eq!(status["serving"]["number"], number, "{status:#}");
            assert_eq!(status["serving"]["standing"], "proven", "{status:#}");
            assert_eq!(status["last"]["outcome"], "promoted", "{status:#}");
            let deploy = status["last"]["deploy"].as_str().unwrap_or_default();
            assert!(ran.text.contains(deploy), "{deploy}: {}", ran.text);
            assert_eq!(rig.containers().await?, self.containers(number));
            rig.has_a_plain_route().await?;
        }
        let report = load.stop().await?;
        let figures = report.summary(&[]);
        print(
            &format!("{app}: {kills} kills in {} deploys", versions.len() - 1),
            &figures,
        );
        report.ensure_none_failed()?;
        if self.users == Users::AtOnce {
            let versions: Vec<_> = versions.iter().map(String::as_str).collect();
            ensure_in_order(&report, &versions)?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn an_agent_killed_20_times_in_deploys_loses_no_request_and_no_deploy() -> anyhow::Result<()>
{
    let blue_green = Strategy {
        app: "killed",
        top: "",
        tables: "",
        replicas: 1,
        after: After::StandsBy,
        users: Users::AtOnce,
        takes: Duration::from_millis(1_500),
    };
    blue_green.survives().await
}

#[tokio::test]
async fn an_agent_killed_20_times_in_canaries_loses_no_request_and_no_deploy() -> anyhow::Result<()>
{
    let canary = Strategy {
        app: "killbird",
        top: "strategy = \"canary\"\n",
        tables: "[canary]\nweights = [50, 100]\nbake = \"1s\"\n",
        replicas: 1,
        after: After::StandsBy,
        users: Users::ByAndBy,
        takes: Duration::from_millis(2_200),
    };
    canary.survives().await
}

#[tokio::test]
async fn an_agent_killed_20_times_in_rolling_deploys_loses_no_request_and_no_deploy()
-> anyhow::Result<()> {
    let rolling = Strategy {
        app: "killroll",
        top: "strategy = \"rolling\"\nreplicas = 2\n",
        tables: "[rolling]\nbatch = 1\nbake = \"1s\"\n",
        replicas: 2,
        after: After::IsGone,
        users: Users::ByAndBy,
        takes: Duration::from_millis(2_400),
    };
    rolling.survives().await
}

#[tokio::test]
async fn an_agent_killed_20_times_in_deploys_in_place_loses_no_request_and_no_deploy()
-> anyhow::Result<()> {
    let in_place = Strategy {
        app: "killplace",
        top: "strategy = \"in-place\"\n",
        tables: "[in_place]\npark_deadline = \"20s\"\n",
        replicas: 1,
        after: After::IsGone,
        users: Users::AtOnce,
        takes: Duration::from_millis(1_400),
    };
    in_place.survives().await
}

#[tokio::test]
async fn an_agent_killed_20_times_in_shadows_loses_no_request_and_no_deploy() -> anyhow::Result<()>
{
    let shadow = Strategy {
        app: "killshade",
        top: "strategy = \"shadow\"\n",
        tables: "[shadow]\nwindow = \"1s\"\n",
        replicas: 1,
        after: After::StandsBy,
        users: Users::AtOnce,
        takes: Duration::from_millis(2_200),
    };
    shadow.survives().await
}

#[tokio::test]
async fn an_agent_killed_20_times_in_red_black_deploys_loses_no_request_and_no_deploy()
-> anyhow::Result<()> {
    // It stands by for longer than the test takes: its end is a deploy of its own.
    let red_black = Strategy {
        app: "killblack",
        top: "strategy = \"red-black\"\nstandby = \"10m\"\n",
        tables: "",
        replicas: 1,
        after: After::StandsBy,
        users: Users::AtOnce,
        takes: Duration::from_millis(1_500),
    };
    red_black.survives().await
}

#[tokio::test]
async fn an_agent_away_for_30_seconds_and_a_lost_journal_cost_no_request() -> anyhow::Result<()> {
    let mut rig = Rig::start("away", &Setup::default()).await?;
    let one = image::build("away", &[("VERSION", "1")]).await?;
    let two = image::build("away", &[("VERSION", "2")]).await?;
    let three = image::build("away", &[("VERSION", "3")]).await?;
    rig.must_deploy(&one).await?;
    rig.must_deploy(&two).await?;
    let before = rig.containers().await?;

    rig.kill_agent().await?;
    let load = rig.load()?.users_of_every_kind();
    let load = load.pause(Duration::from_millis(50));
    let away = load.clone().duration(Duration::from_secs(30)).start()?;
    let report = away.finished().await?;
    report.ensure_none_failed()?;
    assert_eq!(report.versions(), ["2"]);

    // The journal is damaged, and somebody moves it aside.
    let load = load.start()?;
    std::fs::rename(rig.state(), rig.folder.join("damaged"))?;
    rig.start_agent().await?;
    load.more_ok(50, DEADLINE).await?;
    assert_eq!(rig.containers().await?, before);
    rig.must_deploy(&three).await?;
    assert_eq!(rig.version().await?, "3");
    load.more_ok(50, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    ensure_in_order(&report, &["2", "3"])?;
    let status = rig.status().await?;
    assert_eq!(status["serving"]["number"], 3, "{status:#}");
    assert_eq!(status["standby"]["number"], 2, "{status:#}");
    assert_eq!(
        rig.containers().await?,
        ["cutover-away-v2-0", "cutover-away-v3-0"]
    );
    Ok(())
}
