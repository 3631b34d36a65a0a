//! The loop on a paused clock, with a forge that keeps what it was told.

use std::sync::Arc;
use std::sync::Mutex;

use cutover_plan::event::Event;
use cutover_plan::id::{AppName, DeployId};
use cutover_plan::plan::Kind;
use cutover_wire::request::Source;
use tokio::time::Instant;

use super::*;
use crate::forge::{DeploymentState, Message};
use crate::journal::Record as _;
use crate::letter::Letter;

/// Begins at 1970 and runs with Tokio's.
fn clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || after(Timestamp::UNIX_EPOCH, start.elapsed()))
}

fn message(environment: &str, description: &str) -> Message {
    Message {
        deploy: DeployId::new(1, [1; 10]),
        repository: "acme/shop".to_owned(),
        sha: "a".repeat(40),
        environment: environment.to_owned(),
        state: DeploymentState::InProgress,
        description: description.to_owned(),
        environment_url: None,
        log_url: None,
        at: Timestamp::UNIX_EPOCH,
    }
}

fn journal_with(messages: &[Message]) -> Journal {
    let journal = Journal::in_memory().unwrap();
    add(&journal, 1, messages);
    journal
}

fn add(journal: &Journal, number: u8, messages: &[Message]) {
    let deploy = DeployId::new(u64::from(number), [number; 10]);
    let app = AppName::parse(&format!("app-{number}")).unwrap();
    let event = Event::Accepted {
        app,
        kind: Kind::Deploy,
        image: None,
        by: None,
        window_override: None,
    };
    let letters: Vec<_> = messages.iter().cloned().map(Letter::from).collect();
    let accepted = journal.accept(
        Some(deploy.as_str()),
        &deploy,
        Timestamp::UNIX_EPOCH,
        &event,
        &Source::default(),
        &letters,
    );
    accepted.unwrap();
}

/// One environment at which deliveries fail, as often as is said.
#[derive(Clone)]
struct Board {
    inner: Arc<Mutex<Inner>>,
    start: Instant,
}

struct Inner {
    told: Vec<String>,
    tried: Vec<(u32, u64)>,
    ill: String,
    failures: u32,
    failure: Option<DeliveryError>,
}

impl Board {
    /// Fails so often for one environment; without an error it hangs.
    fn failing(environment: &str, failures: u32, failure: Option<DeliveryError>) -> Self {
        let inner = Inner {
            told: Vec::new(),
            tried: Vec::new(),
            ill: environment.to_owned(),
            failures,
            failure,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            start: Instant::now(),
        }
    }

    fn told(&self) -> Vec<String> {
        self.inner.lock().unwrap().told.clone()
    }

    /// The attempts at the ill environment, and the second of each.
    fn tried(&self) -> Vec<(u32, u64)> {
        self.inner.lock().unwrap().tried.clone()
    }
}

impl Forge for Board {
    async fn deliver(&self, message: &Message, attempt: u32) -> Result<(), DeliveryError> {
        let failure = {
            let mut inner = self.inner.lock().unwrap();
            let fails = message.environment == inner.ill && inner.failures > 0;
            if !fails {
                inner.told.push(message.description.clone());
                return Ok(());
            }
            inner.failures -= 1;
            inner.tried.push((attempt, self.start.elapsed().as_secs()));
            inner.failure.clone()
        };
        match failure {
            Some(failure) => Err(failure),
            None => std::future::pending().await,
        }
    }
}

fn later(after_seconds: Option<u64>) -> Option<DeliveryError> {
    let reason = "ill".to_owned();
    Some(DeliveryError::Later {
        reason,
        after_seconds,
    })
}

