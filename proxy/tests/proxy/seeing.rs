//! What is told of the proxy: figures, health, tables that are checked, apps that stand alone.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use cutover_wire::proxy::{Reply, Request};
use cutover_wire::statistics::Statistics;
use cutover_wire::table::{Pool, Route, Split, Target};

use crate::common::{Backend, Client, Message, Proxy, nobody, ok, shop, until};

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];

/// Where a proxy answers monitors, as it says in its log.
fn admin(proxy: &Proxy) -> SocketAddr {
    let mut found = None;
    until("the admin address is told", || {
        let log = proxy.log();
        let line = log.lines().find(|line| line.contains("admin listens"));
        found = line.and_then(|line| line.split_once("address=")?.1.trim().parse().ok());
        found.is_some()
    });
    found.unwrap()
}

fn ask(address: SocketAddr, request: &str) -> Message {
    let mut client = Client::connect(address);
    client.send(&format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.read().unwrap()
}

fn statistics(proxy: &Proxy) -> Statistics {
    match proxy.call(Request::Statistics) {
        Reply::Statistics(statistics) => statistics,
        other => panic!("{other:?}"),
    }
}

/// A route for a host of its own.
fn route(host: &str, pool: &str, address: SocketAddr) -> Route {
    let target = Target {
        id: format!("{pool}-0"),
        address,
    };
    let pools = BTreeMap::from([(pool.to_owned(), Pool::of(vec![target]))]);
    Route::new(vec![host.to_owned()], "/", Split::all_to(pool), pools)
}

fn get(proxy: &Proxy, host: &str) -> Message {
    let mut client = proxy.client();
    client.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    client.read().unwrap()
}

#[test]
fn each_target_has_its_own_figures() {
    let proxy = Proxy::start(&[]);
    let backend = Backend::named("v1");
    let addresses = [backend.address, nobody()];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    for _ in 0..10 {
        assert_eq!(proxy.client().get("/").unwrap().status(), 200);
    }
    let told = statistics(&proxy);
    let targets = &told.apps["shop"]["v1"].targets;
    let (good, dead) = (targets["v1-0"], targets["v1-1"]);
    assert!(good.requests >= 10 && good.connect_failures == 0);
    assert!(!good.ejected && !good.draining);
    assert!(dead.connect_failures >= 3 && dead.ejected, "{dead:?}");
    assert_eq!(told.proxy.generation, 1);
    proxy.drain(&["v1-0"], std::time::Duration::from_secs(5));
    let told = statistics(&proxy);
    assert!(told.apps["shop"]["v1"].targets["v1-0"].draining);
}

#[test]
fn prometheus_reads_what_was_counted() {
    let proxy = Proxy::start(&ADMIN);
    let backend = Backend::named("v1");
    proxy.apply(shop("v1", &[("v1", &[backend.address])]));
    for _ in 0..3 {
        assert_eq!(proxy.client().get("/").unwrap().status(), 200);
    }
    let address = admin(&proxy);
    let answer = ask(address, "GET /metrics");
    let kind = answer.field("content-type").unwrap();
    assert!(kind.contains("version=0.0.4"), "{kind}");
    let text = answer.text();
    for line in [
        r#"cutover_proxy_requests_total{app="shop",pool="v1",outcome="succeeded"} 3"#,
        r#"cutover_proxy_latency_seconds_count{app="shop",pool="v1"} 3"#,
        r#"cutover_proxy_target_requests_total{app="shop",pool="v1",target="v1-0"} 3"#,
        "cutover_proxy_table_generation 1",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
    let mut client = Client::connect(address);
    client.send("HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head().unwrap();
    let connection = head.field("connection");
    assert_eq!((head.status(), connection), (200, Some("close")));
    assert!(client.is_ended());
}

#[test]
fn health_is_told_with_the_generation_and_nothing_else_is_there() {
    let proxy = Proxy::start(&ADMIN);
    let address = admin(&proxy);
    assert_eq!(ask(address, "GET /healthz").status(), 503);
    let backend = Backend::named("v1");
    proxy.apply(shop("v1", &[("v1", &[backend.address])]));
    let answer = ask(address, "GET /healthz");
    assert_eq!(answer.status(), 200);
    assert!(answer.text().contains("generation 1"), "{}", answer.text());
    for request in ["GET /", "POST /metrics", "GET /metrics/", "DELETE /healthz"] {
        assert_eq!(ask(address, request).status(), 404, "{request}");
    }
    let long = format!("GET /{}", "x".repeat(64 * 1024));
    let mut client = Client::connect(address);
    client.send(&format!("{long} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(client.read().is_ok_and(|answer| answer.status() >= 400));
    assert_eq!(ask(address, "GET /healthz").status(), 200);
}

#[test]
fn monitors_that_hang_keep_no_other_out_for_long() {
    let proxy = Proxy::start(&ADMIN);
    let address = admin(&proxy);
    let hanging: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::connect(address);
            client.send("GET /hea");
            client
        })
        .collect();
    // The users notice nothing of them.
    let backend = Backend::named("v1");
    proxy.apply(shop("v1", &[("v1", &[backend.address])]));
    assert_eq!(proxy.client().get("/").unwrap().status(), 200);
    assert_eq!(ask(address, "GET /healthz").status(), 200);
    drop(hanging);
}

#[test]
fn an_admin_address_that_is_taken_keeps_no_proxy_from_serving() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let proxy = Proxy::start(&["--admin", &address.to_string()]);
    let backend = Backend::named("v1");
    proxy.apply(shop("v1", &[("v1", &[backend.address])]));
    assert_eq!(proxy.client().get("/").unwrap().status(), 200);
    until("the trouble is told", || {
        proxy.log().contains("cannot be had yet")
    });
    drop(taken);
    until("the address is taken over", || {
        proxy.log().contains("admin listens")
    });
    assert_eq!(ask(address, "GET /healthz").status(), 200);
}

#[test]
fn an_admin_address_for_everybody_is_warned_of() {
    let quiet = Proxy::start(&ADMIN);
    admin(&quiet);
    assert!(!quiet.log().contains("not of the loopback"));
    // Of no machine, so that nothing is opened to anybody.
    let loud = Proxy::start(&["--admin", "192.0.2.1:9180"]);
    until("it is warned of", || {
        loud.log().contains("not of the loopback")
    });
}

#[test]
fn a_hangup_ends_no_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access");
    let proxy = Proxy::start(&["--access-log", log.to_str().unwrap()]);
    until("the log is there", || log.exists());
    fs::remove_file(&log).unwrap();
    proxy.signal("HUP");
    until("the log is there again", || log.exists());
    assert!(matches!(proxy.call(Request::Status), Reply::Status(_)));
}

#[test]
fn the_log_tells_all_bytes_of_an_answer_however_it_came() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access");
    let proxy = Proxy::start(&["--access-log", log.to_str().unwrap()]);
    let long = "x".repeat(300_000);
    let v1 = Backend::answering(move |asked| match asked.line.split(' ').nth(1) {
        Some("/short") => ok("hello"),
        Some("/long") => ok(&long),
        Some("/chunked") => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                             5\r\nhello\r\n2\r\nme\r\n0\r\n\r\n"
            .to_owned(),
        _ => ok(""),
    });
    proxy.apply(shop("v1", &[("v1", &[v1.address])]));
    let mut client = proxy.client();
    let expected = [
        ("/short", 5),
        ("/long", 300_000),
        ("/chunked", 7),
        ("/none", 0),
    ];
    for (path, bytes) in expected {
        assert_eq!(client.get(path).unwrap().body.len(), bytes);
    }
    let lines = || -> Vec<serde_json::Value> {
        let text = fs::read_to_string(&log).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    until("all are told", || lines().len() == expected.len());
    let told: Vec<_> = lines()
        .iter()
        .map(|line| line["bytes_out"].as_u64())
        .collect();
    assert_eq!(told, expected.map(|(_, bytes)| Some(bytes as u64)));
}

#[test]
fn a_byte_that_was_changed_on_disk_costs_one_app_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (v1, v2, api) = (
        Backend::named("v1"),
        Backend::named("v2"),
        Backend::named("api"),
    );
    let mut proxy = Proxy::start_in(directory.path(), &[]);
    let apps = |shop: Route| {
        let api = route("api.example", "a1", api.address);
        BTreeMap::from([("api".to_owned(), api), ("shop".to_owned(), shop)])
    };
    proxy.apply(apps(route("shop.example", "v1", v1.address)));
    proxy.apply(apps(route("shop.example", "v2", v2.address)));
    proxy.signal("KILL");
    proxy.child.wait().unwrap();
    let path = directory.path().join("state/table");
    let flip = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, text.replace("shop.example", "ship.example")).unwrap();
    };
    flip(&path);
    let mut proxy = Proxy::start_in(directory.path(), &[]);
    assert_eq!(get(&proxy, "api.example").text(), "api");
    assert_eq!(get(&proxy, "shop.example").text(), "v1", "as it was before");
    assert_eq!(get(&proxy, "ship.example").status(), 404);
    assert_eq!(statistics(&proxy).proxy.generation, 2);
    let log = proxy.log();
    let told = log.lines().find(|line| line.contains("ERROR")).unwrap();
    assert!(told.contains("app=shop") && told.contains("as in the table before"));
    assert!(directory.path().join("state/table.damaged").exists());
    proxy.signal("KILL");
    proxy.child.wait().unwrap();
    // Damaged in both: it is left out, and comes back when it is put.
    flip(&directory.path().join("state/table.previous"));
    let proxy = Proxy::start_in(directory.path(), &[]);
    assert_eq!(get(&proxy, "api.example").text(), "api");
    assert_eq!(get(&proxy, "shop.example").status(), 404);
    let told = proxy.log();
    assert!(told.contains("it is left out"), "{told}");
    assert_eq!(
        proxy.apply(apps(route("shop.example", "v2", v2.address))),
        3
    );
    assert_eq!(get(&proxy, "shop.example").text(), "v2");
}

fn check(file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutover-proxy"));
    command.arg("check").arg(file).output().unwrap()
}

#[test]
fn a_table_is_checked_without_a_proxy() {
    let proxy = Proxy::start(&[]);
    let backend = Backend::named("v1");
    proxy.apply(shop("v1", &[("v1", &[backend.address])]));
    let stored = proxy.directory.join("state/table");
    let output = check(&stored);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let Reply::Table(mut table) = proxy.call(Request::Table) else {
        panic!("no table");
    };
    table.apps.get_mut("shop").unwrap().serving = Split::all_to("v9");
    let told = proxy.directory.join("told.json");
    fs::write(&told, serde_json::to_vec(&table).unwrap()).unwrap();
    let output = check(&told);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("apps.shop.serving"), "{text}");
    assert!(text.contains("hint: the pools of shop are v1"), "{text}");
    fs::write(&told, b"{").unwrap();
    assert_eq!(check(&told).status.code(), Some(2));
}
