//! The traffic driver against a socket that answers as it is told: what each
//! answer, and each lack of one, means to the engine of deploys.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cutover_agent::proxy::Proxy;
use cutover_agent::traffic::{Knock, Traffic as _, TrafficError};
use cutover_wire::proxy::{
    Call, Drained, LENGTH_BYTES, MAX_FRAME, Refusal, Reply, Request, Status, VERSION, decode,
    encode, length,
};
use cutover_wire::statistics::Statistics;
use cutover_wire::table::{Table, TableProblem};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

/// What the other end does once it has read a call.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a test makes a few of them")]
enum Answer {
    Reply(Reply),
    Bytes(Vec<u8>),
    Silence,
}

/// A proxy that gives one answer to every call, and the calls it got.
struct Fake {
    _folder: TempDir,
    socket: PathBuf,
    calls: mpsc::UnboundedReceiver<Call>,
}

impl Fake {
    fn new(answer: Answer) -> Self {
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("proxy.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (heard, calls) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; LENGTH_BYTES];
                stream.read_exact(&mut head).await.unwrap();
                let mut body = vec![0; length(head).unwrap()];
                stream.read_exact(&mut body).await.unwrap();
                let _ = heard.send(decode(&body).unwrap());
                match &answer {
                    Answer::Reply(reply) => {
                        stream.write_all(&encode(reply).unwrap()).await.unwrap()
                    }
                    Answer::Bytes(bytes) => stream.write_all(bytes).await.unwrap(),
                    Answer::Silence => std::future::pending().await,
                }
            }
        });
        Self {
            _folder: folder,
            socket,
            calls,
        }
    }

    fn driver(&self) -> Proxy {
        Proxy::new(&self.socket)
    }

    /// The only call it got.
    fn call(&mut self) -> Request {
        let Call { version, request } = self.calls.try_recv().unwrap();
        assert_eq!(version, VERSION);
        assert!(self.calls.try_recv().is_err(), "a second call");
        request
    }
}

fn table(generation: u64) -> Table {
    Table {
        generation,
        apps: BTreeMap::new(),
        ..Table::default()
    }
}

#[tokio::test]
async fn each_question_gets_its_answer() {
    let status = Status {
        instance: "a".to_owned(),
        program: "0.1.0".to_owned(),
        generation: 3,
        listeners: vec!["0.0.0.0:80".parse().unwrap()],
        abilities: BTreeSet::new(),
    };
    let mut fake = Fake::new(Answer::Reply(Reply::Status(status.clone())));
    assert_eq!(fake.driver().status().await, Ok(status));
    assert_eq!(fake.call(), Request::Status);

    let mut fake = Fake::new(Answer::Reply(Reply::Table(table(3))));
    assert_eq!(fake.driver().table().await, Ok(table(3)));
    assert_eq!(fake.call(), Request::Table);

    let mut fake = Fake::new(Answer::Reply(Reply::Applied { generation: 4 }));
    assert_eq!(fake.driver().apply(3, &table(4)).await, Ok(()));
    assert_eq!(
        fake.call(),
        Request::Apply {
            expected: 3,
            table: table(4)
        }
    );

    let left = Drained {
        requests: 0,
        streams: 2,
        ..Drained::default()
    };
    let mut fake = Fake::new(Answer::Reply(Reply::Drained(left)));
    let (app, targets) = ("shop".parse().unwrap(), ["v1-0".to_owned()]);
    let drained = fake
        .driver()
        .drain(&app, &targets, Duration::from_millis(1500), None)
        .await;
    assert_eq!(drained, Ok(left));
    let expected = Request::Drain {
        app: "shop".to_owned(),
        targets: targets.to_vec(),
        deadline_ms: 1500,
        cut: None,
        of_successor: false,
    };
    assert_eq!(fake.call(), expected);

    let counted = Statistics {
        instance: "a".to_owned(),
        ..Statistics::default()
    };
    let mut fake = Fake::new(Answer::Reply(Reply::Statistics(counted.clone())));
    assert_eq!(fake.driver().statistics().await, Ok(counted));
    assert_eq!(fake.call(), Request::Statistics);
}

/// What a table put at generation 3 comes to when the proxy answers so.
async fn check(answer: Answer, expected: Result<(), TrafficError>) {
    let fake = Fake::new(answer);
    assert_eq!(fake.driver().apply(3, &table(4)).await, expected);
}

fn refused(text: &str) -> Result<(), TrafficError> {
    Err(TrafficError::Refused(text.to_owned()))
}

fn unavailable(text: &str) -> Result<(), TrafficError> {
    Err(TrafficError::Unavailable(text.to_owned()))
}

