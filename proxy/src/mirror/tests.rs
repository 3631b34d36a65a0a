use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use cutover_wire::table::{Bodies, Weight};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};

use super::*;
use crate::stand_in::{StandIn, until};

/// Runs a test as a worker runs.
fn on_a_worker(test: impl Future<Output = ()>) {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default());
    runtime.unwrap().block_on(test);
}

/// A target that gets copies, and answers each as soon as it may.
#[derive(Debug)]
struct Shade {
    target: Arc<Target>,
    /// How many more it answers.
    answers: Semaphore,
    body: Mutex<Bytes>,
    heads: Mutex<Vec<Parts>>,
    bodies: Mutex<Vec<Bytes>>,
    connections: Arc<AtomicUsize>,
}

impl Shade {
    async fn new(protocol: Protocol) -> Arc<Self> {
        let stand_in = StandIn::bind().await;
        let address = stand_in.address;
        let shade = Arc::new(Self {
            target: Arc::new(Target::new(7, address, 1)),
            answers: Semaphore::new(0),
            body: Mutex::new("as ever".into()),
            heads: Mutex::default(),
            bodies: Mutex::default(),
            connections: Arc::clone(&stand_in.connections),
        });
        let answering = Arc::clone(&shade);
        stand_in.serve(protocol, move |request| {
            Arc::clone(&answering).answer(request)
        });
        shade
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Whole>, Infallible> {
        let (parts, mut body) = request.into_parts();
        self.heads.lock().unwrap().push(parts);
        let mut whole = Vec::new();
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            whole.extend_from_slice(frame.data_ref().unwrap());
        }
        self.bodies.lock().unwrap().push(whole.into());
        self.answers.acquire().await.unwrap().forget();
        let answer = self.body.lock().unwrap().clone();
        Ok(Response::new(Whole::of(answer)))
    }

