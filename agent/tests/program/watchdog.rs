//! What systemd hears, at a real socket of its kind.

use std::collections::BTreeMap;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::{Duration, Instant};

use cutover_agent::desk::{AppDesk, Command, Desk, QUEUE};
use cutover_agent::journal::Journal;
use cutover_agent::watchdog::{Silence, Watchdog};
use tokio::sync::mpsc;

use crate::host::{Host, PATIENCE, Running, ask};

/// The agent's WatchdogSec in these tests.
const WATCHDOG: Duration = Duration::from_secs(4);

/// Where systemd listens.
struct Systemd(UnixDatagram);

impl Systemd {
    fn listen(host: &Host) -> Self {
        let socket = UnixDatagram::bind(host.path("notify.sock")).unwrap();
        Self(socket)
    }

    fn start(host: &Host) -> (Self, Running) {
        let systemd = Self::listen(host);
        let agent = host.start(|command| {
            let micros = WATCHDOG.as_micros().to_string();
            command
                .env("NOTIFY_SOCKET", host.path("notify.sock"))
                .env("WATCHDOG_USEC", micros);
        });
        (systemd, agent)
    }

    /// The next message, if one comes within a time.
    fn hear(&self, limit: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(limit)).unwrap();
        let mut bytes = [0; 4096];
        let count = self.0.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..count].to_vec()).unwrap())
    }

    /// Waits for a message with a line.
    fn wait_for(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let heard = self.hear(PATIENCE).unwrap_or_default();
            if heard.lines().any(|heard| heard == line) {
                return;
            }
        }
        panic!("waited in vain for {line}");
    }

    /// Waits until no ping has come for as long as systemd would wait.
    fn wait_for_silence(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut last = Instant::now();
        while last.elapsed() < WATCHDOG {
            assert!(Instant::now() < deadline, "it pings on");
            if self
                .hear(WATCHDOG / 4)
                .is_some_and(|heard| heard.contains("WATCHDOG=1"))
            {
                last = Instant::now();
            }
        }
    }
}

#[test]
fn systemd_hears_that_it_is_ready_what_it_does_and_that_it_gets_somewhere() {
    let host = Host::new();
    let (systemd, _agent) = Systemd::start(&host);
    systemd.wait_for("READY=1");
    systemd.wait_for("STATUS=1 app; no deploy is under way");
    for _ in 0..3 {
        systemd.wait_for("WATCHDOG=1");
    }
    // A proxy that takes calls and answers none: the plan has to wait for it.
    let proxy = UnixListener::bind(host.path("proxy.sock")).unwrap();
    let image = format!("ghcr.io/acme/shop@sha256:{}", "0".repeat(64));
    let deploy = format!(r#"{{"app":"shop","change":{{"deploy":{{"image":"{image}"}}}}}}"#);
    let answer = ask(&host.path("agent.sock"), "POST", "/v1/deploys", &deploy);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    systemd.wait_for("STATUS=1 app; shop: accepted");
    drop(proxy);
    systemd.wait_for("STATUS=1 app; no deploy is under way");
    systemd.wait_for("WATCHDOG=1");
}

#[test]
fn a_journal_that_takes_no_transaction_keeps_the_word_back() {
    let host = Host::new();
    let (systemd, _agent) = Systemd::start(&host);
    systemd.wait_for("WATCHDOG=1");
    let other = rusqlite::Connection::open(host.path("state/agent.db")).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    systemd.wait_for_silence();
    other.execute_batch("ROLLBACK").unwrap();
    systemd.wait_for("WATCHDOG=1");
}

#[test]
fn an_inbox_that_is_not_reached_keeps_the_word_back() {
    let host = Host::new();
    let (systemd, _agent) = Systemd::start(&host);
    systemd.wait_for("WATCHDOG=1");
    let (here, away) = (host.path("agent.sock"), host.path("away.sock"));
    std::fs::rename(&here, &away).unwrap();
    systemd.wait_for_silence();
    std::fs::rename(&away, &here).unwrap();
    systemd.wait_for("WATCHDOG=1");
}

#[tokio::test]
async fn an_engine_that_does_not_answer_keeps_the_word_back() {
    let host = Host::new();
    let _agent = host.start(|_| {});
    let text = std::fs::read_to_string(host.path("apps/shop.toml")).unwrap();
    let desks = |app: &str| {
        let spec = cutover_plan::spec::parse("shop.toml", app, &text).unwrap();
        let (engine, commands) = mpsc::channel(QUEUE);
        ((spec.app.clone(), AppDesk { spec, engine }), commands)
    };
    let ((works, works_desk), mut commands) = desks("works");
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            if let Command::Ping { reply } = command {
                let _ = reply.send(());
            }
        }
    });
    let ((stuck, stuck_desk), held) = desks("stuck");
    let journal = Journal::in_memory().unwrap();
    let socket = host.path("agent.sock");
    let watchdog =
        |desks| Watchdog::new(Desk::new(desks, journal.clone()), journal.clone(), &socket);
    let well = watchdog(BTreeMap::from([(works.clone(), works_desk)]));
    well.ask(PATIENCE).await.unwrap();
    let ill = watchdog(BTreeMap::from([(stuck.clone(), stuck_desk)]));
    let silence = ill.ask(Duration::from_millis(200)).await.unwrap_err();
    assert!(
        matches!(&silence, Silence::Engine(app) if *app == stuck),
        "{silence}"
    );
    // Gone is as bad as stuck.
    drop(held);
    let silence = ill.ask(PATIENCE).await.unwrap_err();
    assert!(matches!(silence, Silence::Engine(_)), "{silence}");
}