async fn run_for(journal: &Journal, board: &Board, seconds: u64) {
    let shutdown = tokio::time::sleep(Duration::from_secs(seconds));
    run(
        journal.clone(),
        board.clone(),
        clock(),
        Options::default(),
        shutdown,
    )
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn waits_double_from_a_second_to_five_minutes() {
    let journal = journal_with(&[message("production", "a")]);
    let board = Board::failing("production", 14, later(None));
    run_for(&journal, &board, 7_200).await;
    let times: Vec<u64> = board.tried().iter().map(|(_, second)| *second).collect();
    let waits: Vec<u64> = times.windows(2).map(|two| two[1] - two[0]).collect();
    let whole = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300];
    // Each is its whole less up to a quarter, read in whole seconds.
    let fits = |(wait, whole): (&u64, &u64)| {
        (whole * 3 / 4).saturating_sub(1) <= *wait && *wait <= whole + 1
    };
    assert!(
        waits.len() == whole.len() && waits.iter().zip(&whole).all(fits),
        "{waits:?}"
    );
    let attempts: Vec<u32> = board.tried().iter().map(|(attempt, _)| *attempt).collect();
    assert_eq!(attempts, (1..=14).collect::<Vec<_>>());
    assert_eq!(board.told(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn the_wait_that_is_asked_for_is_kept_even_beyond_the_longest() {
    let journal = journal_with(&[message("production", "a")]);
    let board = Board::failing("production", 3, later(Some(3_600)));
    run_for(&journal, &board, 14_000).await;
    let times: Vec<u64> = board.tried().iter().map(|(_, second)| *second).collect();
    assert_eq!(times, [0, 3_600, 7_200]);
    assert_eq!(board.told(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_fails_keeps_its_order_and_holds_up_no_other() {
    let one = |text| message("production", text);
    let other = |text| message("staging", text);
    let journal = journal_with(&[one("1"), other("a"), one("2"), other("b")]);
    let board = Board::failing("production", 5, later(None));
    run_for(&journal, &board, 600).await;
    assert_eq!(board.told(), ["a", "b", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_hangs_is_cut_off() {
    let journal = journal_with(&[message("production", "a"), message("staging", "b")]);
    let board = Board::failing("production", 1, None);
    run_for(&journal, &board, 29).await;
    assert_eq!(board.told(), [""; 0]);
    // The process that died in the middle has used up the first attempt.
    run_for(&journal, &board, 60).await;
    assert_eq!(board.told(), ["a", "b"]);

    let journal = journal_with(&[message("production", "a"), message("staging", "b")]);
    let board = Board::failing("production", 1, None);
    run_for(&journal, &board, 60).await;
    assert_eq!(board.told(), ["b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_given_up_and_the_next_is_told() {
    let journal = journal_with(&[message("production", "a"), message("production", "b")]);
    let never = DeliveryError::Never("no such commit".to_owned());
    let board = Board::failing("production", 1, Some(never));
    run_for(&journal, &board, 1).await;
    assert_eq!(board.told(), ["b"]);
    assert_eq!(journal.undelivered().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_given_up_after_three_days() {
    let journal = journal_with(&[message("production", "a")]);
    let board = Board::failing("production", u32::MAX, later(Some(3_600)));
    run_for(&journal, &board, 71 * 3_600).await;
    assert_eq!(journal.undelivered().unwrap(), 1);
    // The clock of the second run begins anew, so it has three days more.
    run_for(&journal, &board, 74 * 3_600).await;
    assert_eq!(journal.undelivered().unwrap(), 0);
    assert_eq!(board.told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_new_message_wakes_the_loop_at_once() {
    let journal = journal_with(&[]);
    let board = Board::failing("", 0, None);
    let start = Instant::now();
    let (running, ()) = tokio::join!(
        async {
            tokio::select! {
                () = run_for(&journal, &board, 50) => false,
                () = async { while board.told().is_empty() { tokio::time::sleep(Duration::from_millis(1)).await } } => true,
            }
        },
        async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            add(&journal, 2, &[message("production", "a")]);
        },
    );
    assert!(
        running && start.elapsed() < Duration::from_millis(10_100),
        "{:?}",
        start.elapsed()
    );
}
