//! Targets that are asked for their health: a sick one is passed over, the last one never.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use cutover_wire::table::ActiveHealth;

use crate::common::{Backend, DEADLINE, Proxy, ok, shop, until};

fn health() -> ActiveHealth {
    ActiveHealth {
        path: "/healthz".to_owned(),
        interval_ms: 100,
        timeout_ms: 100,
        healthy_after: 2,
        unhealthy_after: 2,
    }
}

/// A target that says it is unwell while the flag stands.
fn patient(name: &'static str) -> (Backend, Arc<AtomicBool>) {
    let unwell = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&unwell);
    let backend = Backend::answering(move |asked| {
        if asked.line.contains("/healthz") && flag.load(SeqCst) {
            return ok("unwell").replace("200 OK", "503 Unwell");
        }
        ok(name)
    });
    (backend, unwell)
}

/// A proxy whose app has these targets in one pool, and asks them.
fn asking(targets: &[std::net::SocketAddr]) -> Proxy {
    let proxy = Proxy::start(&[]);
    proxy.apply(shop("v1", &[("v1", targets)]));
    proxy.change_shop(|shop| shop.pools.get_mut("v1").unwrap().health = Some(health()));
    proxy
}

fn is_sick(proxy: &Proxy, target: &str) -> bool {
    proxy.counts().apps["shop"]["v1"].targets[target].sick
}

/// Who answers a number of requests.
fn answers(proxy: &Proxy) -> Vec<String> {
    let mut client = proxy.client();
    let answers = (0..12).map(|_| {
        let answer = client.get("/").unwrap();
        assert_eq!(answer.status(), 200);
        answer.text()
    });
    answers.collect()
}

#[test]
fn a_sick_target_is_passed_over_until_it_is_well_again() {
    let ((one, unwell), (two, _)) = (patient("one"), patient("two"));
    let proxy = asking(&[one.address, two.address]);
    let told = answers(&proxy);
    assert!(told.contains(&"one".to_owned()) && told.contains(&"two".to_owned()));
    unwell.store(true, SeqCst);
    until("it is sick", || is_sick(&proxy, "v1-0"));
    assert_eq!(answers(&proxy), vec!["two"; 12]);
    assert!(proxy.log().contains("a target is sick and is passed over"));
    unwell.store(false, SeqCst);
    until("it is well", || !is_sick(&proxy, "v1-0"));
    assert!(answers(&proxy).contains(&"one".to_owned()));
}

#[test]
fn the_last_target_is_never_passed_over() {
    let ((one, first), (two, second)) = (patient("one"), patient("two"));
    let proxy = asking(&[one.address, two.address]);
    first.store(true, SeqCst);
    second.store(true, SeqCst);
    until("both are sick", || {
        is_sick(&proxy, "v1-0") && is_sick(&proxy, "v1-1")
    });
    assert_eq!(answers(&proxy).len(), 12);
    // Where the well one drains, the sick one is the last.
    second.store(false, SeqCst);
    until("one is well", || !is_sick(&proxy, "v1-1"));
    proxy.drain(&["v1-1"], DEADLINE);
    assert_eq!(answers(&proxy), vec!["one"; 12]);
}

#[test]
fn one_bad_answer_is_no_sickness_and_a_question_is_no_request_of_a_user() {
    let bad = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&bad);
    let once = Backend::answering(move |_| {
        if flag.swap(false, SeqCst) {
            return ok("bad").replace("200 OK", "500 Bad");
        }
        ok("once")
    });
    let proxy = asking(&[once.address]);
    // Once taken for sick, it would be so for long.
    proxy.change_shop(|shop| {
        let pool = shop.pools.get_mut("v1").unwrap();
        pool.health.as_mut().unwrap().healthy_after = 100;
    });
    bad.store(true, SeqCst);
    until("it was asked on and on", || {
        !bad.load(SeqCst) && once.requests() >= 5
    });
    assert!(!is_sick(&proxy, "v1-0"));
    assert_eq!(proxy.statistics("v1").finished(), 0);
}

#[test]
fn a_target_that_does_not_answer_in_time_is_sick_and_well_when_nobody_asks() {
    let (well, _) = patient("well");
    // Users are answered, questions are not.
    let hung = Backend::raw(|_, mut client| {
        while let Ok(asked) = client.read() {
            if asked.line.contains("/healthz") {
                client.is_ended();
                return;
            }
            client.send(&ok("hung"));
        }
    });
    let proxy = asking(&[hung.address, well.address]);
    until("it is sick", || is_sick(&proxy, "v1-0"));
    assert_eq!(answers(&proxy), vec!["well"; 12]);
    proxy.change_shop(|shop| shop.pools.get_mut("v1").unwrap().health = None);
    assert!(!is_sick(&proxy, "v1-0"));
    assert!(answers(&proxy).contains(&"hung".to_owned()));
}