    fn asked(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

/// An app with one worker and a mirror to one target.
struct Scene {
    mirrors: Rc<Mirrors>,
    app: Arc<str>,
    mirror: table::Mirror,
    targets: Vec<Arc<Target>>,
    protocol: Protocol,
    limits: Limits,
    comparison: Arc<Comparison>,
}

impl Scene {
    fn new(target: &Arc<Target>) -> Self {
        Self {
            mirrors: Mirrors::new(0),
            app: Arc::from("shop"),
            mirror: mirror(),
            targets: vec![Arc::clone(target)],
            protocol: Protocol::Http1,
            limits: Limits::default(),
            comparison: Arc::new(Comparison::new(1)),
        }
    }

    fn copy(&self, parts: &Parts, body: Option<Bytes>) -> Option<Rc<Pair>> {
        let shadow = Shadow {
            app: &self.app,
            mirror: &self.mirror,
            targets: &self.targets,
            protocol: self.protocol,
            limits: &self.limits,
            comparison: &self.comparison,
        };
        self.mirrors.copy(&shadow, parts, body)
    }

    fn get(&self) -> Option<Rc<Pair>> {
        self.copy(&parts("GET", "/page?x=1", &[("host", "a.example")]), None)
    }

    /// Copied, dropped and failed.
    fn counts(&self) -> (u64, u64, u64) {
        let told = self.comparison.read();
        (told.copied, told.dropped, told.failed)
    }

    fn under_way(&self) -> usize {
        self.mirrors.tasks.borrow().len()
    }
}

fn mirror() -> table::Mirror {
    table::Mirror {
        pool: "v2".to_owned(),
        share: Weight(2_500),
        max_queue: 1_000,
        bodies: Bodies::Ignored,
    }
}

fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn nobody() -> (tokio::net::TcpSocket, SocketAddr) {
    // Bound and not listening: it stays ours, and nobody is there.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = closed.local_addr().unwrap();
    (closed, address)
}

#[test]
fn a_share_of_the_safe_requests_is_copied() {
    let check = |method: &str, fields: &[(&str, &str)], random, expected: bool| {
        let told = Mirrors::wants(&mirror(), &parts(method, "/", fields), random);
        assert_eq!(told, expected, "{method} {fields:?} {random}");
    };
    for method in ["GET", "HEAD", "OPTIONS"] {
        check(method, &[], 0, true);
        check(method, &[], 2_499, true);
        check(method, &[], 2_500, false);
        check(method, &[], 12_499, true);
        check(method, &[], 9_999, false);
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        check(method, &[], 0, false);
    }
    check("GET", &[("upgrade", "websocket")], 0, false);
}

#[test]
fn a_copy_is_marked_and_has_the_fields_of_its_request() {
    on_a_worker(async {
        let shade = Shade::new(Protocol::Http1).await;
        shade.answers.add_permits(9);
        let scene = Scene::new(&shade.target);
        let fields = [
            ("host", "a.example"),
            ("cookie", "who=me"),
            ("cookie", "more=1"),
            ("connection", "upgrade"),
            ("content-length", "99"),
            ("te", "trailers"),
            ("x-cutover-mirror", "forged"),
        ];
        let pair = scene.copy(
            &parts("OPTIONS", "/page?x=1", &fields),
            Some("what?".into()),
        );
        let pair = pair.unwrap();
        until("it came", || scene.under_way() == 0).await;
        let head = shade.heads.lock().unwrap().pop().unwrap();
        assert_eq!(
            (head.method, head.uri.to_string().as_str()),
            (Method::OPTIONS, "/page?x=1")
        );
        let mut lines: Vec<String> = head
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        let expected = [
            "content-length: 5",
            "cookie: more=1",
            "cookie: who=me",
            "host: a.example",
            "x-cutover-mirror: 1",
        ];
        assert_eq!(lines, expected);
        assert_eq!(*shade.bodies.lock().unwrap(), ["what?"]);
        assert_eq!(scene.counts(), (1, 0, 0));
        pair.primary(http::StatusCode::OK, 5);
    });
}

#[test]
fn a_target_of_http2_gets_copies_too() {
    on_a_worker(async {
        let shade = Shade::new(Protocol::H2c).await;
        shade.answers.add_permits(9);
        let scene = Scene {
            protocol: Protocol::H2c,
            ..Scene::new(&shade.target)
        };
        for _ in 0..2 {
            scene.get().unwrap();
            until("it came", || scene.under_way() == 0).await;
        }
        let head = shade.heads.lock().unwrap().pop().unwrap();
        assert_eq!(head.uri.to_string(), "http://a.example/page?x=1");
        assert_eq!(head.headers[MIRROR_HEADER], "1");
        assert_eq!((shade.connections(), scene.counts()), (1, (2, 0, 0)));
    });
}

#[test]
fn copies_that_hang_delay_no_request_and_are_cut_by_a_drain() {
    on_a_worker(async {
        let (shade, users) = (
            Shade::new(Protocol::Http1).await,
            Shade::new(Protocol::Http1).await,
        );
        users.answers.add_permits(10_000);
        let scene = Scene::new(&shade.target);
        let mut primary = Aside::connect(users.target.address(), Protocol::Http1)
            .await
            .unwrap();
        let began = Instant::now();
        let mut pairs = Vec::new();
        for _ in 0..200 {
            let copy = parts("GET", "/", &[("host", "a.example")]);
            pairs.push(scene.copy(&copy, None).unwrap());
            let answer = primary.send(request(&copy, None)).await.unwrap();
            read(answer.into_body()).await.unwrap();
            assert!(primary.freed().await);
            pairs.last().unwrap().primary(http::StatusCode::OK, 1);
        }
        // Of a hang no request may feel even the shortest bound of a copy.
        assert!(began.elapsed() < WAIT, "{:?}", began.elapsed());
        assert_eq!((users.asked(), scene.under_way()), (200, 200));
        until("those with a place are asked", || {
            shade.asked() == MAX_CONNECTIONS_OF_APP
        })
        .await;
        assert!(shade.target.open().is_empty(), "no drain waits for a copy");
        shade.target.set_draining(true);
        scene.mirrors.stop(shade.target.number());
        until("they are gone", || scene.under_way() == 0).await;
        let told = scene.comparison.read();
        assert_eq!(
            (told.failed, told.dropped),
            (0, 0),
            "it was not their fault"
        );
        assert_eq!(told.same_status + told.other_status, 0);
        assert!(scene.get().is_none(), "a draining target gets no copy");
    });
}

#[test]
fn a_copy_that_finds_the_queue_full_is_dropped_and_counted() {
    on_a_worker(async {
        let shade = Shade::new(Protocol::Http1).await;
        let mut scene = Scene::new(&shade.target);
        scene.mirror.max_queue = 3;
        for round in 1..=3 {
            let made = (0..5).filter(|_| scene.get().is_some()).count();
            assert_eq!(made, 3);
            assert_eq!(scene.counts(), (3 * (round - 1), 2 * round, 0));
            shade.answers.add_permits(3);
            until("the three are through", || scene.under_way() == 0).await;
        }
    });
}

#[test]
fn copies_wait_for_a_bounded_number_of_connections_which_are_used_again() {
    on_a_worker(async {
        let shade = Shade::new(Protocol::Http1).await;
        let scene = Scene::new(&shade.target);
        for _ in 0..100 {
            scene.get().unwrap();
        }
        until("those with a place are asked", || {
            shade.asked() == MAX_CONNECTIONS_OF_APP
        })
        .await;
        shade.answers.add_permits(100);
        until("all are through", || scene.under_way() == 0).await;
        assert_eq!(shade.connections(), MAX_CONNECTIONS_OF_APP);
        assert_eq!(scene.counts(), (100, 0, 0));
        scene.mirrors.sweep(Instant::now());
        assert!(!scene.mirrors.idle.borrow().is_empty());
        scene.mirrors.sweep(Instant::now() + IDLE);
        assert!(scene.mirrors.idle.borrow().is_empty());
        assert!(scene.mirrors.apps.borrow().is_empty());
    });
}

#[test]
fn a_connection_that_the_target_closed_costs_no_copy() {
    on_a_worker(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(Target::new(7, address, 1));
        let scene = Scene::new(&target);
        let taken = Rc::new(Cell::new(0));
        let connections = Rc::clone(&taken);
        // It answers once on each connection, and closes it at the next request.
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.set(connections.get() + 1);
                let mut buffer = [0; 1024];
                assert!(stream.read(&mut buffer).await.unwrap() > 0);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                let _ = stream.read(&mut buffer).await;
            }
        });
        for _ in 0..5 {
            scene.get().unwrap();
            until("it is through", || scene.under_way() == 0).await;
        }
        assert_eq!((scene.counts(), taken.get()), ((5, 0, 0), 5));
    });
}

