//! Requests of an app that is parked: held, let go in order, refused beyond the bounds.

use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use cutover_wire::statistics::ParkStatistics;
use cutover_wire::table::{Https, Maintenance, Park, Preview, Split};

use crate::common::{Backend, Client, DEADLINE, Proxy, ok, reset, two_releases, until};
use crate::upgrade::successor;

const PARK: Park = Park {
    max_requests: 1_000,
    max_bytes: 1 << 20,
    max_age_ms: 60_000,
};

fn park(proxy: &Proxy, park: Park) {
    proxy.change_shop(|shop| shop.park = Some(park));
}

/// Lets everybody go, to the second release.
fn release(proxy: &Proxy) {
    proxy.change_shop(|shop| {
        shop.park = None;
        shop.serving = Split::all_to("v2");
    });
}

fn parked(proxy: &Proxy) -> ParkStatistics {
    let parks = proxy.counts().proxy.parks;
    parks.get("shop").copied().unwrap_or_default()
}

fn waits(proxy: &Proxy, count: u64) {
    until(&format!("{count} wait"), || parked(proxy).waiting == count);
}

/// A client whose request is on its way.
fn asking(proxy: &Proxy, path: &str) -> Client {
    let mut client = proxy.client();
    client.send(&format!(
        "GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n"
    ));
    client
}

#[test]
fn requests_wait_while_the_app_is_parked_and_go_to_the_new_release() {
    let (proxy, [v1, v2]) = two_releases(&[]);
    let mut kept = proxy.client();
    assert_eq!(kept.get("/").unwrap().text(), "v1");
    park(&proxy, PARK);
    kept.send("GET /kept HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    let mut others: Vec<Client> = (0..20).map(|_| asking(&proxy, "/")).collect();
    waits(&proxy, 21);
    assert_eq!((v1.requests(), v2.requests()), (1, 0));
    // The old release has nobody left, so it can go.
    assert!(proxy.drain(&["v1-0"], DEADLINE).is_empty());
    release(&proxy);
    for client in others.iter_mut().chain([&mut kept]) {
        let answer = client.read().unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "v2"));
    }
    let told = parked(&proxy);
    assert_eq!((told.released, told.waiting, told.bytes), (21, 0, 0));
    assert_eq!((told.overflowed, told.timed_out, told.left), (0, 0, 0));
    assert_eq!(kept.get("/").unwrap().text(), "v2");
    assert_eq!((v1.requests(), v2.requests()), (1, 22));
}

#[test]
fn they_are_let_go_in_the_order_in_which_they_came() {
    const COUNT: usize = 60;
    let (proxy, _) = two_releases(&["--workers", "1"]);
    // Nobody is answered before all are there, so each has a connection of its own,
    // and those are numbered as they were made.
    let order: Arc<Mutex<Vec<(usize, String)>>> = Arc::default();
    let (journal, all) = (Arc::clone(&order), Barrier::new(COUNT));
    let backend = Backend::raw(move |number, mut client| {
        let asked = client.read().unwrap();
        journal.lock().unwrap().push((number, asked.line));
        all.wait();
        client.send(&ok("v2"));
    });
    park(&proxy, PARK);
    let mut clients = Vec::new();
    for number in 0..COUNT {
        clients.push(asking(&proxy, &format!("/{number}")));
        waits(&proxy, clients.len() as u64);
    }
    proxy.change_shop(|shop| {
        shop.pools.get_mut("v2").unwrap().targets[0].address = backend.address;
        shop.serving = Split::all_to("v2");
        shop.park = None;
    });
    for client in &mut clients {
        assert_eq!(client.read().unwrap().status(), 200);
    }
    let mut order = order.lock().unwrap();
    order.sort();
    let paths: Vec<&str> = order
        .iter()
        .map(|(_, line)| line.split(' ').nth(1).unwrap())
        .collect();
    let expected: Vec<String> = (0..COUNT).map(|number| format!("/{number}")).collect();
    assert_eq!(paths, expected);
}

#[test]
fn who_is_over_a_bound_is_told_when_to_come_again() {
    let (proxy, [v1, _]) = two_releases(&[]);
    park(
        &proxy,
        Park {
            max_requests: 3,
            max_bytes: 10,
            max_age_ms: 7_500,
        },
    );
    let mut posting = proxy.client();
    posting.send("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 8\r\n\r\n12345678");
    waits(&proxy, 1);
    assert_eq!(parked(&proxy).bytes, 8);
    let refused = |client: &mut Client, path: &str, body: &str| {
        let answer = client.post(path, body).unwrap();
        assert_eq!(
            (answer.status(), answer.field("retry-after")),
            (503, Some("8"))
        );
    };
    let mut client = proxy.client();
    refused(&mut client, "/", "123");
    let _waiting = [asking(&proxy, "/"), asking(&proxy, "/")];
    waits(&proxy, 3);
    refused(&mut client, "/", "");
    assert_eq!(parked(&proxy).overflowed, 2);
    assert_eq!(v1.requests(), 0);
    // Its connection is as good as before.
    release(&proxy);
    assert_eq!(client.get("/").unwrap().text(), "v2");
    assert_eq!(posting.read().unwrap().text(), "v2");
}

