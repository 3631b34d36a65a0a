//! A process that is killed, and a disk that fails, in the middle of writes.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cutover_agent::journal::{Journal, JournalError, Record as _};
use cutover_plan::event::Event;
use cutover_plan::release::Releases;

use crate::deploys::{aborted, accept, app, at, id, message};

/// Set in the children of these tests: the journal that they write.
const CHILD: &str = "CUTOVER_TEST_JOURNAL";

/// Not a test by itself: what the children of the two tests below run. It
/// prints each seq once it is acknowledged, and the first refusals.
#[test]
fn child_that_writes() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let journal = Journal::open(Path::new(&path)).unwrap();
    if journal.unfinished(&app("shop")).unwrap().is_empty() {
        accept(&journal, 1, "shop", &[]);
    }
    let start = journal.events(&id(1), 0, usize::MAX).unwrap().len();
    for number in start..100_000 {
        let event = aborted(&format!("{number} {}", "x".repeat(200)));
        let told = [message(1, "production", &number.to_string()).into()];
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
            .args(["--exact", "crashes::child_that_writes", "--nocapture"])
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
        .args(["--exact", "crashes::child_that_writes", "--nocapture"])
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
