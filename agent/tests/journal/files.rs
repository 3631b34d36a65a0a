//! Files that are not to be trusted, or not ours alone.

use std::fs;

use cutover_agent::journal::{Journal, JournalError};

use crate::deploys::whole;

#[test]
fn a_damaged_file_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.db");
    let journal = Journal::open(&path).unwrap();
    for number in 1..100 {
        whole(&journal, number, "shop", i64::try_from(number).unwrap());
    }
    drop(journal);
    let whole = fs::read(&path).unwrap();
    let check = |damaged: &[u8], what: &str| {
        fs::write(&path, damaged).unwrap();
        let Err(error) = Journal::open(&path) else {
            panic!("a damaged file was opened: {what}")
        };
        assert!(
            matches!(error, JournalError::Damaged { .. }),
            "{what}: {error}"
        );
        let text = error.to_string();
        for part in [path.to_str().unwrap(), "aside", "serves on", "lost"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(
            fs::read(&path).unwrap() == damaged,
            "the evidence was changed: {what}"
        );
    };
    check(&[b'x'; 4096], "no journal at all");
    check(&whole[..whole.len() / 2], "cut in half");
    for (number, page) in (0..whole.len()).step_by(4096).enumerate() {
        let mut bytes = whole.clone();
        // The first page begins with the header of the file.
        let header = if number == 0 { 100 } else { 0 };
        bytes[page + header..page + header + 64].fill(0xff);
        check(&bytes, &format!("page {number} overwritten"));
    }
    fs::remove_file(&path).unwrap();
    Journal::open(&path).unwrap();
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
