//! Clients that are sent to the same release again while weights change.

use std::collections::BTreeMap;
use std::time::Duration;

use cutover_wire::table::{Affinity, Client as Known, Moves};

use crate::common::{Client, Proxy, split, two_releases};
use crate::upgrade::successor;

/// The weights of a canary that goes well.
const STEPS: [u16; 4] = [500, 2_500, 5_000, 10_000];

fn by_cookie(moves: Moves) -> Option<Affinity> {
    let by = Known::Cookie {
        name: "cutover".to_owned(),
        ttl_ms: 3_600_000,
    };
    Some(Affinity { by, moves })
}

fn raise(proxy: &Proxy, weight: u16, affinity: Option<Affinity>) {
    proxy.change_shop(|shop| {
        shop.affinity = affinity;
        shop.serving = match 10_000 - weight {
            0 => split(&[("v2", weight)]),
            rest => split(&[("v1", rest), ("v2", weight)]),
        };
    });
}

/// A client that keeps its cookie as a browser does.
#[derive(Default)]
struct Visitor {
    cookie: Option<String>,
    given: usize,
}

impl Visitor {
    /// The release that answers.
    fn visit(&mut self, client: &mut Client) -> String {
        let cookie = self
            .cookie
            .clone()
            .unwrap_or_else(|| "theme=dark".to_owned());
        let answer = client.ask("shop.example", "/", &[("Cookie", &cookie)]);
        assert_eq!(answer.status(), 200);
        if let Some(given) = answer.field("set-cookie") {
            self.given += 1;
            self.cookie = given.split(';').next().map(str::to_owned);
        }
        answer.text()
    }
}

/// Lets everybody come at each step of a canary; nobody may go back, and each step
/// has its share within five standard deviations.
fn climb<const COUNT: usize>(mut step: impl FnMut(u16), mut visit: impl FnMut(usize) -> String) {
    let mut before: Vec<String> = vec!["v1".to_owned(); COUNT];
    for weight in STEPS {
        step(weight);
        let now: Vec<String> = (0..COUNT).map(&mut visit).collect();
        for (number, (was, is)) in before.iter().zip(&now).enumerate() {
            assert!(was == "v1" || is == "v2", "{number} went back at {weight}");
        }
        let share = f64::from(weight) / 10_000.0;
        let moved = now.iter().filter(|pool| *pool == "v2").count() as f64;
        let chance = 5.0 * (COUNT as f64 * share * (1.0 - share)).sqrt();
        let off = (moved - COUNT as f64 * share).abs();
        assert!(off <= chance, "{moved} of {COUNT} at {weight}");
        before = now;
    }
}

#[test]
fn a_rising_weight_moves_no_client_with_a_cookie_back_and_gives_it_once() {
    let (proxy, _) = two_releases(&[]);
    let mut client = proxy.client();
    let mut visitors: Vec<Visitor> = (0..200).map(|_| Visitor::default()).collect();
    climb::<200>(
        |weight| raise(&proxy, weight, by_cookie(Moves::Everybody)),
        |number| {
            let visitor = &mut visitors[number];
            let first = visitor.visit(&mut client);
            assert_eq!(visitor.visit(&mut client), first);
            first
        },
    );
    assert!(visitors.iter().all(|visitor| visitor.given == 1));
}

#[test]
fn the_cookie_is_the_proxys_own_and_garbage_in_its_place_is_replaced() {
    let (proxy, _) = two_releases(&[]);
    raise(&proxy, 5_000, by_cookie(Moves::Everybody));
    let mut client = proxy.client();
    let mut ask = |cookie: &str| {
        let answer = client.ask("shop.example", "/", &[("Cookie", cookie)]);
        answer.field("set-cookie").map(str::to_owned)
    };
    let given = ask("theme=dark").unwrap();
    let (value, attributes) = given.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
    assert_eq!(ask(&format!("a=1; {value}; b=2")), None);
    for garbage in ["cutover=", "cutover=v2", "cutover=00", "cutover=\u{1}"] {
        let garbage = garbage.replace('\u{1}', "zzzzzzzzzzzzzzzz");
        assert!(
            ask(&garbage).is_some_and(|given| given.starts_with("cutover=")),
            "{garbage}"
        );
    }
}

