//! The journal as its users see it: real files, a real SIGKILL, a real disk limit.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cutover_agent::forge::{DeploymentState, Message};
use cutover_agent::journal::{Acceptance, Journal, JournalError, Record as _};
use cutover_plan::event::Event;
use cutover_plan::id::{AppName, DeployId};
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Kind;
use cutover_plan::release::Releases;
use cutover_wire::request::Source;
use jiff::Timestamp;

/// Set in the children of these tests: the journal that they write.
const CHILD: &str = "CUTOVER_TEST_JOURNAL";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn id(number: u64) -> DeployId {
    DeployId::new(number, [7; 10])
}

fn app(name: &str) -> AppName {
    AppName::parse(name).unwrap()
}

fn accepted(name: &str) -> Event {
    Event::Accepted {
        app: app(name),
        kind: Kind::Deploy,
        image: None,
        by: Some("ada".to_owned()),
    }
}

fn aborted(by: &str) -> Event {
    Event::AbortRequested { by: by.to_owned() }
}

fn ended() -> Event {
    let outcome = Outcome::Promoted;
    Event::Ended { outcome }
}

fn message(deploy: u64, environment: &str, description: &str) -> Message {
    Message {
        deploy: id(deploy),
        repository: "acme/shop".to_owned(),
        sha: "0".repeat(40),
        environment: environment.to_owned(),
        state: DeploymentState::InProgress,
        description: description.to_owned(),
        environment_url: None,
        log_url: None,
        at: at(0),
    }
}

fn accept(journal: &Journal, number: u64, name: &str, messages: &[Message]) -> Acceptance {
    let call = format!("call-{number}");
    let when = at(i64::try_from(number).unwrap());
    let source = Source {
        actor: Some("ada".to_owned()),
        ..Source::default()
    };
    journal
        .accept(&call, &id(number), when, &accepted(name), &source, messages)
        .unwrap()
}

fn append(journal: &Journal, number: u64, second: i64, event: &Event, messages: &[Message]) -> u64 {
    journal
        .append(
            &id(number),
            at(second),
            event,
            &Releases::default(),
            messages,
        )
        .unwrap()
}

/// A deploy that was accepted at the second of its number and ended at `second`.
fn whole(journal: &Journal, number: u64, name: &str, second: i64) {
    accept(journal, number, name, &[]);
    append(journal, number, second, &ended(), &[]);
}

#[test]
fn what_was_written_is_read_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.db");
    let journal = Journal::open(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let Acceptance::New(first) = accept(&journal, 1, "shop", &[message(1, "production", "queued")])
    else {
        panic!("a new call was taken for a replay")
    };
    let second = append(&journal, 1, 5, &aborted("ada"), &[]);
    assert!(second > first);
    assert_eq!(
        journal.unfinished(&app("shop")).unwrap().unwrap().deploy,
        id(1)
    );
    assert_eq!(journal.last_ended(&app("shop")).unwrap(), None);
    let releases = Releases {
        last: Some(cutover_plan::id::ReleaseNumber(9)),
        ..Releases::default()
    };
    journal
        .append(&id(1), at(6), &ended(), &releases, &[])
        .unwrap();
    drop(journal);

    let journal = Journal::open(&path).unwrap();
    let events = journal.events(&id(1), 0, 10).unwrap();
    let texts: Vec<_> = events.iter().map(|recorded| &recorded.event).collect();
    assert_eq!(texts, [&accepted("shop"), &aborted("ada"), &ended()]);
    assert_eq!(events[1].at, at(5));
    assert_eq!(journal.events(&id(1), first, 1).unwrap(), events[1..2]);
    assert_eq!(journal.unfinished(&app("shop")).unwrap(), None);
    let record = journal.last_ended(&app("shop")).unwrap().unwrap();
    assert_eq!(record, journal.deploy(&id(1)).unwrap().unwrap());
    assert_eq!(record.source.actor.as_deref(), Some("ada"));
    assert_eq!((record.accepted_at, record.ended_at), (at(1), Some(at(6))));
    assert_eq!(journal.releases(&app("shop")).unwrap(), releases);
    assert_eq!(
        journal.releases(&app("other")).unwrap(),
        Releases::default()
    );
    assert_eq!(journal.undelivered().unwrap(), 1);
    assert_eq!(*journal.changes().borrow(), events[2].seq);
}

