//! Where a scenario runs: a proxy, targets behind it, and a load before it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cutover_tests::chance::Chance;
use cutover_tests::front::{self, Front};
use cutover_tests::load::{Journal, Kind, Load, RunningLoad};
use cutover_tests::process::Process;
use cutover_tests::target::{Habits, Target};
use cutover_wire::proxy::Cut;
use cutover_wire::table::{Ability, Pool, Protocol, Route, Split, Table};
use tempfile::TempDir;

use crate::kill::Kill;
use crate::verdict::{Declared, Found, Verdict};

/// The app of every scenario.
pub(crate) const APP: &str = "shop";

/// The release that serves first.
pub(crate) const FIRST: &str = "v1";

/// Nothing that is waited for takes nearly as long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// How long an ended release may finish what it has.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);

/// When its long answers are ended, well before that; event streams last longer
/// than the whole.
pub(crate) const CUT: Cut = Cut {
    streams_ms: Some(200),
    tunnels_ms: Some(200),
    spread_ms: 400,
};

/// The clients of every run.
const USERS: [(Kind, usize); 9] = [
    (Kind::KeepAlive, 4),
    (Kind::Fresh, 2),
    (Kind::Slow, 2),
    (Kind::Post, 2),
    (Kind::Upload, 1),
    (Kind::Http2, 1),
    (Kind::Http2Post, 1),
    (Kind::WebSocket, 3),
    (Kind::Events, 3),
];

/// Longer than a switch, so that streams are open in each.
const EVENTS: (u64, Duration) = (200, Duration::from_millis(20));

/// A request that takes longer hangs: a hundred times the slowest answer, and
/// more than a busy machine stops for.
const HUNG: Duration = Duration::from_secs(20);

/// Answers before a scenario begins, so that every client is at work.
const WARM: u64 = 60;

/// How a scenario begins.
#[derive(Clone)]
pub(crate) struct Opening {
    pub(crate) name: &'static str,
    abilities: Vec<Ability>,
    option: Option<&'static str>,
    targets: usize,
    habits: Habits,
    most_answers: Option<u64>,
    held_by_systemd: bool,
    is_sound: bool,
}

impl Opening {
    /// One target, and a proxy with a listener of its own.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            abilities: Vec::new(),
            option: None,
            targets: 1,
            habits: Habits::default(),
            most_answers: None,
            held_by_systemd: false,
            is_sound: true,
        }
    }

    /// The proxy must tell this ability.
    pub(crate) fn needs(mut self, ability: Ability) -> Self {
        self.abilities.push(ability);
        self
    }

    /// The proxy must know this option.
    pub(crate) fn option(mut self, option: &'static str) -> Self {
        self.option = Some(option);
        self
    }

    /// Targets of each release.
    pub(crate) fn targets(mut self, count: usize) -> Self {
        self.targets = count;
        self
    }

    /// Targets close connections that are idle for so long.
    pub(crate) fn keep_alive_ms(mut self, millis: u64) -> Self {
        self.habits.keep_alive_ms = Some(millis);
        self
    }

    /// Targets speak HTTP/2, which takes no WebSocket.
    pub(crate) fn http2(mut self) -> Self {
        self.habits.speaks_http2 = true;
        self.needs(Ability::H2c)
    }

    /// Targets close connections without a word after so many answers at most.
    pub(crate) fn leave_after_at_most(mut self, answers: u64) -> Self {
        self.most_answers = Some(answers);
        self
    }

    /// Whether such clients can be served: a target that leaves by count cannot tell
    /// when the last of a large answer has gone.
    fn takes(&self, kind: Kind) -> bool {
        match kind {
            Kind::WebSocket => !self.habits.speaks_http2,
            Kind::Upload => self.most_answers.is_none(),
            _ => true,
        }
    }

    /// Targets fail, so that some requests have to be tried again.
    pub(crate) fn targets_fail(mut self) -> Self {
        self.is_sound = false;
        self
    }

    /// The listening socket is held by the test, as systemd holds it.
    pub(crate) fn held_by_systemd(mut self) -> Self {
        self.held_by_systemd = true;
        self
    }
}

/// See the module.
pub(crate) struct Stage {
    pub(crate) front: Front,
    pub(crate) chance: Chance,
    /// The socket that systemd would hold.
    pub(crate) listener: Option<TcpListener>,
    opening: Opening,
    options: Vec<&'static str>,
    targets: Vec<(String, Target)>,
    journals: Vec<PathBuf>,
    load: Option<RunningLoad>,
    declared: Declared,
    found: Found,
    folder: TempDir,
}