#[test]
fn a_rising_weight_moves_no_client_with_a_header_back() {
    let (proxy, _) = two_releases(&[]);
    let affinity = || Affinity {
        by: Known::Header {
            name: "x-user".to_owned(),
        },
        moves: Moves::Everybody,
    };
    let mut client = proxy.client();
    climb::<200>(
        |weight| raise(&proxy, weight, Some(affinity())),
        |number| {
            let user = format!("user-{number}");
            let fields = [("X-User", user.as_str())];
            let answer = client.ask("shop.example", "/", &fields);
            assert_eq!(answer.field("set-cookie"), None);
            assert_eq!(
                client.ask("shop.example", "/", &fields).text(),
                answer.text()
            );
            answer.text()
        },
    );
}

#[test]
fn a_rising_weight_moves_no_address_back_however_it_connects() {
    let (proxy, _) = two_releases(&[]);
    proxy.change(|table| table.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()]);
    let affinity = || Affinity {
        by: Known::Address {},
        moves: Moves::Everybody,
    };
    let mut clients = [proxy.client(), proxy.client()];
    climb::<200>(
        |weight| raise(&proxy, weight, Some(affinity())),
        |number| {
            let address = format!("203.0.113.{number}");
            let fields = [("X-Forwarded-For", address.as_str())];
            let told = clients.each_mut().map(|client| {
                let answer = client.ask("shop.example", "/", &fields);
                answer.text()
            });
            assert_eq!(told[0], told[1], "{address}");
            told[0].clone()
        },
    );
}

#[test]
fn only_new_sessions_follow_the_weights_while_the_old_release_is_there() {
    let (proxy, _) = two_releases(&[]);
    proxy.change_shop(|shop| shop.affinity = by_cookie(Moves::NewSessions));
    let mut client = proxy.client();
    let mut old = Visitor::default();
    assert_eq!(old.visit(&mut client), "v1");
    raise(&proxy, 10_000, by_cookie(Moves::NewSessions));
    let mut new = Visitor::default();
    for _ in 0..3 {
        assert_eq!(new.visit(&mut client), "v2");
        assert_eq!(old.visit(&mut client), "v1");
    }
    assert_eq!((old.given, new.given), (1, 1));
    // Nobody is held at what leaves: the session goes on at the other release.
    proxy.drain(&["v1-0"], Duration::from_secs(5));
    assert_eq!(old.visit(&mut client), "v2");
    assert_eq!(old.visit(&mut client), "v2");
    assert_eq!(old.given, 2);
    proxy.change_shop(|shop| {
        let kept = shop.pools.remove("v2").unwrap();
        shop.pools = BTreeMap::from([("v2".to_owned(), kept)]);
    });
    assert_eq!((old.visit(&mut client).as_str(), old.given), ("v2", 2));
}

#[test]
fn a_cookie_that_names_a_release_without_users_opens_nothing() {
    let (proxy, [_, v2]) = two_releases(&[]);
    proxy.change_shop(|shop| {
        shop.affinity = by_cookie(Moves::NewSessions);
        shop.preview = Some(cutover_wire::table::Preview::new("x-preview", "s", "v2"));
    });
    let mut client = proxy.client();
    for name in ["v2", "shop.v2"] {
        let forged = format!("cutover=0123456789abcdef.{name}");
        let answer = client.ask("shop.example", "/", &[("Cookie", &forged)]);
        assert_eq!(answer.text(), "v1");
    }
    assert_eq!(v2.requests(), 0);
}

#[test]
fn sessions_stay_at_the_old_release_over_a_take_over_unless_it_was_drained() {
    let (first, _) = two_releases(&[]);
    first.change_shop(|shop| shop.affinity = by_cookie(Moves::NewSessions));
    let mut old = Visitor::default();
    assert_eq!(old.visit(&mut first.client()), "v1");
    raise(&first, 10_000, by_cookie(Moves::NewSessions));
    let second = successor(&first, &[]);
    let mut client = Client::connect(first.address);
    assert_eq!(old.visit(&mut client), "v1");
    second.drain(&["v1-0"], Duration::from_secs(5));
    let _third = successor(&second, &[]);
    assert_eq!(old.visit(&mut Client::connect(first.address)), "v2");
}