#[test]
fn who_waited_as_long_as_the_table_allows_is_told_when_to_come_again() {
    let (proxy, [v1, _]) = two_releases(&[]);
    park(
        &proxy,
        Park {
            max_age_ms: 300,
            ..PARK
        },
    );
    let begun = Instant::now();
    let mut client = proxy.client();
    let answer = client.get("/").unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(
        (answer.status(), answer.field("retry-after")),
        (503, Some("1"))
    );
    let told = parked(&proxy);
    assert_eq!((told.timed_out, told.waiting, v1.requests()), (1, 0, 0));
    release(&proxy);
    assert_eq!(client.get("/").unwrap().text(), "v2");
}

#[test]
fn a_client_that_leaves_frees_its_place_at_once() {
    const COUNT: u32 = 40;
    let (proxy, [v1, v2]) = two_releases(&[]);
    let bounds = Park {
        max_requests: COUNT,
        ..PARK
    };
    park(&proxy, bounds);
    let clients: Vec<Client> = (0..COUNT).map(|_| asking(&proxy, "/gone")).collect();
    waits(&proxy, COUNT.into());
    for (number, client) in clients.into_iter().enumerate() {
        if number.is_multiple_of(2) {
            reset(&client);
        }
    }
    waits(&proxy, 0);
    assert_eq!(parked(&proxy).left, u64::from(COUNT));
    let mut stays = asking(&proxy, "/stays");
    waits(&proxy, 1);
    release(&proxy);
    assert_eq!(stays.read().unwrap().text(), "v2");
    assert_eq!((v1.requests(), v2.requests()), (0, 1));
}

#[test]
fn a_client_that_leaves_in_the_middle_of_an_upload_frees_its_place_at_once() {
    let (proxy, [v1, v2]) = two_releases(&[]);
    park(&proxy, PARK);
    let uploading = |sent: usize| {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 1000000\r\n\r\n");
        client.send(&"x".repeat(sent));
        client
    };
    // Both ends hold what was sent, and the end behind it. What is more than that holds
    // the end up, too, and only a reset overtakes it.
    let clients = [uploading(0), uploading(10_000)];
    waits(&proxy, 2);
    drop(clients);
    waits(&proxy, 0);
    let clients = [uploading(0), uploading(10_000), uploading(200_000)];
    waits(&proxy, 3);
    clients.into_iter().for_each(|client| reset(&client));
    waits(&proxy, 0);
    assert_eq!(parked(&proxy).left, 5);
    assert_eq!((v1.requests(), v2.requests()), (0, 0));
}

#[test]
fn a_stream_of_http2_that_is_reset_frees_its_place_at_once() {
    let (proxy, [_, v2]) = two_releases(&["--listen", "http+h2c=127.0.0.1:0"]);
    park(&proxy, PARK);
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let address = proxy.listener(1);
    let (stays, connection) = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut ask = |path: &str| {
            let uri = format!("http://shop.example{path}");
            let request = http::Request::get(uri).body(()).unwrap();
            sender.send_request(request, true).unwrap().0
        };
        let (gone, stays) = (ask("/gone"), ask("/stays"));
        let wait = |count| {
            let proxy = &proxy;
            async move {
                let end = Instant::now() + DEADLINE;
                while parked(proxy).waiting != count {
                    assert!(Instant::now() < end, "never were {count} there");
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        };
        wait(2).await;
        drop(gone);
        wait(1).await;
        (stays, connection)
    });
    assert_eq!(parked(&proxy).left, 1);
    release(&proxy);
    let status = runtime.block_on(async { stays.await.unwrap().status() });
    assert_eq!((status.as_u16(), v2.requests()), (200, 1));
    drop(connection);
}

#[test]
fn a_body_that_waited_is_delivered_once_and_whole() {
    let (proxy, [v1, v2]) = two_releases(&[]);
    park(&proxy, PARK);
    let body = "0123456789abcdef".repeat(600);
    let mut clients: Vec<Client> = (0..10).map(|_| proxy.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let length = body.len();
        client.send(&format!(
            "POST /{number} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
    }
    waits(&proxy, 10);
    assert_eq!(parked(&proxy).bytes, 10 * body.len() as u64);
    // A body that is not kept waits with the client, and its length is no bound.
    let mut large = proxy.client();
    large.send("POST /large HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 100000\r\n\r\n");
    waits(&proxy, 11);
    release(&proxy);
    for client in &mut clients {
        assert_eq!(client.read().unwrap().text(), "v2");
    }
    large.send(&"y".repeat(100_000));
    assert_eq!(large.read().unwrap().text(), "v2");
    let mut seen: Vec<String> = Vec::new();
    for message in &*v2.seen.lock().unwrap() {
        let large = message.line.contains("large");
        let whole = message.text()
            == if large {
                "y".repeat(100_000)
            } else {
                body.clone()
            };
        assert!(whole, "{}", message.line);
        seen.push(message.line.clone());
    }
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), v2.requests(), v1.requests()), (11, 11, 0));
}