/// Runs a scenario under the load of every kind of client, and judges it.
pub(crate) async fn run(
    opening: &Opening,
    seed: u64,
    scenario: &impl AsyncFn(&mut Stage) -> anyhow::Result<()>,
) -> anyhow::Result<Verdict> {
    let mut stage = Stage::open(opening, seed).await?;
    if let Err(error) = scenario(&mut stage).await {
        stage.trouble(format!("the scenario stopped: {error:#}"));
    }
    stage.close().await
}

/// The kinds of clients that this run leaves out.
fn left_out() -> Vec<String> {
    let names = std::env::var("CUTOVER_ZERO_LOSS_WITHOUT").unwrap_or_default();
    names.split_whitespace().map(str::to_owned).collect()
}

impl Stage {
    async fn open(opening: &Opening, seed: u64) -> anyhow::Result<Self> {
        let help = front::help()?;
        let without = left_out();
        let is_wanted = |kind: Kind| !without.contains(&format!("{kind:?}"));
        let prior_knowledge = is_wanted(Kind::Http2) || is_wanted(Kind::Http2Post);
        ensure!(
            !prior_knowledge || help.contains("+h2c"),
            "the proxy has no HTTP/2 without asking (--listen {}=ADDRESS)",
            front::KIND
        );
        if let Some(option) = opening.option {
            ensure!(help.contains(option), "the proxy has no option {option}");
        }
        let folder = tempfile::tempdir()?;
        let mut options = vec!["--grace", "3s"];
        if help.contains("--max-drain") {
            options.extend(["--max-drain", "3s"]);
        }
        let place = folder.path().join("proxy");
        let (front, listener) = if opening.held_by_systemd {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let front = Front::start_on(&listener, &place, &options).await?;
            (front, Some(listener))
        } else {
            let kind = if prior_knowledge { "http+h2c=" } else { "" };
            let listen = format!("{kind}127.0.0.1:0");
            let all = [&options[..], &["--listen", &listen]].concat();
            (Front::start(&place, &all).await?, None)
        };
        let abilities = front.status().await?.abilities;
        for ability in &opening.abilities {
            ensure!(
                abilities.contains(ability),
                "the proxy has no ability {ability}"
            );
        }
        let mut stage = Self {
            front,
            chance: Chance::new(seed),
            listener,
            opening: opening.clone(),
            options,
            targets: Vec::new(),
            journals: Vec::new(),
            load: None,
            declared: Declared::default(),
            found: Found {
                is_sound: opening.is_sound,
                ..Found::default()
            },
            folder,
        };
        let pool = stage.start_targets(FIRST).await?;
        let pools = [(FIRST.to_owned(), pool)].into();
        let route = Route::new(vec!["*".to_owned()], "/", Split::all_to(FIRST), pools);
        let table = |table: &mut Table| {
            table.apps.insert(APP.to_owned(), route);
        };
        stage.front.change(table).await?;
        stage.put_load(&without).await?;
        Ok(stage)
    }

    async fn put_load(&mut self, without: &[String]) -> anyhow::Result<()> {
        let (least, most) = (Duration::from_millis(1), Duration::from_millis(15));
        let mut load = Load::new(self.front.address, "shop.test")?
            .thinks(least, most, &self.chance.branch(1))
            .events(EVENTS.0, EVENTS.1)
            .body_bytes(usize::try_from(self.chance.between(1, 8192))?)
            .timeout(HUNG)
            .idle_closes_fail()
            .leaves_streams();
        for (kind, count) in USERS {
            if !self.opening.takes(kind) {
                continue;
            }
            if without.contains(&format!("{kind:?}")) {
                self.found.without.push(kind);
            } else {
                self.found.kinds.push(kind);
                load = load.users(kind, count);
            }
        }
        let load = load.start()?;
        load.more_ok(WARM, DEADLINE).await?;
        self.load = Some(load);
        Ok(())
    }

    /// Waits as long as chance says.
    pub(crate) async fn pause(&mut self, least_ms: u64, most_ms: u64) {
        tokio::time::sleep(self.chance.millis(least_ms, most_ms)).await;
    }

    /// Notes something that must not be.
    pub(crate) fn trouble(&mut self, what: String) {
        self.found.troubles.push(what);
    }

    /// Starts targets of a release and puts them in the table, where nobody is
    /// sent to them yet unless the release serves.
    pub(crate) async fn start_release(&mut self, release: &str) -> anyhow::Result<()> {
        let pool = self.start_targets(release).await?;
        self.change(|route| {
            route.pools.insert(release.to_owned(), pool);
        })
        .await
    }

