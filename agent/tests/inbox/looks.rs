//! The history and the status: signed on the network, plain on the socket.

use cutover_plan::outcome::Outcome;
use cutover_wire::agent::{AppView, DeployView};

use crate::host::{Call, Host, id};
use crate::local::ask;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n")
}

fn ended_deploys(host: &Host, count: u64) {
    for number in 1..=count {
        let deploy = host.begin(number);
        host.end(&deploy);
    }
}

#[tokio::test]
async fn a_signed_query_tells_the_newest_deploys_first() {
    let host = Host::new().await;
    ended_deploys(&host, 25);
    let history = async |query: &str| {
        let answer = host.ask(&Call::new("/v1/queries", query).request()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json::<Vec<DeployView>>()
    };
    let all = history(r#"{"history":{}}"#).await;
    let expected: Vec<_> = (6..=25).rev().map(id).collect();
    let ids: Vec<_> = all.iter().map(|view| view.deploy.clone()).collect();
    assert_eq!(ids, expected);
    let two = history(r#"{"history":{"app":"shop","limit":2}}"#).await;
    assert_eq!(two, all[..2]);
    assert_eq!(history(r#"{"history":{"limit":100}}"#).await.len(), 25);
}

#[tokio::test]
async fn the_history_has_bounds_and_knows_its_apps() {
    let host = Host::new().await;
    let socket = host.socket();
    for (query, status) in [
        (r#"{"history":{"limit":0}}"#, 400),
        (r#"{"history":{"limit":101}}"#, 400),
        (r#"{"history":{"app":"other"}}"#, 404),
    ] {
        let answer = host.ask(&Call::new("/v1/queries", query).request()).await;
        assert_eq!(answer.status, status, "{query}: {answer:?}");
    }
    for (query, status) in [
        ("limit=0", 400),
        ("limit=101", 400),
        ("limit=x", 400),
        ("until=1", 400),
        ("app=Shop", 400),
        ("app=other", 404),
    ] {
        let answer = ask(&socket, &get(&format!("/v1/deploys?{query}"))).await;
        assert_eq!(answer.status, status, "{query}: {answer:?}");
        assert!(!answer.problem().message.is_empty());
    }
}

#[tokio::test]
async fn the_socket_tells_it_to_a_plain_get() {
    let host = Host::new().await;
    let socket = host.socket();
    ended_deploys(&host, 3);
    let history: Vec<DeployView> = ask(&socket, &get("/v1/deploys?app=shop&limit=2"))
        .await
        .json();
    assert_eq!(history.len(), 2);
    assert_eq!(history[0].deploy, id(3));
    assert!(history[0].ended_at.is_some());
    assert_ne!(history[0].outcome, Some(Outcome::Promoted));
    let apps: Vec<AppView> = ask(&socket, &get("/v1/apps")).await.json();
    let app: AppView = ask(&socket, &get("/v1/apps/shop")).await.json();
    assert_eq!(apps, [app]);
    for unknown in ["/v1/apps/other", "/v1/apps/Shop"] {
        let answer = ask(&socket, &get(unknown)).await;
        assert_eq!(answer.problem().code, "unknown_app", "{answer:?}");
    }
}

#[tokio::test]
async fn the_network_tells_nothing_to_a_plain_get() {
    let host = Host::new().await;
    ended_deploys(&host, 1);
    for (path, status) in [
        ("/v1/deploys", 405),
        ("/v1/deploys?app=shop", 405),
        ("/v1/apps", 404),
        ("/v1/apps/shop", 404),
    ] {
        let answer = host.ask(&get(path)).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(!answer.body.contains(id(1).as_str()), "{answer:?}");
    }
}