#[test]
fn a_restart_of_the_proxy_goes_on_parking_by_the_stored_table() {
    let directory = tempfile::tempdir().unwrap();
    let mut proxy = Proxy::start_in(directory.path(), &[]);
    let (v1, v2) = (Backend::named("v1"), Backend::named("v2"));
    proxy.apply(crate::common::shop(
        "v1",
        &[("v1", &[v1.address]), ("v2", &[v2.address])],
    ));
    park(&proxy, PARK);
    proxy.signal("KILL");
    proxy.child.wait().unwrap();
    let proxy = Proxy::start_in(directory.path(), &[]);
    let mut client = asking(&proxy, "/");
    waits(&proxy, 1);
    release(&proxy);
    assert_eq!(client.read().unwrap().text(), "v2");
    assert_eq!((v1.requests(), v2.requests()), (0, 1));
}

#[test]
fn what_waits_at_an_instance_that_was_taken_over_is_let_go_by_its_successor() {
    let (old, [v1, v2]) = two_releases(&[]);
    park(&old, PARK);
    let mut client = asking(&old, "/");
    waits(&old, 1);
    let new = successor(&old, &[]);
    let mut other = asking(&new, "/");
    waits(&new, 1);
    release(&new);
    for client in [&mut client, &mut other] {
        assert_eq!(client.read().unwrap().text(), "v2");
    }
    assert_eq!((v1.requests(), v2.requests()), (0, 2));
}

#[test]
fn what_needs_no_target_of_users_does_not_wait() {
    let (proxy, _) = two_releases(&[]);
    proxy.change_shop(|shop| {
        shop.park = Some(PARK);
        shop.preview = Some(Preview::new("x-preview", "s", "v2"));
    });
    let mut client = proxy.client();
    let preview = ("X-Preview", "s");
    assert_eq!(client.ask("shop.example", "/", &[preview]).text(), "v2");
    proxy.change_shop(|shop| shop.https = Https::Redirect);
    assert_eq!(client.get("/").unwrap().status(), 308);
    proxy.change_shop(|shop| {
        shop.https = Https::Optional;
        shop.maintenance = Maintenance::On;
    });
    let answer = client.get("/").unwrap();
    assert_eq!((answer.status(), answer.field("retry-after")), (503, None));
    assert!(answer.text().contains("maintenance"));
    assert_eq!(parked(&proxy), ParkStatistics::default());
}

#[test]
fn who_waits_when_the_process_ends_is_told_to_come_again() {
    let (mut proxy, [v1, v2]) = two_releases(&["--grace", "2s"]);
    park(&proxy, PARK);
    let mut waiting: Vec<Client> = (0..5).map(|_| asking(&proxy, "/")).collect();
    waits(&proxy, 5);
    proxy.signal("TERM");
    for client in &mut waiting {
        let answer = client.read().unwrap();
        assert_eq!(answer.status(), 503, "{}", answer.text());
        assert_eq!(answer.field("retry-after"), Some("30"));
        assert_eq!(answer.field("connection"), Some("close"));
    }
    until("the process ends by itself", || {
        let ended = proxy.child.try_wait().unwrap();
        ended.is_some_and(|status| status.success())
    });
    assert!(proxy.log().contains("every request was finished"));
    assert_eq!((v1.requests(), v2.requests()), (0, 0));
}

#[test]
fn who_waits_goes_on_waiting_for_the_app_that_has_its_host_now() {
    let (proxy, [v1, v2]) = two_releases(&["--workers", "1"]);
    park(&proxy, PARK);
    let mut client = asking(&proxy, "/");
    waits(&proxy, 1);
    proxy.change(|table| {
        let mut other = table.apps.remove("shop").unwrap();
        other.serving = Split::all_to("v2");
        table.apps.insert("other".to_owned(), other);
    });
    until("it waits in the lot of the other app", || {
        let parks = proxy.counts().proxy.parks;
        parks.get("other").is_some_and(|park| park.waiting == 1)
    });
    // The worker has time for others meanwhile.
    let mut next = asking(&proxy, "/next");
    until("the next one waits there, too", || {
        proxy.counts().proxy.parks["other"].waiting == 2
    });
    proxy.change(|table| table.apps.get_mut("other").unwrap().park = None);
    assert_eq!(client.read().unwrap().text(), "v2");
    assert_eq!(next.read().unwrap().text(), "v2");
    assert_eq!((v1.requests(), v2.requests()), (0, 2));
}

#[test]
fn who_waits_for_an_app_that_leaves_and_comes_back_parked_waits_on() {
    let (proxy, _) = two_releases(&["--workers", "1"]);
    park(&proxy, PARK);
    let mut first = asking(&proxy, "/");
    waits(&proxy, 1);
    let mut shop = None;
    proxy.change(|table| shop = table.apps.remove("shop"));
    assert_eq!(first.read().unwrap().status(), 404);
    proxy.change(|table| drop(table.apps.insert("shop".to_owned(), shop.unwrap())));
    let mut second = asking(&proxy, "/");
    waits(&proxy, 1);
    release(&proxy);
    assert_eq!(second.read().unwrap().text(), "v2");
}
