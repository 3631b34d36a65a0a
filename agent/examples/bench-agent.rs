//! What the agent costs where nobody deploys: forged calls, and a start with a
//! long history.
//!
//! ```sh
//! cargo build --release -p cutover-agent --bins
//! cargo run --release -p cutover-agent --example bench-agent
//! ```
//!
//! Forged calls are refused in this process, by the router of the network's door
//! on one thread: what the kernel does for a connection is not the agent's. A
//! start is that of the real program, until its socket answers `/healthz`; beside
//! it stands one with an empty history.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use axum::body::Body;
use axum::http::Request;
use cutover_agent::desk::{AppDesk, Desk};
use cutover_agent::inbox::{Door, Inbox, Limits};
use cutover_agent::journal::{Journal, Record as _};
use cutover_agent::metrics::Metrics;
use cutover_plan::compile;
use cutover_plan::event::{Cursor, Event, Finding};
use cutover_plan::history;
use cutover_plan::id::{DeployId, ImageReference};
use cutover_plan::observed::Observed;
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Kind;
use cutover_plan::release::Releases;
use cutover_plan::spec::{self, AppSpec};
use cutover_plan::state::DeployState;
use cutover_plan::verdict::{Figures, Verdict};
use cutover_wire::agent::DEPLOYS;
use cutover_wire::request::Source;
use cutover_wire::signature::{ID_HEADER, SIGNATURE_HEADER, Secret, TIMESTAMP_HEADER};
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};
use tower::ServiceExt as _;

/// Deploys in the long history.
const DEPLOYS_KEPT: u64 = 10_000;
/// Forged calls of a round, and rounds.
const CALLS: u32 = 100_000;
const ROUNDS: usize = 5;
/// Starts that are measured of each kind.
const STARTS: usize = 9;
/// A start takes nowhere near as long.
const DEADLINE: Duration = Duration::from_secs(20);

const APP: &str = r#"
image = "ghcr.io/acme/shop"
domains = ["shop.example.com"]
port = 8080
[health]
path = "/healthz"
"#;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    forged(folder.path())?;
    starts(folder.path())
}

fn shop() -> anyhow::Result<AppSpec> {
    spec::parse("shop.toml", "shop", APP).map_err(|mistakes| anyhow::anyhow!("{mistakes:?}"))
}

/// Calls with a signature that is well formed and wrong.
fn forged(folder: &Path) -> anyhow::Result<()> {
    let file = folder.join("calls.db");
    let journal = Journal::open(&file)?;
    let spec = shop()?;
    let (engine, _commands) = mpsc::channel(1);
    let (_stop, shutdown) = watch::channel(false);
    let name = spec.app.clone();
    let metrics = Metrics::new(journal.clone(), &file, vec![name.clone()], Timestamp::now())?;
    let apps = BTreeMap::from([(name, AppDesk { spec, engine })]);
    let secret = Secret::parse(&"s".repeat(32)).context("a secret")?;
    let inbox = Inbox {
        desk: Desk::new(apps, journal.clone()),
        journal,
        metrics: Arc::new(metrics),
        secrets: vec![secret].into(),
        clock: Arc::new(Timestamp::now),
        limits: Limits::default(),
        shutdown,
    };
    let router = inbox.router(Door::Network);
    let body = format!(
        r#"{{"app":"shop","change":{{"deploy":{{"image":"ghcr.io/acme/shop@sha256:{}"}}}}}}"#,
        "a".repeat(64)
    );
    let signature = format!("v1,{}=", "A".repeat(43));
    let call = |now: i64| {
        Request::post(DEPLOYS)
            .header(ID_HEADER, "call-1")
            .header(TIMESTAMP_HEADER, now)
            .header(SIGNATURE_HEADER, &signature)
            .header("content-length", body.len())
            .body(Body::from(body.clone()))
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut rates = Vec::new();
    runtime.block_on(async {
        for _ in 0..ROUNDS {
            let now = Timestamp::now().as_second();
            let began = clock_gettime(ClockId::ThreadCPUTime);
            for _ in 0..CALLS {
                let answer = router.clone().oneshot(call(now)?).await?;
                ensure!(answer.status() == 401, "answered {}", answer.status());
            }
            let took = clock_gettime(ClockId::ThreadCPUTime) - began;
            let took = Duration::try_from(took)?;
            rates.push(f64::from(CALLS) / took.as_secs_f64());
        }
        anyhow::Ok(())
    })?;
    rates.sort_by(f64::total_cmp);
    say(&format!(
        "forged calls refused per second of one core, of {} bytes: {:.0} (from {:.0} to {:.0} in {ROUNDS} rounds)",
        body.len(),
        rates[ROUNDS / 2],
        rates[0],
        rates[ROUNDS - 1]
    ))
}

/// The real program, with a history and without.
fn starts(folder: &Path) -> anyhow::Result<()> {
    let (long, empty) = (folder.join("long"), folder.join("empty"));
    for place in [&long, &empty] {
        configure(place)?;
    }
    fill(&long.join("state"))?;
    let size = fs::metadata(long.join("state/agent.db"))?.len() >> 20;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        with.push(start(&long)?);
        without.push(start(&empty)?);
    }
    with.sort();
    without.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    say(&format!(
        "start until it answers, with {DEPLOYS_KEPT} deploys ({size} MB): {:.0} ms (from {:.0} to {:.0} in {STARTS}); with none: {:.0} ms",
        millis(with[STARTS / 2]),
        millis(with[0]),
        millis(with[STARTS - 1]),
        millis(without[STARTS / 2]),
    ))
}

