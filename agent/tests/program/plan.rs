//! `cutover-agent plan`: the running agent's plan, or how to start one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cutover_agent::desk::{AppDesk, Command, Desk, QUEUE, Refusal};
use cutover_agent::inbox::{Door, Inbox, Limits, bind_local, serve_local};
use cutover_agent::journal::Journal;
use cutover_agent::metrics::Metrics;
use cutover_plan::id::{AppName, ReleaseNumber};
use cutover_plan::plan::{Kind, Plan};
use cutover_plan::release::Release;
use cutover_plan::spec::Strategy;
use cutover_wire::agent::PlanView;
use cutover_wire::request::Change;
use cutover_wire::signature::Secret;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::host::{Ended, Host};

const IMAGE: &str =
    "ghcr.io/acme/shop@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn plan() -> Plan {
    Plan {
        app: "shop".parse().unwrap(),
        kind: Kind::Deploy,
        strategy: Strategy::BlueGreen,
        release: Release {
            number: ReleaseNumber(8),
            image: IMAGE.parse().unwrap(),
            fingerprint: "f".to_owned(),
            commit: None,
        },
        from: Some(ReleaseNumber(7)),
        because: "v7 serves".to_owned(),
        notes: vec!["the disk is nearly full".to_owned()],
        progress_deadline: Duration::from_secs(600),
        on_failure: None,
        prune: None,
        steps: Vec::new(),
    }
}

/// Serves the socket of the host with an engine that plans a deploy and has
/// nothing to roll back to.
async fn serve(host: &Host) -> watch::Sender<bool> {
    let app: AppName = "shop".parse().unwrap();
    let text = std::fs::read_to_string(host.path("apps/shop.toml")).unwrap();
    let spec = cutover_plan::spec::parse("shop.toml", "shop", &text).unwrap();
    let (engine, mut commands) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            let Command::Plan { change, reply } = command else {
                continue;
            };
            let nothing = "there is nothing to roll back to".to_owned();
            let _ = reply.send(match change {
                Change::Deploy { .. } => Ok(Box::new(PlanView {
                    text: plan().to_string(),
                    plan: plan(),
                })),
                Change::Rollback {} => {
                    Err(Refusal::new(422, "no_plan", nothing, Some("deploy first")))
                }
            });
        }
    });
    let journal = Journal::in_memory().unwrap();
    let (shutdown, ends) = watch::channel(false);
    let now = Timestamp::UNIX_EPOCH;
    let metrics = Metrics::new(journal.clone(), &host.path("agent.db"), vec![], now).unwrap();
    let inbox = Inbox {
        desk: Desk::new(
            BTreeMap::from([(app, AppDesk { spec, engine })]),
            journal.clone(),
        ),
        journal,
        metrics: Arc::new(metrics),
        secrets: vec![Secret::parse(&"s".repeat(32)).unwrap()].into(),
        clock: Arc::new(Timestamp::now),
        limits: Limits::default(),
        shutdown: ends.clone(),
    };
    let listener = bind_local(&host.path("agent.sock"), None).unwrap();
    let limits = inbox.limits;
    tokio::spawn(serve_local(
        listener,
        inbox.router(Door::Local),
        limits,
        ends,
    ));
    shutdown
}

async fn run(host: &Arc<Host>, arguments: &'static [&'static str]) -> Ended {
    let host = Arc::clone(host);
    let ran = tokio::task::spawn_blocking(move || host.run(arguments));
    ran.await.unwrap()
}

#[tokio::test]
async fn the_plan_is_the_text_of_the_running_agent() {
    let host = Arc::new(Host::new());
    let _serving = serve(&host).await;
    let ended = run(&host, &["plan", "shop", IMAGE]).await;
    assert_eq!(ended.status, 0, "{ended:?}");
    assert_eq!(ended.stdout.trim_end(), plan().to_string().trim_end());
    assert!(ended.stdout.contains("the disk is nearly full"));
}

#[tokio::test]
async fn a_refusal_is_told_with_its_hint() {
    let host = Arc::new(Host::new());
    let _serving = serve(&host).await;
    let ended = run(&host, &["plan", "shop", "--rollback"]).await;
    assert_eq!((ended.status, ended.stdout.as_str()), (1, ""), "{ended:?}");
    assert!(ended.stderr.contains("nothing to roll back to"));
    assert!(ended.stderr.contains("hint: deploy first"));
    let ended = run(&host, &["plan", "blog", IMAGE]).await;
    assert_eq!(ended.status, 1, "{ended:?}");
    assert!(ended.stderr.contains("this host has no app blog"));
}

#[test]
fn where_no_agent_runs_it_says_how_to_start_one() {
    let host = Host::new();
    let ended = host.run(&["plan", "shop", IMAGE]);
    assert_eq!((ended.status, ended.stdout.as_str()), (1, ""), "{ended:?}");
    for part in [
        "no agent is reached at",
        "agent.sock",
        "hint: start it: systemctl start cutover-agent",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    // The secret and the apps are not needed, the agent's file is.
    std::fs::remove_file(host.path("secret")).unwrap();
    let ended = host.run(&["plan", "shop", "--rollback"]);
    assert!(ended.stderr.contains("no agent is reached at"), "{ended:?}");
    host.write("agent.toml", "socket = 3\n");
    let ended = host.run(&["plan", "shop", "--rollback"]);
    assert!(ended.stderr.contains("agent.toml:1:"), "{ended:?}");
}

#[test]
fn an_agent_without_its_engine_of_containers_says_so() {
    let host = Host::new();
    let _agent = host.start(|_| {});
    let ended = host.run(&["plan", "shop", IMAGE]);
    assert_eq!(ended.status, 1, "{ended:?}");
    assert!(!ended.stderr.contains("no agent is reached"), "{ended:?}");
}