#[tokio::test]
async fn a_refusal_says_whether_to_decide_anew_or_to_give_up() {
    let refusal = |refusal| Answer::Reply(Reply::Refused(refusal));
    let overtaken = Refusal::Generation {
        expected: 3,
        actual: 9,
    };
    check(refusal(overtaken), Err(TrafficError::Generation(9))).await;
    let problem = TableProblem {
        place: "apps.shop".to_owned(),
        fault: "no".to_owned(),
    };
    let wrong = refused("the table is wrong: apps.shop: no");
    check(refusal(Refusal::Invalid(vec![problem])), wrong).await;
    let full = Refusal::Storage("no space left".to_owned());
    check(
        refusal(full),
        refused("the table could not be stored: no space left"),
    )
    .await;
    let version =
        "it does not speak version 1 as this agent does: upgrade the older of the two programs";
    check(refusal(Refusal::Version(VERSION)), refused(version)).await;
    let other = Answer::Reply(Reply::Applied { generation: 9 });
    check(other, Err(TrafficError::Generation(9))).await;
}

#[tokio::test]
async fn an_answer_that_is_none_leaves_open_whether_it_was_done() {
    let strange = "asked for something else, it answered its table";
    check(Answer::Reply(Reply::Table(table(4))), unavailable(strange)).await;
    let unread = "its answer cannot be understood";
    check(
        Answer::Bytes(encode(&"applied").unwrap()),
        unavailable(unread),
    )
    .await;
    check(
        Answer::Bytes(vec![0, 0, 0, 2, b'{', b'x']),
        unavailable(unread),
    )
    .await;
    let large = format!(
        "a frame of {} bytes is over the limit of {MAX_FRAME}",
        u32::MAX
    );
    check(Answer::Bytes(vec![255; 4]), unavailable(&large)).await;
    let closed = "it closed the connection without an answer";
    check(Answer::Bytes(Vec::new()), unavailable(closed)).await;
    check(Answer::Bytes(vec![0, 0, 0, 9, b'{']), unavailable(closed)).await;
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_unavailable() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("proxy.sock");
    let check = async |part: &str| match Proxy::new(&socket).status().await {
        Err(TrafficError::Unavailable(reason)) => assert!(reason.contains(part), "{reason}"),
        other => panic!("{other:?}"),
    };
    check("No such file").await;
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    check("Connection refused").await;
}

#[tokio::test]
async fn silence_ends_after_five_seconds_and_a_drains_after_its_deadline_too() {
    let fake = Fake::new(Answer::Silence);
    let other = Fake::new(Answer::Silence);
    let (status_driver, drain_driver) = (fake.driver(), other.driver());
    let (app, targets) = ("shop".parse().unwrap(), ["v1-0".to_owned()]);
    let begun = Instant::now();
    let status = async {
        assert_eq!(
            status_driver.status().await.map(|_| ()),
            unavailable("no answer within 5s")
        );
        begun.elapsed().as_secs()
    };
    let drain = async {
        let drained = drain_driver
            .drain(&app, &targets, Duration::from_secs(2), None)
            .await;
        assert_eq!(drained.map(|_| ()), unavailable("no answer within 7s"));
        begun.elapsed().as_secs()
    };
    assert_eq!(tokio::join!(status, drain), (5, 7));
}

/// A front door that answers so, and what it was asked.
async fn door(answer: &'static str) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let size = stream.read(&mut request).await.unwrap();
            let _ = heard.send(String::from_utf8_lossy(&request[..size]).to_lowercase());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, requests)
}

#[tokio::test]
async fn a_knock_asks_as_a_user_would_and_tells_the_pool() {
    let driver = Proxy::new("/nowhere");
    let (address, mut requests) =
        door("HTTP/1.1 503 No\r\nX-Cutover-Pool: v2\r\nContent-Length: 0\r\n\r\n").await;
    assert!(address.ip().is_unspecified());
    let answer = driver.knock(address, "shop.test", "/healthz").await;
    assert_eq!(
        answer,
        Ok(Knock {
            status: 503,
            pool: Some("v2".to_owned())
        })
    );
    let request = requests.recv().await.unwrap();
    assert!(
        request.starts_with("get /healthz http/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("host: shop.test\r\n"), "{request}");
    assert!(request.contains("x-cutover-probe: 1\r\n"), "{request}");
    driver.knock(address, "*", "/").await.unwrap();
    let request = requests.recv().await.unwrap();
    assert!(
        request.contains(&format!("host: 127.0.0.1:{}\r\n", address.port())),
        "{request}"
    );

    let (address, _requests) = door("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let answer = driver.knock(address, "shop.test", "/").await;
    assert_eq!(
        answer,
        Ok(Knock {
            status: 200,
            pool: None
        })
    );
    let unaskable = driver.knock(address, "shop.test", "healthz").await;
    assert!(
        matches!(unaskable, Err(TrafficError::Refused(_))),
        "{unaskable:?}"
    );
    let closed = driver
        .knock("127.0.0.1:1".parse().unwrap(), "shop.test", "/")
        .await;
    let reason = "its door 127.0.0.1:1: connection refused".to_owned();
    assert_eq!(closed, Err(TrafficError::Unavailable(reason)));
}
