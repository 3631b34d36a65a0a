use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};

use http::Response;
use tokio::time::timeout;

use super::*;
use crate::stand_in::{DEADLINE, StandIn, until};

/// A target that answers with the status it is told; 0 is none at all.
#[derive(Debug)]
struct Patient {
    target: Arc<Target>,
    status: AtomicU16,
    asked: AtomicUsize,
    heads: Mutex<Vec<String>>,
}

impl Patient {
    async fn new(number: u64, protocol: Protocol) -> Arc<Self> {
        let stand_in = StandIn::bind().await;
        let address = stand_in.address;
        let patient = Arc::new(Self {
            target: Arc::new(Target::new(number, address, 1)),
            status: AtomicU16::new(200),
            asked: AtomicUsize::new(0),
            heads: Mutex::default(),
        });
        let answering = Arc::clone(&patient);
        stand_in.serve(protocol, move |request| {
            Arc::clone(&answering).answer(request)
        });
        patient
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Whole>, Infallible> {
        let host = request.headers().get(header::HOST);
        let host = host.map(|host| host.to_str().unwrap().to_owned());
        let host = host.or_else(|| request.uri().authority().map(ToString::to_string));
        let (method, path) = (request.method(), request.uri().path());
        let head = format!("{method} {path} {}", host.unwrap());
        self.heads.lock().unwrap().push(head);
        self.asked.fetch_add(1, SeqCst);
        let status = self.status.load(SeqCst);
        if status == 0 {
            std::future::pending::<()>().await;
        }
        let answer = Response::builder().status(status);
        let elsewhere = "http://127.0.0.1:1/elsewhere";
        let answer = answer.header(header::LOCATION, elsewhere);
        Ok(answer.body(Whole::of("well, well".into())).unwrap())
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

fn health() -> ActiveHealth {
    ActiveHealth {
        path: "/healthz".to_owned(),
        interval_ms: 10,
        timeout_ms: 10_000,
        healthy_after: 2,
        unhealthy_after: 3,
    }
}

fn hourly() -> ActiveHealth {
    ActiveHealth {
        interval_ms: 3_600_000,
        ..health()
    }
}

#[test]
fn a_target_changes_after_answers_of_one_kind_in_a_row() {
    let check = |answers: &str, expected: &str| {
        let (mut streak, mut sick) = (Streak::default(), false);
        let told: String = answers
            .chars()
            .map(|letter| {
                let answer = if letter == 'g' {
                    Answer::Good
                } else {
                    Answer::Bad
                };
                sick = streak.count(answer, sick, &health());
                if sick { 's' } else { 'w' }
            })
            .collect();
        assert_eq!(told, expected, "{answers}");
    };
    check("gggg", "wwww");
    check("bbb", "wws");
    check("bbgbbg", "wwwwww");
    check("bbbgbggb", "wwssssww");
    check("bbbbggbbb", "wwssswwws");
}

#[test]
fn targets_of_one_table_are_not_asked_in_one_moment() {
    let interval = Duration::from_secs(10);
    let mut pauses: Vec<_> = (1..=100)
        .map(|number| first_pause(number, interval))
        .collect();
    pauses.sort();
    assert!(pauses[0] >= interval / 2 && pauses[99] <= interval);
    let gaps = pauses.windows(2).map(|pair| pair[1] - pair[0]);
    // Evenly it would be 50 ms.
    assert!(gaps.max() < Some(Duration::from_millis(100)));
    assert_eq!(first_pause(u64::MAX, Duration::ZERO), Duration::ZERO);
}

async fn falls_sick_and_gets_well(protocol: Protocol) {
    let patient = Patient::new(1, protocol).await;
    let mut checks = HealthChecks::default();
    checks.follow(&[(Arc::clone(&patient.target), health(), protocol)]);
    until("it was asked", || patient.asked() >= 3).await;
    assert!(!patient.target.is_sick());
    patient.status.store(503, SeqCst);
    until("it is sick", || patient.target.is_sick()).await;
    patient.status.store(399, SeqCst);
    until("it is well", || !patient.target.is_sick()).await;
    let head = format!("GET /healthz {}", patient.target.address());
    let heads = patient.heads.lock().unwrap();
    assert!(heads.iter().all(|told| *told == head), "{heads:?}");
}

#[tokio::test]
async fn a_target_falls_sick_and_gets_well() {
    falls_sick_and_gets_well(Protocol::Http1).await;
}

#[tokio::test]
async fn a_target_of_http2_falls_sick_and_gets_well() {
    falls_sick_and_gets_well(Protocol::H2c).await;
}

#[tokio::test]
async fn a_redirect_is_a_good_answer_and_is_not_followed() {
    let patient = Patient::new(1, Protocol::Http1).await;
    patient.status.store(302, SeqCst);
    let (target, once) = (Arc::clone(&patient.target), health());
    ask(&target, &once, Protocol::Http1).await.unwrap();
    patient.status.store(404, SeqCst);
    let refused = ask(&target, &once, Protocol::Http1).await;
    assert!(matches!(refused, Err(Complaint::Status(status)) if status == 404));
}

#[tokio::test]
async fn silence_and_a_closed_port_are_bad_answers() {
    let patient = Patient::new(1, Protocol::Http1).await;
    patient.status.store(0, SeqCst);
    let hurried = ActiveHealth {
        timeout_ms: 20,
        ..health()
    };
    let silent = timeout(DEADLINE, ask(&patient.target, &hurried, Protocol::Http1));
    assert!(matches!(silent.await.unwrap(), Err(Complaint::Late)));
    // Bound and not listening: it stays ours, and nobody is there.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = Target::new(2, closed.local_addr().unwrap(), 1);
    let refused = ask(&nobody, &health(), Protocol::Http1).await;
    assert!(matches!(
        refused,
        Err(Complaint::Unasked(AsideError::Connect(_)))
    ));
}

#[tokio::test]
async fn a_table_that_keeps_a_target_changes_nothing_for_it() {
    let patient = Patient::new(1, Protocol::Http1).await;
    let other = Patient::new(2, Protocol::Http1).await;
    let wanted = |patient: &Patient, health| (Arc::clone(&patient.target), health, Protocol::Http1);
    let mut checks = HealthChecks::default();
    checks.follow(&[wanted(&patient, hourly())]);
    until("it was asked at once", || patient.asked() == 1).await;
    checks.follow(&[wanted(&patient, hourly()), wanted(&other, hourly())]);
    until("the new one was asked at once", || other.asked() == 1).await;
    assert_eq!(patient.asked(), 1, "and the kept one not again");
    // What it was asked in another way counts anew, and it stays what it is.
    patient.target.set_sick(true);
    patient.status.store(503, SeqCst);
    let elsewhere = ActiveHealth {
        path: "/elsewhere".to_owned(),
        ..hourly()
    };
    checks.follow(&[wanted(&patient, elsewhere)]);
    until("it was asked in the new way", || patient.asked() == 2).await;
    assert!(patient.target.is_sick());
}

#[tokio::test]
async fn a_target_that_leaves_the_table_is_asked_no_more_and_is_not_sick() {
    let patient = Patient::new(1, Protocol::Http1).await;
    let other = Patient::new(2, Protocol::Http1).await;
    patient.status.store(500, SeqCst);
    let wanted = |patient: &Patient| (Arc::clone(&patient.target), health(), Protocol::Http1);
    let mut checks = HealthChecks::default();
    checks.follow(&[wanted(&patient), wanted(&other)]);
    until("it is sick", || patient.target.is_sick()).await;
    checks.follow(&[wanted(&other)]);
    assert!(!patient.target.is_sick());
    let (before, others) = (patient.asked(), other.asked());
    until("the other one is asked on", || other.asked() > others + 5).await;
    assert!(patient.asked() <= before + 1, "one question was under way");
    assert!(!patient.target.is_sick());
}

#[tokio::test]
async fn questions_under_way_are_bounded() {
    const TARGETS: usize = MAX_AT_ONCE + 20;
    let mut checks = HealthChecks::default();
    let mut patients = Vec::new();
    for number in 0..TARGETS {
        let patient = Patient::new(number as u64, Protocol::Http1).await;
        patient.status.store(0, SeqCst);
        patients.push(patient);
    }
    let wanted: Vec<_> = patients
        .iter()
        .map(|patient| (Arc::clone(&patient.target), hourly(), Protocol::Http1))
        .collect();
    let asked = || {
        patients
            .iter()
            .map(|patient| patient.asked())
            .sum::<usize>()
    };
    checks.follow(&wanted);
    until("as many as may be are asked", || asked() == MAX_AT_ONCE).await;
    assert_eq!(checks.places.available_permits(), 0, "the others have none");
    // Those that leave give their places to the others.
    checks.follow(&wanted[MAX_AT_ONCE..]);
    until("the others are asked", || asked() == TARGETS).await;
}
