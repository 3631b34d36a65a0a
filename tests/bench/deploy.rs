//! What a deploy takes beside a bare `docker run`, in one run, in turns.
//!
//! `docker run`: from the start of the client until the container has answered
//! its health check, asked at once and then once every interval. A deploy: from
//! the accepted call until a user at the front door is answered by the new
//! release. The rule of the health check, the image and the engine are the
//! same, and the image is on the host for both; pulls are measured apart.
//!
//! Then rollbacks to the release that stands by: from the start of the command
//! line until the last request of a user is sent that the bad release answers,
//! with users who send one request after the other. And what the agent holds in
//! memory after all that.
//!
//! A deploy first stops the release before last, which was kept warm until
//! then. That is measured in a row of its own: `beside` is a deploy beside
//! which only the serving release runs, `third` one that has to stop another.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use cutover_tests::host::docker;
use cutover_tests::image::{self, Image};
use cutover_tests::request::get;
use cutover_tests::rig::{Rig, Setup};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

const APP: &str = "bench";

/// Nothing here takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks of the user at the front door. There is one in both arms:
/// looking costs time of the processor.
const LOOK: Duration = Duration::from_millis(5);

/// Rollbacks that are measured, and users who send requests meanwhile.
const ROLLBACKS: usize = 7;
const USERS: usize = 4;

/// The network and the address of the bare container, so that the address is
/// known before the container is there.
const NETWORK: [&str; 5] = ["network", "create", "--subnet", "10.213.7.0/24", "bare"];
const BARE: ([u8; 4], u16) = ([10, 213, 7, 2], 8080);

#[derive(Parser)]
struct Arguments {
    /// Measured rounds.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Good answers in a row that make a container healthy.
    #[arg(long, default_value_t = 1)]
    successes: u32,
    /// From one question about its health to the next.
    #[arg(long, default_value_t = 100)]
    interval_ms: u64,
    /// Fail when the ratio of the medians, beside to bare, is above this.
    #[arg(long)]
    at_most: Option<f64>,
}

/// One deploy, taken apart.
struct Deploy {
    /// Until the first answer of the new release.
    total: Duration,
    /// The time of each step until then, and `journal` between them.
    parts: BTreeMap<String, Duration>,
    /// The order of the parts.
    order: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let (successes, interval) = (arguments.successes, arguments.interval_ms);
    let tables = format!(
        "[health]\npath = \"/healthz\"\ninterval = \"{interval}ms\"\nsuccesses = {successes}\n\
         timeout = \"2s\"\ndeadline = \"20s\"\n\
         [watch]\nwindow = \"1s\"\nmin_requests = 1\n"
    );
    let setup = Setup {
        app_tables: Some(tables),
        ..Setup::default()
    };
    let rig = Rig::start(APP, &setup).await?;
    docker(&NETWORK).await?;
    let images = [
        image::build(APP, &[("VERSION", "a")]).await?,
        image::build(APP, &[("VERSION", "b")]).await?,
    ];
    say(&format!(
        "healthy: {successes} good answer(s), asked every {interval} ms; {} rounds",
        arguments.rounds
    ))?;
    for (image, version) in [(&images[0], "a"), (&images[1], "b")] {
        docker(&["pull", "--quiet", &image.reference()]).await?;
        bare(&rig, image, &arguments).await?;
        deploy(&rig, image, version).await?;
    }