#[test]
fn a_copy_without_a_whole_answer_has_failed() {
    on_a_worker(async {
        let (_closed, address) = nobody();
        let scene = Scene::new(&Arc::new(Target::new(1, address, 1)));
        scene.get().unwrap().primary(http::StatusCode::OK, 5);
        until("nobody is there", || scene.counts() == (1, 0, 1)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scene = Scene::new(&Arc::new(Target::new(1, address, 1)));
        let pair = scene.get().unwrap();
        pair.primary(http::StatusCode::OK, 5);
        let (stream, _) = listener.accept().await.unwrap();
        stream.writable().await.unwrap();
        let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
        stream.try_write(cut).unwrap();
        drop(stream);
        until("the body was cut", || scene.counts() == (1, 0, 1)).await;
        assert_eq!(scene.comparison.read().same_status, 0);
        let mut scene = Scene::new(&Arc::new(Target::new(1, address, 1)));
        scene.limits.response_ms = 20;
        scene.get().unwrap();
        until("no answer came in time", || scene.counts() == (1, 0, 1)).await;
        assert_eq!(scene.under_way(), 0);
    });
}

#[test]
fn both_answers_are_compared_whichever_ends_first() {
    let check = |told: &str, status: u16, bodies, first: &str, expected: [u64; 4]| {
        on_a_worker(async {
            let shade = Shade::new(Protocol::Http1).await;
            let mut scene = Scene::new(&shade.target);
            scene.mirror.bodies = bodies;
            let pair = scene.get().unwrap();
            let primary = || {
                pair.primary(http::StatusCode::from_u16(status).unwrap(), 1_000);
                if pair.compares_bodies() {
                    let mut digest = Digest::new();
                    digest.update(told.as_bytes());
                    pair.primary_body(&digest);
                }
            };
            if first == "primary" {
                primary();
            }
            shade.answers.add_permits(1);
            until("the copy is through", || scene.under_way() == 0).await;
            if first == "copy" {
                primary();
            }
            let told = scene.comparison.read();
            let counts = [
                told.same_status,
                told.other_status,
                told.same_body,
                told.other_body,
            ];
            assert_eq!(counts, expected, "{status} {bodies:?} {first} first");
            assert_eq!((told.latency.count(), told.primary_latency.count()), (1, 1));
            assert!(told.primary_latency.quantile(500) >= Some(1_000));
        });
    };
    for first in ["primary", "copy"] {
        check("as ever", 200, Bodies::Ignored, first, [1, 0, 0, 0]);
        check("as ever", 404, Bodies::Ignored, first, [0, 1, 0, 0]);
        check("as ever", 200, Bodies::Compared, first, [1, 0, 1, 0]);
        check("changed", 200, Bodies::Compared, first, [1, 0, 0, 1]);
        check("changed", 500, Bodies::Compared, first, [0, 1, 0, 1]);
    }
}

#[test]
fn of_a_long_body_only_the_beginning_is_read() {
    on_a_worker(async {
        let shade = Shade::new(Protocol::Http1).await;
        *shade.body.lock().unwrap() = vec![b'x'; 20 << 20].into();
        shade.answers.add_permits(2);
        let mut scene = Scene::new(&shade.target);
        scene.mirror.bodies = Bodies::Compared;
        for same in [true, false] {
            let pair = scene.get().unwrap();
            let mut digest = Digest::new();
            while same && !digest.is_too_long() {
                digest.update(&[b'x'; 4096]);
            }
            pair.primary(http::StatusCode::OK, 5);
            pair.primary_body(&digest);
        }
        until("they are through", || scene.under_way() == 0).await;
        let told = scene.comparison.read();
        assert_eq!((told.same_status, told.failed), (2, 0));
        assert_eq!((told.same_body, told.other_body), (0, 1));
        assert!(scene.mirrors.idle.borrow().is_empty(), "they were cut");
    });
}