#[test]
fn a_known_call_is_answered_with_its_first_deploy_and_writes_nothing() {
    let journal = Journal::in_memory().unwrap();
    accept(&journal, 1, "shop", &[]);
    let changes = journal.changes();
    let again = journal
        .accept(
            "call-1",
            &id(2),
            at(9),
            &accepted("other"),
            &Source::default(),
            &[],
        )
        .unwrap();
    assert_eq!(again, Acceptance::Replay(id(1)));
    assert_eq!(journal.find_call("call-1").unwrap(), Some(id(1)));
    assert_eq!(journal.deploy(&id(2)).unwrap(), None);
    assert!(!changes.has_changed().unwrap());
}

#[test]
fn events_that_have_no_place_are_refused() {
    let journal = Journal::in_memory().unwrap();
    let none = Releases::default();
    let write = |number, event: &Event| journal.append(&id(number), at(9), event, &none, &[]);
    assert!(matches!(
        write(1, &ended()),
        Err(JournalError::UnknownDeploy(_))
    ));
    accept(&journal, 1, "shop", &[]);
    assert!(matches!(
        write(1, &accepted("shop")),
        Err(JournalError::Misplaced(_))
    ));
    let second = journal.accept(
        "call-2",
        &id(2),
        at(9),
        &accepted("shop"),
        &Source::default(),
        &[],
    );
    assert!(matches!(second, Err(JournalError::Unfinished(_))));
    let headless = journal.accept("call-3", &id(3), at(9), &ended(), &Source::default(), &[]);
    assert!(matches!(headless, Err(JournalError::Misplaced(_))));
    write(1, &ended()).unwrap();
    assert!(matches!(
        write(1, &aborted("ada")),
        Err(JournalError::Ended(_))
    ));
    assert_eq!(journal.events(&id(1), 0, 10).unwrap().len(), 2);
    assert_eq!(journal.find_call("call-2").unwrap(), None);
}

#[test]
fn writing_wakes_those_who_follow() {
    let journal = Journal::in_memory().unwrap();
    let (mut events, mut messages) = (journal.changes(), journal.outbox_changes());
    accept(&journal, 1, "shop", &[]);
    assert!(events.has_changed().unwrap());
    assert_eq!(*events.borrow_and_update(), 1);
    assert!(!messages.has_changed().unwrap());
    append(
        &journal,
        1,
        2,
        &ended(),
        &[message(1, "production", "done")],
    );
    assert!(events.has_changed().unwrap());
    assert!(messages.has_changed().unwrap());
    messages.mark_unchanged();
}

#[test]
fn messages_of_one_environment_are_due_in_order_and_others_pass() {
    let journal = Journal::in_memory().unwrap();
    assert_eq!(journal.next_message_at().unwrap(), None);
    accept(&journal, 1, "shop", &[message(1, "production", "a")]);
    append(
        &journal,
        1,
        2,
        &aborted("ada"),
        &[message(1, "production", "b")],
    );
    accept(&journal, 3, "other", &[message(3, "staging", "c")]);
    let due = |second| {
        let row = journal.due_message(at(second)).unwrap();
        row.map(|row| (row.id, row.attempts, row.message.description))
    };
    assert_eq!(due(0), None);
    assert_eq!(journal.next_message_at().unwrap(), Some(at(1)));
    assert_eq!(due(9), Some((1, 0, "a".to_owned())));
    assert_eq!(journal.message_begun(1).unwrap(), 1);
    journal
        .message_postponed(1, at(60), "GitHub is down")
        .unwrap();
    // `b` waits for `a`, `c` is of another environment.
    assert_eq!(due(9), Some((3, 0, "c".to_owned())));
    journal.message_delivered(3, at(9)).unwrap();
    assert_eq!(due(59), None);
    assert_eq!(journal.next_message_at().unwrap(), Some(at(60)));
    assert_eq!(due(60), Some((1, 1, "a".to_owned())));
    assert_eq!(journal.message_begun(1).unwrap(), 2);
    journal
        .message_abandoned(1, at(61), "no such repository")
        .unwrap();
    assert_eq!(due(61), Some((2, 0, "b".to_owned())));
    assert_eq!(journal.undelivered().unwrap(), 1);
    journal.message_delivered(2, at(62)).unwrap();
    assert_eq!((due(99), journal.undelivered().unwrap()), (None, 0));
    for settled in [1, 2, 3, 99] {
        let begun = journal.message_begun(settled);
        assert!(
            matches!(begun, Err(JournalError::UnknownMessage(_))),
            "{settled}"
        );
    }
}