fn configure(place: &Path) -> anyhow::Result<()> {
    let at = place.display();
    fs::create_dir_all(place.join("apps"))?;
    fs::create_dir_all(place.join("state"))?;
    fs::write(place.join("secret"), "s".repeat(32))?;
    fs::write(place.join("apps/shop.toml"), APP)?;
    fs::write(
        place.join("agent.toml"),
        format!(
            "listen = \"127.0.0.1:0\"\nsecret_files = [\"{at}/secret\"]\napps = \"{at}/apps\"\n\
             socket = \"{at}/agent.sock\"\nproxy_socket = \"{at}/proxy.sock\"\n\
             docker = \"{at}/docker.sock\"\nstate = \"{at}/state\"\n\
             [history]\ndeploys = 20000\n"
        ),
    )?;
    Ok(())
}

/// Writes one whole deploy as the engine does, and then the others as copies of
/// it: each with the events of a blue-green deploy that was promoted.
fn fill(state: &Path) -> anyhow::Result<()> {
    let file = state.join("agent.db");
    let first = DeployId::new(1, [0; 10]);
    {
        let journal = Journal::open(&file)?;
        write_one(&journal, &first)?;
    }
    let mut connection = rusqlite::Connection::open(&file)?;
    let transaction = connection.transaction()?;
    // The newest were accepted last; the copies are older and older.
    for number in 1..DEPLOYS_KEPT {
        let id = DeployId::new(number + 1, [1; 10]);
        let ids = [id.as_str(), first.as_str()];
        transaction
            .prepare_cached(
                "INSERT INTO deploys (deploy, app, source, accepted_at, ended_at, called) \
                 SELECT ?1, app, source, accepted_at, NULL, called FROM deploys WHERE deploy = ?2",
            )?
            .execute(ids)?;
        transaction
            .prepare_cached(
                "INSERT INTO calls (call, deploy, at) \
                 SELECT call || ?1, ?1, at FROM calls WHERE deploy = ?2",
            )?
            .execute(ids)?;
        transaction
            .prepare_cached(
                "INSERT INTO events (deploy, at, event) \
                 SELECT ?1, at, event FROM events WHERE deploy = ?2 ORDER BY seq",
            )?
            .execute(ids)?;
        transaction
            .prepare_cached(
                "UPDATE deploys SET ended_at = (SELECT ended_at FROM deploys WHERE deploy = ?2) \
                 WHERE deploy = ?1",
            )?
            .execute(ids)?;
    }
    transaction.commit()?;
    Ok(())
}

fn write_one(journal: &Journal, id: &DeployId) -> anyhow::Result<()> {
    let spec = shop()?;
    let image: ImageReference = format!("ghcr.io/acme/shop@sha256:{}", "a".repeat(64)).parse()?;
    let request = compile::Request::Deploy {
        image: image.clone(),
        fingerprint: "0".repeat(64),
        commit: None,
    };
    let plan = compile::compile(&spec, &Observed::default(), &request)?;
    let now = Timestamp::now();
    let accepted = Event::Accepted {
        app: spec.app.clone(),
        kind: Kind::Deploy,
        image: Some(image),
        by: Some("ada".to_owned()),
        window_override: None,
    };
    journal.accept(Some("call-1"), id, now, &accepted, &Source::default(), &[])?;
    let mut state = DeployState::begin(&accepted)?;
    let mut releases = Releases::default();
    let steps = plan.steps.len();
    let mut events = vec![Event::Planned {
        plan: Box::new(plan.clone()),
    }];
    for at in 0..steps {
        let cursor = Cursor::Forward(at);
        events.push(Event::StepStarted {
            at: cursor,
            attempt: 1,
            since: now,
        });
        let finding = match plan.steps[at].step {
            cutover_plan::step::Step::Watch { .. } => Finding::Judged {
                verdict: Verdict::Good {
                    because: "0 of 900 requests failed in 30s".to_owned(),
                    figures: Figures::default(),
                },
            },
            _ => Finding::Note {
                text: "as it should be, and in a sentence about so long".to_owned(),
            },
        };
        events.push(Event::StepFinished {
            at: cursor,
            finding,
        });
    }
    events.push(Event::Ended {
        outcome: Outcome::Promoted,
    });
    for event in events {
        let after = state.clone().apply(&event)?;
        history::fold(&mut releases, &state, &event);
        state = after;
        journal.append(id, now, &event, &releases, &[])?;
    }
    Ok(())
}

/// How long the program takes until its socket says that it works.
fn start(place: &Path) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut agent = Command::new(program()?)
        .arg("--config")
        .arg(place.join("agent.toml"))
        .arg("run")
        .stderr(Stdio::null())
        .spawn()?;
    let answered = until_it_answers(&place.join("agent.sock"), began);
    end(&mut agent)?;
    answered
}

fn until_it_answers(socket: &Path, began: Instant) -> anyhow::Result<Duration> {
    while began.elapsed() < DEADLINE {
        if is_healthy(socket).unwrap_or(false) {
            return Ok(began.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("the agent did not answer within {DEADLINE:?}")
}

fn is_healthy(socket: &Path) -> io::Result<bool> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

fn end(agent: &mut Child) -> anyhow::Result<()> {
    agent.kill()?;
    agent.wait()?;
    Ok(())
}

/// The program that was built beside this one.
fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).context("a folder")?;
    let program = folder.join("cutover-agent");
    ensure!(
        program.exists(),
        "{} is not there: build it with cargo build --release -p cutover-agent --bins",
        program.display()
    );
    Ok(program)
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}