    let mut rounds = Vec::new();
    say(&format!(
        "{:<8}{:>14}{:>14}{:>8}{:>14}{:>8}",
        "round", "docker run", "beside", "ratio", "third", "ratio"
    ))?;
    for number in 1..=arguments.rounds {
        let [a, b] = &images;
        let bare = bare(&rig, a, &arguments).await?;
        stop_standby(&rig).await?;
        let beside = deploy(&rig, a, "a").await?;
        let third = deploy(&rig, b, "b").await?;
        let round = Round {
            bare,
            beside,
            third,
        };
        round.show(&number.to_string())?;
        rounds.push(round);
    }
    let ratio = summary(&rounds)?;
    parts(&rounds)?;
    pulls(&rig).await?;
    rollbacks(&rig, &images).await?;
    memory(&rig)?;
    // Dropped, the programs would print their logs; the test host ends them.
    std::mem::forget(rig);
    let met = arguments.at_most.is_none_or(|at_most| ratio <= at_most);
    Ok(if met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Removes the release that is kept warm, as if its time were over. Every
/// deploy here is promoted, so the newest release serves.
async fn stop_standby(rig: &Rig) -> anyhow::Result<()> {
    let number = |name: &String| -> Option<u32> {
        let name = name.strip_prefix(&format!("cutover-{APP}-v"))?;
        name.strip_suffix("-0")?.parse().ok()
    };
    let containers = rig.containers().await?;
    let newest = containers.iter().filter_map(number).max();
    for container in containers.iter().filter(|name| number(name) != newest) {
        docker(&["rm", "--force", container]).await?;
    }
    Ok(())
}

/// `docker run`, and the health check until it is content.
async fn bare(rig: &Rig, image: &Image, arguments: &Arguments) -> anyhow::Result<Duration> {
    tokio::select! {
        took = run(image, arguments) => took,
        _ = sees(rig, "none") => unreachable!("there is no such version"),
    }
}

async fn run(image: &Image, arguments: &Arguments) -> anyhow::Result<Duration> {
    let address = SocketAddr::from(BARE);
    let ip = address.ip().to_string();
    let reference = image.reference();
    let began = Instant::now();
    let run = ["run", "--detach", "--network=bare", "--ip", &ip, &reference];
    let id = docker(&run).await?;
    let mut good = 0;
    loop {
        match get(address, "/healthz").await {
            Ok(answer) if answer.status.is_success() => good += 1,
            _ => good = 0,
        }
        if good >= arguments.successes {
            break;
        }
        ensure!(
            began.elapsed() < DEADLINE,
            "the bare container is not healthy"
        );
        sleep(Duration::from_millis(arguments.interval_ms)).await;
    }
    let took = began.elapsed();
    docker(&["rm", "--force", &id]).await?;
    Ok(took)
}

/// A user at the front door who waits for a version.
async fn sees(rig: &Rig, version: &str) -> Timestamp {
    loop {
        if rig.version().await.is_ok_and(|seen| seen == version) {
            return Timestamp::now();
        }
        sleep(LOOK).await;
    }
}

/// A deploy, followed from the front door.
async fn deploy(rig: &Rig, image: &Image, version: &str) -> anyhow::Result<Deploy> {
    let reference = image.reference();
    let call = [
        "deploy",
        "--app",
        APP,
        "--image",
        &reference,
        "--format=json",
    ];
    let door = timeout(DEADLINE, sees(rig, version));
    let (ran, seen) = tokio::join!(rig.run(&call), door);
    let (ran, seen) = (ran?, seen.context("the release does not answer")?);
    ensure!(
        ran.code == 0,
        "the deploy ended with {}:\n{}",
        ran.code,
        ran.text
    );
    take_apart(&ran.text, seen)
}

/// Reads the events of a deploy up to `seen`.
fn take_apart(text: &str, seen: Timestamp) -> anyhow::Result<Deploy> {
    let mut deploy = Deploy {
        total: Duration::ZERO,
        parts: BTreeMap::new(),
        order: Vec::new(),
    };
    let mut accepted = None;
    let mut doing = "journal".to_owned();
    let mut since = seen;
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        let told = &line["told"];
        let Some(at) = told["at"].as_str() else {
            continue;
        };
        let at: Timestamp = at.parse()?;
        let began = *accepted.get_or_insert(at);
        if began == at && deploy.order.is_empty() {
            since = at;
        }
        deploy.add(&doing, since, at.min(seen))?;
        since = at.min(seen);
        match told["event"]["event"].as_str() {
            Some("step_started") => {
                let text = told["text"].as_str().unwrap_or_default();
                text.split_whitespace()
                    .next()
                    .unwrap_or("?")
                    .clone_into(&mut doing);
            }
            Some("step_progressed") => {}
            _ => "journal".clone_into(&mut doing),
        }
    }
    let accepted = accepted.context("the deploy told nothing")?;
    deploy.total = Duration::try_from(seen.duration_since(accepted))?;
    Ok(deploy)
}

impl Deploy {
    fn add(&mut self, part: &str, from: Timestamp, to: Timestamp) -> anyhow::Result<()> {
        let took = Duration::try_from(to.duration_since(from))?;
        if took.is_zero() {
            return Ok(());
        }
        if !self.parts.contains_key(part) {
            self.order.push(part.to_owned());
        }
        *self.parts.entry(part.to_owned()).or_default() += took;
        Ok(())
    }
}

/// What one round took.
struct Round {
    bare: Duration,
    beside: Deploy,
    third: Deploy,
}

impl Round {
    fn show(&self, name: &str) -> anyhow::Result<()> {
        row(name, self.bare, self.beside.total, self.third.total)
    }
}

/// Medians and their ratio, and the least and the most of each column.
fn summary(rounds: &[Round]) -> anyhow::Result<f64> {
    let bare: Vec<_> = rounds.iter().map(|round| round.bare).collect();
    let beside: Vec<_> = rounds.iter().map(|round| round.beside.total).collect();
    let third: Vec<_> = rounds.iter().map(|round| round.third.total).collect();
    row("least", least(&bare), least(&beside), least(&third))?;
    row("most", most(&bare), most(&beside), most(&third))?;
    row("median", median(&bare), median(&beside), median(&third))?;
    Ok(ms(median(&beside)) / ms(median(&bare)))
}

/// Where the time of the deploys went; the longest list has all parts.
fn parts(rounds: &[Round]) -> anyhow::Result<()> {
    say("\nwhere the time of a third deploy goes, in ms")?;
    say(&format!(
        "{:<12}{:>8}{:>8}{:>8}",
        "part", "median", "least", "most"
    ))?;
    let deploys = rounds.iter().map(|round| &round.third);
    let longest = deploys.clone().max_by_key(|deploy| deploy.order.len());
    for part in longest.map_or(&[][..], |deploy| &deploy.order) {
        let times = deploys.clone().map(|deploy| deploy.parts.get(part));
        let times: Vec<_> = times
            .map(|time| time.copied().unwrap_or_default())
            .collect();
        let (middle, low, high) = (ms(median(&times)), ms(least(&times)), ms(most(&times)));
        say(&format!("{part:<12}{middle:>8.1}{low:>8.1}{high:>8.1}"))?;
    }
    Ok(())
}

/// Pulls of images that are not on the host, though their layer is.
async fn pulls(rig: &Rig) -> anyhow::Result<()> {
    const ROUNDS: [&str; 3] = ["p", "q", "r"];
    let (mut bares, mut steps) = (Vec::new(), Vec::new());
    for version in ROUNDS {
        let image = image::build(APP, &[("VERSION", version)]).await?;
        let reference = image.reference();
        let began = Instant::now();
        docker(&["pull", "--quiet", &reference]).await?;
        bares.push(began.elapsed());
        docker(&["image", "rm", &reference]).await?;
        let deploy = deploy(rig, &image, version).await?;
        steps.push(deploy.parts.get("pull").copied().unwrap_or_default());
    }
    let (bare, step) = (ms(median(&bares)), ms(median(&steps)));
    say(&format!(
        "\na pull of a new image whose layer is there: docker pull {bare:.1} ms, the step {step:.1} ms (medians of {})",
        ROUNDS.len()
    ))
}

/// Rollbacks under users, each from a release that was just promoted.
async fn rollbacks(rig: &Rig, images: &[Image; 2]) -> anyhow::Result<()> {
    let [a, b] = images;
    let mut times = Vec::new();
    deploy(rig, a, "a").await?;
    for _ in 0..ROLLBACKS {
        deploy(rig, b, "b").await?;
        times.push(rollback(rig, "b", "a").await?);
    }
    let (middle, low, high) = (ms(median(&times)), ms(least(&times)), ms(most(&times)));
    say(&format!(
        "\nrollback, from the command to the last request of the bad release: {middle:.1} ms (from {low:.1} to {high:.1} in {ROLLBACKS})"
    ))
}

async fn rollback(rig: &Rig, from: &str, to: &str) -> anyhow::Result<Duration> {
    let back = Notify::new();
    let users = join_all((0..USERS).map(|_| async {
        let mut last = Instant::now();
        let over = back.notified();
        tokio::pin!(over);
        loop {
            let began = Instant::now();
            tokio::select! {
                seen = rig.version() => if seen? == from { last = began },
                () = &mut over => return anyhow::Ok(last),
            }
        }
    }));
    let began = Instant::now();
    let command = async {
        let ran = rig.run(&["rollback", "--app", APP]).await?;
        ensure!(ran.code == 0, "the rollback ended with {}", ran.text);
        ensure!(rig.version().await? == to, "{to} does not answer");
        back.notify_waiters();
        anyhow::Ok(())
    };
    let (users, ran) = tokio::join!(users, command);
    ran?;
    let mut last = began;
    for user in users {
        last = last.max(user?);
    }
    Ok(last - began)
}

/// What the agent holds in memory now that nobody deploys.
fn memory(rig: &Rig) -> anyhow::Result<()> {
    let pid = rig.agent().context("the agent runs")?.pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kilobytes.map_or(0.0, |kilobytes| kilobytes / 1024.0)
    };
    say(&format!(
        "the idle agent: {:.1} MB resident, {:.1} of them its own data",
        line("VmRSS:"),
        line("RssAnon:")
    ))
}

fn row(name: &str, bare: Duration, beside: Duration, third: Duration) -> anyhow::Result<()> {
    let (bare, beside, third) = (ms(bare), ms(beside), ms(third));
    let (ratio, ratio_of_third) = (beside / bare, third / bare);
    say(&format!(
        "{name:<8}{bare:>11.1} ms{beside:>11.1} ms{ratio:>8.3}{third:>11.1} ms{ratio_of_third:>8.3}"
    ))
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn least(times: &[Duration]) -> Duration {
    times.iter().min().copied().unwrap_or_default()
}

fn most(times: &[Duration]) -> Duration {
    times.iter().max().copied().unwrap_or_default()
}
