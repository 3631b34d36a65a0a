//! A request whose target cannot be reached meets a table that came meanwhile.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use cutover_wire::table::{Maintenance, Park, Pool, Preview, Route, Split, Table, Target};

use crate::common::{Backend, Client, DEADLINE, Proxy, until};

/// How long a connection is tried, in three tries: time for a table to come.
const CONNECT_MS: u64 = 3_000;

/// A target that answers no knock: connections to it hang.
struct Swallowing {
    address: SocketAddr,
    _full: (socket2::Socket, TcpStream),
}

impl Swallowing {
    fn new() -> Self {
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let full = full.unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        full.bind(&any.into()).unwrap();
        full.listen(0).unwrap();
        let address = full.local_addr().unwrap().as_socket().unwrap();
        let waiting = TcpStream::connect(address).unwrap();
        Self {
            address,
            _full: (full, waiting),
        }
    }
}

fn pool(id: &str, address: SocketAddr) -> Pool {
    let id = id.to_owned();
    Pool::of(vec![Target { id, address }])
}

fn route(host: &str, prefix: &str, address: SocketAddr) -> Route {
    let pools = [("v1".to_owned(), pool("v1-0", address))].into();
    let mut route = Route::new(vec![host.to_owned()], prefix, Split::all_to("v1"), pools);
    route.limits.connect_ms = CONNECT_MS;
    route
}

/// A proxy with the app `shop` on a dead target, and a request that is bound to it.
fn bound(change: impl FnOnce(&mut Route), fields: &str) -> (Proxy, Swallowing, Client) {
    let proxy = Proxy::start(&[]);
    let dead = Swallowing::new();
    let mut shop = route("shop.example", "/", dead.address);
    change(&mut shop);
    proxy.apply([("shop".to_owned(), shop)].into());
    let mut client = proxy.client();
    client.send(&format!(
        "POST /old/page HTTP/1.1\r\nHost: shop.example\r\n{fields}Content-Length: 5\r\n\r\norder"
    ));
    until("the request is bound", || {
        let told = proxy.counts();
        let targets = &told.apps["shop"]["v1"].targets;
        targets["v1-0"].requests_open == 1
    });
    (proxy, dead, client)
}

/// Gives the app another release that answers.
fn serve(table: &mut Table, address: SocketAddr) {
    let shop = table.apps.get_mut("shop").unwrap();
    shop.pools.insert("v2".to_owned(), pool("v2-0", address));
    shop.serving = Split::all_to("v2");
    shop.park = None;
}

#[test]
fn it_goes_to_the_release_that_serves_now() {
    let (proxy, _dead, mut client) = bound(|_| {}, "");
    let v2 = Backend::named("v2");
    proxy.change(|table| serve(table, v2.address));
    assert_eq!(client.read().unwrap().text(), "v2");
    assert_eq!(v2.seen.lock().unwrap()[0].body, b"order");
}

#[test]
fn it_goes_to_the_app_that_has_its_host_and_path_now() {
    let (proxy, _dead, mut client) = bound(|_| {}, "");
    let other = Backend::named("other");
    proxy.change(|table| {
        let mut route = route("shop.example", "/old", other.address);
        route.strip_prefix = true;
        table.apps.insert("other".to_owned(), route);
    });
    assert_eq!(client.read().unwrap().text(), "other");
    assert_eq!(other.seen.lock().unwrap()[0].line, "POST /page HTTP/1.1");
}

#[test]
fn what_its_first_app_took_away_from_the_path_is_there_for_the_next() {
    let strip = |shop: &mut Route| {
        shop.path_prefix = "/old".to_owned();
        shop.strip_prefix = true;
    };
    let (proxy, _dead, mut client) = bound(strip, "");
    let other = Backend::named("other");
    proxy.change(|table| {
        table.apps.clear();
        let route = route("shop.example", "/", other.address);
        table.apps.insert("other".to_owned(), route);
    });
    assert_eq!(client.read().unwrap().text(), "other");
    let line = other.seen.lock().unwrap()[0].line.clone();
    assert_eq!(line, "POST /old/page HTTP/1.1");
}

#[test]
fn it_waits_while_its_app_is_parked_and_no_drain_waits_for_it() {
    let (proxy, _dead, mut client) = bound(|_| {}, "");
    proxy.change_shop(|shop| {
        shop.park = Some(Park {
            max_requests: 10,
            max_bytes: 1_000,
            max_age_ms: 60_000,
        });
    });
    until("it waits", || {
        let parks = proxy.counts().proxy.parks;
        parks.get("shop").is_some_and(|park| park.waiting == 1)
    });
    assert!(proxy.drain(&["v1-0"], DEADLINE).is_empty());
    assert_eq!(proxy.statistics("v1").requests_open, 0);
    let v2 = Backend::named("v2");
    let parked = Instant::now();
    until("it waited longer than it may try to connect", || {
        parked.elapsed() > Duration::from_millis(CONNECT_MS)
    });
    proxy.change(|table| serve(table, v2.address));
    assert_eq!(client.read().unwrap().text(), "v2");
    assert_eq!(proxy.statistics("v2").requests_open, 0);
}

#[test]
fn it_is_told_what_a_new_request_is_told() {
    let check = |change: fn(&mut Route), status: u16| {
        let (proxy, _dead, mut client) = bound(|_| {}, "");
        proxy.change_shop(change);
        let answer = client.read().unwrap();
        assert_eq!(answer.status(), status, "{}", answer.text());
        assert_eq!(proxy.statistics("v1").failed, 1);
    };
    check(|shop| shop.maintenance = Maintenance::On, 503);
    check(|shop| shop.hosts = vec!["other.example".to_owned()], 404);
    check(|shop| shop.limits.max_body = Some(4), 413);
}

#[test]
fn who_is_shown_a_preview_is_shown_nothing_else() {
    let check = |secret: &str, text: &str| {
        let preview = |shop: &mut Route| {
            shop.preview = Some(Preview::new("x-preview", "sesame", "v1"));
        };
        let (proxy, _dead, mut client) = bound(preview, "X-Preview: sesame\r\n");
        let (v2, v3) = (Backend::named("v2"), Backend::named("v3"));
        proxy.change(|table| {
            serve(table, v2.address);
            let shop = table.apps.get_mut("shop").unwrap();
            shop.pools.insert("v3".to_owned(), pool("v3-0", v3.address));
            shop.preview = Some(Preview::new("x-preview", secret, "v3"));
        });
        assert_eq!(client.read().unwrap().text().trim(), text);
    };
    check("sesame", "v3");
    check("another", "no target could be reached");
}

#[test]
fn no_target_sees_the_secret_of_a_preview_that_came_meanwhile() {
    let (proxy, _dead, mut client) = bound(|_| {}, "X-Preview: sesame\r\n");
    let v2 = Backend::named("v2");
    proxy.change(|table| {
        serve(table, v2.address);
        let shop = table.apps.get_mut("shop").unwrap();
        shop.preview = Some(Preview::new("x-preview", "another", "v1"));
    });
    assert_eq!(client.read().unwrap().text(), "v2");
    assert_eq!(v2.seen.lock().unwrap()[0].field("x-preview"), None);
}
