//! Targets of HTTP/2 that close their connections without a word (GOAWAY).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use http::Request;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::peers::{DOOR, H2Client, H2Target, answer, asking, read, read_body, run, to_h2c};
use crate::common::{DEADLINE, Proxy, shop};

/// Answers some requests on a connection and is gone a moment later, without a
/// word and whatever else is open there. What comes meanwhile is not looked at.
async fn leave_after(answers: usize, stream: TcpStream) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    let (answered, leave) = (Rc::new(Cell::new(0)), Rc::new(Notify::new()));
    let mut open = Vec::new();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = leave.notified() => break,
        };
        let Some(Ok((request, respond))) = accepted else {
            return;
        };
        let (answered, leave) = (Rc::clone(&answered), Rc::clone(&leave));
        open.push(tokio::task::spawn_local(async move {
            serve(request, respond).await;
            answered.set(answered.get() + 1);
            if answered.get() == answers {
                leave.notify_one();
            }
        }));
    }
    let mut unseen = Vec::new();
    let moment = async {
        while let Some(Ok(request)) = connection.accept().await {
            unseen.push(request);
        }
    };
    let _ = timeout(Duration::from_millis(1), moment).await;
    for task in open {
        task.abort();
    }
}

/// Answers at once, or as late as the path says.
async fn serve(mut request: Request<h2::RecvStream>, respond: SendResponse<Bytes>) {
    let late = request.uri().path().strip_prefix("/late/");
    if let Some(millis) = late.and_then(|millis| millis.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    if let Ok(body) = read_body(request.body_mut()).await {
        answer(respond, &String::from_utf8_lossy(&body));
    }
}

fn leaving_after(answers: usize) -> H2Target {
    H2Target::raw(move |_, stream| leave_after(answers, stream))
}

fn proxy_to(target: &H2Target) -> Proxy {
    let proxy = Proxy::at(DOOR, &["--workers", "1"]);
    proxy.apply(to_h2c(shop("v1", &[("v1", &[target.address])])));
    proxy
}

/// So many posts, one after another; how many of them were lost.
fn posts(proxy: &Proxy, count: usize) -> usize {
    let mut client = proxy.client();
    let mut lost = 0;
    for number in 0..count {
        let body = format!("order {number}");
        let told = client.post("/", &body).unwrap();
        match told.status() {
            200 => assert_eq!(told.text(), body),
            _ => lost += 1,
        }
    }
    lost
}

#[test]
fn a_post_is_not_lost_to_a_target_that_closes_after_some_answers() {
    for answers in [1, 3] {
        let target = leaving_after(answers);
        assert_eq!(posts(&proxy_to(&target), 300), 0, "after {answers}");
    }
}

#[test]
fn no_request_is_lost_to_a_target_that_closes_under_others() {
    let target = leaving_after(3);
    let proxy = proxy_to(&target);
    let lost = AtomicUsize::new(0);
    thread::scope(|scope| {
        for user in 0..8 {
            let (proxy, lost) = (&proxy, &lost);
            scope.spawn(move || {
                let mut client = proxy.client();
                for number in 0..100 {
                    let path = format!("/late/{}", (user * 7 + number) % 5);
                    let told = match user % 2 {
                        0 => client.get(&path),
                        _ => client.post(&path, "order"),
                    };
                    if told.unwrap().status() != 200 {
                        lost.fetch_add(1, SeqCst);
                    }
                }
            });
        }
    });
    let (lost, retries) = (lost.into_inner(), proxy.statistics("v1").retries);
    assert_eq!(lost, 0, "of 800, and {retries} were sent again");
    // Those that met the first ends; then each is past the danger before it is sent.
    assert!(retries <= 20, "{retries}");
}

#[test]
fn what_closes_after_more_answers_than_were_watched_costs_a_request_and_not_each_time() {
    let target = leaving_after(40);
    let proxy = proxy_to(&target);
    let end = Instant::now() + DEADLINE;
    let mut lost = 0;
    while lost == 0 {
        lost = posts(&proxy, 100);
        assert!(Instant::now() < end, "requests never came to share");
    }
    // On a busy machine the target may be late to close one more. It closes eight
    // times in what follows.
    let later = posts(&proxy, 300);
    assert!(lost + later <= 2, "{lost}, then {later} of 300");
}

#[test]
fn calls_come_to_share_a_connection_to_a_target_that_keeps_it() {
    let target = H2Target::serving(serve);
    let proxy = proxy_to(&target);
    let end = Instant::now() + DEADLINE;
    let before = loop {
        let before = target.connections();
        assert_eq!(posts(&proxy, 200), 0);
        if target.connections() == before {
            break before;
        }
        assert!(Instant::now() < end, "{before} connections, and more");
    };
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        for _ in 0..10 {
            calls(&mut client, 50).await;
        }
    });
    assert_eq!(target.connections(), before);
}

#[test]
fn a_crowd_of_calls_comes_to_share_connections_too() {
    let target = H2Target::serving(serve);
    let proxy = proxy_to(&target);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        loop {
            let before = target.connections();
            for _ in 0..5 {
                calls(&mut client, 100).await;
            }
            if target.connections() == before {
                break;
            }
        }
    });
}

/// So many calls at once.
async fn calls(client: &mut H2Client, count: usize) {
    let mut open = Vec::new();
    for _ in 0..count {
        let (answer, mut body) = client.begin(asking("POST", "/late/5")).await;
        body.send_data(Bytes::from_static(b"call"), true).unwrap();
        open.push(answer);
    }
    for answer in open {
        assert_eq!(read(answer).await.unwrap().text(), "call");
    }
}
