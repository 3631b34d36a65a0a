//! How a connection of HTTP/2 is left: told in two steps, with what is open served.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::frames::{self, ACK, END_STREAM, RawClient, frame, request};
use super::peers::{DOOR, H2Client, H2Target, answer, get, read, run, soon};
use super::proxy_to;
use crate::common::{Backend, Proxy, ok, shop, until};
use crate::upgrade::successor;

/// The last stream of a peer that may still begin more.
const ANY_STREAM: u32 = 0x7FFF_FFFF;

/// A target that answers each request when the test lets it.
fn held() -> (Backend, mpsc::Sender<()>) {
    let (release, gate) = mpsc::channel();
    let gate = std::sync::Mutex::new(gate);
    let target = Backend::answering(move |_| {
        let _ = gate.lock().unwrap().recv();
        ok("held")
    });
    (target, release)
}

fn ends(proxy: &mut Proxy, within: Duration) {
    let began = Instant::now();
    until("the proxy ends", || {
        let ended = proxy.child.try_wait().unwrap();
        ended.is_some_and(|status| status.code() == Some(0))
    });
    assert!(began.elapsed() < within, "after {:?}", began.elapsed());
}

#[test]
fn a_connection_is_left_in_two_steps_and_what_crosses_the_first_is_served() {
    let (target, release) = held();
    let mut proxy = proxy_to(target.address);
    let mut client = RawClient::to(&proxy);
    client.send(&request(1));
    until("it is open", || proxy.statistics("v1").requests_open == 1);
    proxy.signal("TERM");
    let first = client.next_of(frames::GOAWAY).unwrap();
    assert_eq!((first.number(0), first.number(4)), (ANY_STREAM, 0));
    let ping = client.next_of(frames::PING).unwrap();
    assert_eq!(ping.flags & ACK, 0);
    // This one was on its way when we were told.
    client.send(&request(3));
    client.send(&frame(frames::PING, ACK, 0, &ping.payload));
    let second = client.next_of(frames::GOAWAY).unwrap();
    assert_eq!((second.number(0), second.number(4)), (3, 0));
    release.send(()).unwrap();
    release.send(()).unwrap();
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let frame = client.next().expect("both are answered");
        assert_ne!(frame.kind, frames::RST_STREAM);
        if frame.kind == frames::DATA && frame.flags & END_STREAM != 0 {
            answered.push(frame.stream);
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 3]);
    while client.next().is_some() {}
    ends(&mut proxy, Duration::from_secs(5));
}

#[test]
fn a_client_that_says_nothing_to_the_last_word_keeps_no_proxy_from_ending() {
    let (target, release) = held();
    let mut proxy = Proxy::at(DOOR, &["--linger", "200ms", "--grace", "15s"]);
    proxy.apply(shop("v1", &[("v1", &[target.address])]));
    let mut busy = RawClient::to(&proxy);
    busy.send(&request(1));
    let mut idle = RawClient::to(&proxy);
    idle.next_of(frames::SETTINGS).unwrap();
    until("it is open", || proxy.statistics("v1").requests_open == 1);
    proxy.signal("TERM");
    // Neither answers the question that comes with the word.
    busy.next_of(frames::GOAWAY).unwrap();
    idle.next_of(frames::GOAWAY).unwrap();
    release.send(()).unwrap();
    loop {
        let frame = busy.next().expect("it is answered");
        if frame.kind == frames::DATA && frame.flags & END_STREAM != 0 {
            break;
        }
    }
    ends(&mut proxy, Duration::from_secs(12));
}

#[test]
fn streams_go_on_when_another_instance_takes_over() {
    let target = H2Target::serving(|request, respond| async move {
        if request.uri().path() == "/slow" {
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        answer(respond, "served");
    });
    let mut old = Proxy::at(DOOR, &[]);
    let a1 = [target.address];
    old.apply(super::to_h2c(shop("v1", &[("v1", &a1)])));
    run(async {
        let mut client = H2Client::connect(&old).await;
        let slow = client.start(get("/slow")).await;
        soon("it is open", || old.statistics("v1").requests_open == 1).await;
        let _new = successor(&old, &[]);
        // The client is told to go, its stream has its answer, and nothing is lost
        // of what it begins elsewhere meanwhile.
        let mut fresh = H2Client::connect(&old).await;
        assert_eq!(fresh.ask(get("/")).await.unwrap().text(), "served");
        assert_eq!(read(slow).await.unwrap().text(), "served");
        client.ended.await.unwrap().unwrap();
        assert_eq!(fresh.ask(get("/")).await.unwrap().text(), "served");
        assert!(!fresh.ended.is_finished());
    });
    ends(&mut old, Duration::from_secs(10));
}

#[test]
fn an_idle_connection_is_left_in_time_whatever_is_asked_on_it_meanwhile() {
    let target = Backend::named("served");
    let proxy = Proxy::at(DOOR, &["--idle-timeout", "400ms"]);
    proxy.apply(shop("v1", &[("v1", &[target.address])]));
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        for _ in 0..4 {
            // What is used is not idle.
            assert_eq!(client.ask(get("/")).await.unwrap().text(), "served");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let began = Instant::now();
        client.ended.await.unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_secs(3));
    });
    // A question for a sign of life is none of use.
    let mut client = RawClient::to(&proxy);
    client.send(&request(1));
    let began = Instant::now();
    let mut told = false;
    loop {
        let ping = frame(frames::PING, 0, 0, &[0; 8]);
        use std::io::Write as _;
        if client.stream.write_all(&ping).is_err() {
            break;
        }
        match client.next() {
            Some(frame) => told |= frame.kind == frames::GOAWAY,
            None => break,
        }
        thread::sleep(Duration::from_millis(10));
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "it is never left"
        );
    }
    assert!(told, "it is told before it ends");
}

#[test]
fn a_client_that_begins_and_goes_no_further_is_left() {
    let target = Backend::named("served");
    let options = ["--idle-timeout", "400ms", "--head-timeout", "400ms"];
    let proxy = Proxy::at(DOOR, &options);
    proxy.apply(shop("v1", &[("v1", &[target.address])]));
    let half_a_head = {
        let whole = request(1);
        whole[..whole.len() - 4].to_vec()
    };
    let beginnings: [&[u8]; 3] = [&[], &half_a_head, &frame(frames::HEADERS, 0, 1, &[0x82])];
    thread::scope(|scope| {
        for beginning in beginnings {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut client = RawClient::to(proxy);
                client.send(beginning);
                let began = Instant::now();
                while client.next().is_some() {}
                assert!(began.elapsed() < Duration::from_secs(8));
            });
        }
    });
}

#[test]
fn a_client_that_was_idle_for_long_is_listened_to_when_the_proxy_stops() {
    let target = Backend::named("served");
    let mut proxy = Proxy::start(&["--linger", "1500ms"]);
    proxy.apply(shop("v1", &[("v1", &[target.address])]));
    let mut client = proxy.client();
    assert_eq!(client.get("/").unwrap().text(), "served");
    thread::sleep(Duration::from_millis(2_000));
    proxy.signal("TERM");
    thread::sleep(Duration::from_millis(400));
    // It was on its way when we stopped.
    let told = client.get("/").unwrap();
    assert_eq!(
        (told.text().as_str(), told.field("connection")),
        ("served", Some("close"))
    );
    ends(&mut proxy, Duration::from_secs(5));
}