#[test]
fn forgetting_keeps_what_it_must() {
    let journal = Journal::in_memory().unwrap();
    for number in 1..=6 {
        whole(&journal, number, "shop", i64::try_from(number).unwrap());
    }
    whole(&journal, 7, "other", 7);
    accept(&journal, 8, "slow", &[]);
    accept(&journal, 9, "untold", &[message(9, "production", "a")]);
    append(&journal, 9, 9, &ended(), &[]);
    whole(&journal, 10, "untold", 10);
    whole(&journal, 11, "untold", 11);
    let kept = |numbers: std::ops::RangeInclusive<u64>| -> Vec<u64> {
        let there = |number: &u64| journal.deploy(&id(*number)).unwrap().is_some();
        numbers.filter(there).collect()
    };
    // Not old enough, or among the newest: nothing goes.
    assert_eq!(journal.forget(2, at(1)).unwrap(), 0);
    assert_eq!(journal.forget(6, at(4)).unwrap(), 0);
    assert_eq!(kept(1..=11).len(), 11);
    // Old and beyond the count.
    assert_eq!(journal.forget(2, at(4)).unwrap(), 3);
    assert_eq!(kept(1..=11), [4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(journal.events(&id(1), 0, 9).unwrap(), []);
    // Calls by age alone: the deploy may stay longer than its call.
    assert_eq!(journal.find_call("call-3").unwrap(), None);
    assert_eq!(journal.find_call("call-4").unwrap(), Some(id(4)));
    // Whatever is asked, the unfinished, the untold and the last of each app stay.
    assert_eq!(journal.forget(0, Timestamp::MAX).unwrap(), 3);
    assert_eq!(kept(1..=11), [6, 7, 8, 9, 11]);
    assert_eq!(journal.undelivered().unwrap(), 1);
    append(&journal, 8, 20, &ended(), &[]);
}

#[test]
fn a_damaged_file_is_refused_with_the_way_out() {
    let check = |damage: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.db");
        let journal = Journal::open(&path).unwrap();
        for number in 1..200 {
            whole(&journal, number, "shop", i64::try_from(number).unwrap());
        }
        drop(journal);
        damage(&path);
        let before = fs::read(&path).unwrap();
        let Err(error) = Journal::open(&path) else {
            panic!("a damaged file was opened")
        };
        assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
        let text = error.to_string();
        for part in [path.to_str().unwrap(), "aside", "serves on", "lost"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(fs::read(&path).unwrap(), before, "the evidence was changed");
        fs::remove_file(&path).unwrap();
        Journal::open(&path).unwrap();
    };
    check(&|path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[..100].fill(b'x');
        fs::write(path, bytes).unwrap();
    });
    check(&|path| {
        let mut bytes = fs::read(path).unwrap();
        for page in bytes.chunks_mut(4096).skip(1).step_by(3) {
            page[..64].fill(0xff);
        }
        fs::write(path, bytes).unwrap();
    });
    check(&|path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
}

#[test]
fn a_journal_of_a_newer_agent_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.db");
    drop(Journal::open(&path).unwrap());
    // The format is the big-endian number at byte 60 of an SQLite file.
    let mut bytes = fs::read(&path).unwrap();
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    fs::write(&path, &bytes).unwrap();
    let Err(error) = Journal::open(&path) else {
        panic!("a newer journal was opened")
    };
    assert!(error.to_string().contains("format 99"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_second_agent_does_not_get_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.db");
    let first = Journal::open(&path).unwrap();
    let handle = first.clone();
    drop(first);
    assert!(matches!(
        Journal::open(&path),
        Err(JournalError::Held { .. })
    ));
    drop(handle);
    Journal::open(&path).unwrap();
}

/// Not a test by itself: what the children of the two tests below run. It
/// prints each seq once it is acknowledged, and the first refusals.
#[test]
fn child_that_writes() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let journal = Journal::open(Path::new(&path)).unwrap();
    if journal.unfinished(&app("shop")).unwrap().is_none() {
        accept(&journal, 1, "shop", &[]);
    }
    let start = journal.events(&id(1), 0, usize::MAX).unwrap().len();
    for number in start..100_000 {
        let event = aborted(&format!("{number} {}", "x".repeat(200)));
        let told = [message(1, "production", &number.to_string())];
        match journal.append(&id(1), at(2), &event, &Releases::default(), &told) {
            Ok(seq) => println!("\nacknowledged {number} {seq}"),
            Err(error) => {
                println!("\nrefused {error}");
                if matches!(error, JournalError::Latched(_)) {
                    return;
                }
            }
        }
    }
}

/// Asserts that the journal holds the acknowledged appends in order, each with
/// its message, and at most one more; returns how many events it has.
fn assert_whole(path: &Path, acknowledged: &[(usize, u64)]) -> usize {
    let journal = Journal::open(path).unwrap();
    let events = journal.events(&id(1), 0, usize::MAX).unwrap();
    for (number, seq) in acknowledged {
        let recorded = &events[*number];
        assert_eq!(recorded.seq, *seq);
        let Event::AbortRequested { by } = &recorded.event else {
            panic!("{recorded:?}")
        };
        assert!(by.starts_with(&format!("{number} ")), "{by}");
    }
    assert_eq!(journal.undelivered().unwrap() as usize, events.len() - 1);
    let last = acknowledged.last().unwrap().0;
    assert!(
        events.len() <= last + 2,
        "{} events after {last}",
        events.len()
    );
    events.len()
}

fn acknowledgement(line: &str) -> Option<(usize, u64)> {
    let (number, seq) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
    Some((number.parse().unwrap(), seq.parse().unwrap()))
}

#[test]
fn killed_in_the_middle_of_appends_it_has_every_acknowledged_one_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.db");
    let mut events = 1;
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = Vec::new();
        // Lines that are in the pipe after the kill were acknowledged too.
        let enough = 20 + round * 7;
        let deadline = Instant::now() + Duration::from_secs(60);
        for line in lines {
            acknowledged.extend(acknowledgement(&line.unwrap()));
            if acknowledged.len() == enough {
                child.kill().unwrap();
            }
            assert!(Instant::now() < deadline, "the child is stuck");
        }
        let status = child.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9)
        );
        assert_eq!(acknowledged[0].0, events);
        events = assert_whole(&path, &acknowledged);
    }
}

#[test]
fn a_disk_that_fails_latches_the_journal_and_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.db");
    drop(Journal::open(&path).unwrap());
    // No file may grow beyond 2000 blocks: a write fails as on a broken disk.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes", "--nocapture"])
        .env(CHILD, &path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let acknowledged: Vec<_> = text.lines().filter_map(acknowledgement).collect();
    let refused: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("refused"))
        .collect();
    assert!(acknowledged.len() > 10, "{text}");
    assert_eq!(refused.len(), 2, "{text}");
    assert!(
        refused[1].contains("until the agent is restarted"),
        "{text}"
    );
    assert_whole(&path, &acknowledged);
}