    /// Starts targets of a release, with names that none before had.
    pub(crate) async fn start_targets(&mut self, release: &str) -> anyhow::Result<Pool> {
        let mut entries = Vec::new();
        for _ in 0..self.opening.targets {
            let id = format!("{release}-{}", self.journals.len());
            let most = self.opening.most_answers;
            let habits = Habits {
                leaves_after: most.map(|most| self.chance.between(1, most)),
                ..self.opening.habits
            };
            let target = Target::start(self.folder.path(), release, &id, habits).await?;
            entries.push(target.entry());
            self.journals.push(target.journal().to_owned());
            self.targets.push((release.to_owned(), target));
        }
        let mut pool = Pool::of(entries);
        if self.opening.habits.speaks_http2 {
            pool.protocol = Protocol::H2c;
        }
        Ok(pool)
    }

    /// Changes the app's route.
    pub(crate) async fn change(&mut self, change: impl FnOnce(&mut Route)) -> anyhow::Result<()> {
        let change = |table: &mut Table| {
            if let Some(route) = table.apps.get_mut(APP) {
                change(route);
            }
        };
        self.front.change(change).await
    }

    /// Gives the users to this release alone.
    pub(crate) async fn serve(&mut self, release: &str) -> anyhow::Result<()> {
        let serving = Split::all_to(release);
        self.change(|route| route.serving = serving).await
    }

    /// The ids of the living targets of a release.
    pub(crate) fn ids(&self, release: &str) -> Vec<String> {
        let targets = self.targets.iter().filter(|(name, _)| name == release);
        targets.map(|(_, target)| target.entry().id).collect()
    }

    /// Drains a release that no longer serves and kills its targets as soon as
    /// the proxy says that nothing is inside.
    pub(crate) async fn retire(&mut self, release: &str) -> anyhow::Result<()> {
        let left = self.front.drain(APP, self.ids(release), DRAIN, CUT).await?;
        if !left.is_empty() {
            self.trouble(format!("after the drain of {release}: {left:?}"));
        }
        self.kill(release).await
    }

    /// Kills all targets of a release.
    pub(crate) async fn kill(&mut self, release: &str) -> anyhow::Result<()> {
        for (name, target) in &mut self.targets {
            if name == release {
                target.kill().await?;
            }
        }
        self.targets.retain(|(name, _)| name != release);
        Ok(())
    }

    /// Kills one target while it serves. What it had then is not counted as
    /// lost, but told; see [`Kill`].
    pub(crate) async fn kill_one(&mut self, number: usize) -> anyhow::Result<()> {
        let load = self.load.as_ref().context("there is a load")?;
        let from = load.elapsed();
        let count = self.targets.len();
        let (_, target) = &mut self.targets[number % count];
        target.kill().await?;
        let to = load.elapsed();
        let mut journals = self.journals.iter();
        let journal = journals.position(|path| path == target.journal());
        let journal = journal.context("it has a journal")?;
        self.found.kills.push(Kill { from, to, journal });
        Ok(())
    }

    /// Brings a killed target back.
    pub(crate) async fn start_one_again(&mut self, number: usize) -> anyhow::Result<()> {
        let count = self.targets.len();
        self.targets[number % count].1.start_again().await
    }

    /// Waits until users have had so many more answers.
    pub(crate) async fn answers(&mut self, count: u64) -> anyhow::Result<()> {
        let load = self.load.as_ref().context("there is a load")?;
        load.more_ok(count, DEADLINE).await
    }

    /// Lets a new process take the place of the proxy; gives the old one.
    pub(crate) async fn succeed(&mut self) -> anyhow::Result<Process> {
        self.declared.listen(self.front.talk().await?).await?;
        match &self.listener {
            Some(listener) => self.front.hand_over(listener, &self.options).await,
            None => self.front.take_over(&self.options).await,
        }
    }

    async fn close(mut self) -> anyhow::Result<Verdict> {
        let load = self.load.take().context("there is a load")?;
        let report = load.stop().await?;
        self.declared.listen(self.front.talk().await?).await?;
        let retries = self.declared.retries().await;
        if self.front.process().log().contains("panicked") {
            self.trouble("the proxy panicked".to_owned());
        }
        for (_, target) in &mut self.targets {
            target.kill().await?;
        }
        let journals = self.journals.iter().map(|path| Journal::from_file(path));
        let journals = journals.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Verdict::of(report, &journals, retries, self.found))
    }
}
