//! Copies of safe requests: the shadow gets them, and users notice nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cutover_wire::proxy::MIRROR_HEADER;
use cutover_wire::statistics::MirrorStatistics;
use cutover_wire::table::{Bodies, Mirror, Preview, Weight};

use crate::common::{Backend, DEADLINE, Proxy, nobody, ok, shop, until};

/// A proxy whose requests go to the one and whose copies go to the other.
fn mirroring(primary: &Backend, shadow: std::net::SocketAddr, max_queue: u32) -> Proxy {
    let proxy = Proxy::start(&[]);
    proxy.apply(shop("v1", &[("v1", &[primary.address]), ("v2", &[shadow])]));
    proxy.change_shop(|shop| {
        shop.mirror = Some(Mirror {
            pool: "v2".to_owned(),
            share: Weight::FULL,
            max_queue,
            bodies: Bodies::Compared,
        });
    });
    proxy
}

fn copies(proxy: &Proxy) -> MirrorStatistics {
    proxy.counts().proxy.mirrors.remove("shop").unwrap()
}

#[test]
fn a_copy_of_each_safe_request_reaches_the_shadow_and_none_of_its_answers_a_user() {
    let primary = Backend::named("primary");
    let shadow = Backend::answering(|_| {
        "HTTP/1.1 500 Shadow\r\nSet-Cookie: shadow=1\r\nContent-Length: 6\r\n\r\nshadow".to_owned()
    });
    let proxy = mirroring(&primary, shadow.address, 100);
    proxy.change_shop(|shop| shop.preview = Some(Preview::new("x-preview", "s", "v1")));
    let mut client = proxy.client();
    for number in 0..20 {
        let path = format!("/{number}?q=1");
        let answer = client.ask(
            "shop.example",
            &path,
            &[("X-User", "u"), ("X-Preview", "no")],
        );
        assert_eq!((answer.status(), answer.text().as_str()), (200, "primary"));
        assert_eq!(answer.field("set-cookie"), None);
    }
    assert_eq!(client.post("/", "body").unwrap().text(), "primary");
    client.send("DELETE / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(client.read().unwrap().text(), "primary");
    until("the copies are there", || shadow.requests() == 20);
    let seen = shadow.seen.lock().unwrap();
    let mut paths: Vec<&str> = seen.iter().map(|copy| copy.line.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), 20);
    for copy in &*seen {
        assert!(copy.line.starts_with("GET /") && copy.line.contains("?q=1 "));
        assert_eq!(copy.field(MIRROR_HEADER), Some("1"));
        assert_eq!(copy.field("host"), Some("shop.example"));
        assert_eq!(copy.field("x-user"), Some("u"));
        assert_eq!(copy.field("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(copy.field("x-preview"), None);
    }
    assert_eq!(primary.requests(), 22);
    // The users' requests are counted where they went, and copies nowhere among them.
    assert_eq!(proxy.statistics("v2").finished(), 0);
}

#[test]
fn a_client_cannot_pass_for_a_copy() {
    let (primary, shadow) = (Backend::named("primary"), Backend::named("shadow"));
    let proxy = mirroring(&primary, shadow.address, 100);
    let mut client = proxy.client();
    client.ask("shop.example", "/", &[(MIRROR_HEADER, "1")]);
    until("the copy is there", || shadow.requests() == 1);
    assert_eq!(primary.seen.lock().unwrap()[0].field(MIRROR_HEADER), None);
}

#[test]
fn a_share_of_the_requests_is_copied_within_chance() {
    let (primary, shadow) = (Backend::named("primary"), Backend::named("shadow"));
    let proxy = mirroring(&primary, shadow.address, 10_000);
    proxy.change_shop(|shop| shop.mirror.as_mut().unwrap().share = Weight(2_500));
    let mut client = proxy.client();
    for _ in 0..400 {
        client.get("/").unwrap();
    }
    until("no copy is under way", || {
        let told = copies(&proxy);
        told.compared() == told.copied
    });
    // Five standard deviations of 8.7.
    let told = copies(&proxy);
    assert!(
        told.copied.abs_diff(100) <= 43 && told.dropped == 0,
        "{told:?}"
    );
}

#[test]
fn a_shadow_that_hangs_slows_nobody_and_what_is_too_much_is_dropped_and_counted() {
    let primary = Backend::named("primary");
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let shadow = Backend::raw(move |_, mut client| {
        let _ = client.read();
        client.is_ended();
        count.fetch_add(1, SeqCst);
    });
    let proxy = mirroring(&primary, shadow.address, 4);
    let mut client = proxy.client();
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let begun = Instant::now();
        assert_eq!(client.get("/").unwrap().text(), "primary");
        slowest = slowest.max(begun.elapsed());
    }
    // The shadow would be waited for until its minute is over.
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    until("four hang", || copies(&proxy).copied == 4);
    let told = copies(&proxy);
    assert_eq!((told.dropped, told.compared(), told.failed), (196, 0, 0));
    // Copies hold no drain up: it cuts them.
    let begun = Instant::now();
    assert!(proxy.drain(&["v2-0"], DEADLINE).is_empty());
    assert!(begun.elapsed() < Duration::from_secs(5));
    until("they are cut", || closed.load(SeqCst) == 4);
    assert_eq!(client.get("/").unwrap().text(), "primary");
}

#[test]
fn statuses_bodies_and_times_of_both_answers_are_compared() {
    let primary = Backend::named("answer");
    let shadow = Backend::answering(|asked| match asked.line.split(' ').nth(1) {
        Some("/status") => ok("answer").replace("200 OK", "404 Not Found"),
        Some("/body") => ok("another"),
        _ => ok("answer"),
    });
    let proxy = mirroring(&primary, shadow.address, 100);
    let mut client = proxy.client();
    for path in ["/", "/", "/status", "/body"] {
        assert_eq!(client.get(path).unwrap().text(), "answer");
    }
    until("all are compared", || {
        let told = copies(&proxy);
        told.same_body + told.other_body == 4
    });
    let told = copies(&proxy);
    assert_eq!((told.same_status, told.other_status), (3, 1));
    assert_eq!((told.same_body, told.other_body), (3, 1));
    assert_eq!((told.copied, told.dropped, told.failed), (4, 0, 0));
    assert_eq!((told.latency.count(), told.primary_latency.count()), (4, 4));
    assert!(told.latency_micros > 0 && told.primary_latency_micros > 0);
}

#[test]
fn a_shadow_that_is_not_there_is_counted_and_not_noticed() {
    let primary = Backend::named("primary");
    let proxy = mirroring(&primary, nobody(), 100);
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").unwrap().text(), "primary");
    }
    until("all have failed", || copies(&proxy).failed == 10);
    assert_eq!(copies(&proxy).compared(), 0);
}
