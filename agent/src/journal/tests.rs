//! What cannot be seen from outside: full disks, rows that make no sense, and
//! rules that the schema holds against code that forgets them.

use super::*;
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Kind;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn id(number: u8) -> DeployId {
    DeployId::new(u64::from(number), [number; 10])
}

fn accepted(app: &str) -> Event {
    Event::Accepted {
        app: AppName::parse(app).unwrap(),
        kind: Kind::Deploy,
        image: None,
        by: None,
        window_override: None,
    }
}

fn aborted(by: &str) -> Event {
    Event::AbortRequested { by: by.to_owned() }
}

fn ended() -> Event {
    let outcome = Outcome::Promoted;
    Event::Ended { outcome }
}

fn journal_with_a_deploy() -> Journal {
    let journal = Journal::in_memory().unwrap();
    journal
        .accept(
            Some("c1"),
            &id(1),
            at(1),
            &accepted("shop"),
            &Source::default(),
            &[],
        )
        .unwrap();
    journal
}

fn run(journal: &Journal, statement: &str) -> rusqlite::Result<()> {
    journal.store().connection.execute_batch(statement)
}

fn counts(journal: &Journal) -> Vec<i64> {
    let count = |table| {
        let query = format!("SELECT count(*) FROM {table}");
        let store = journal.store();
        store.connection.query_row(&query, [], |row| row.get(0))
    };
    let tables = ["calls", "deploys", "events", "releases", "outbox"];
    tables.map(|table| count(table).unwrap()).to_vec()
}

#[test]
fn a_full_disk_leaves_nothing_half_and_does_not_latch() {
    let journal = journal_with_a_deploy();
    let before = counts(&journal);
    let append =
        |text: &str| journal.append(&id(1), at(2), &aborted(text), &Releases::default(), &[]);
    run(&journal, "PRAGMA max_page_count = 1").unwrap();
    let error = append(&"x".repeat(100_000)).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("full"), "{error}: {cause}");
    assert_eq!(counts(&journal), before);
    let accepted = accepted("other");
    let source = Source {
        actor: Some("x".repeat(100_000)),
        ..Source::default()
    };
    journal
        .accept(Some("c2"), &id(2), at(2), &accepted, &source, &[])
        .unwrap_err();
    assert_eq!(counts(&journal), before);
    assert_eq!(journal.find_call("c2").unwrap(), None);
    run(&journal, "PRAGMA max_page_count = 100000").unwrap();
    append("there is room again").unwrap();
}

#[test]
fn rows_that_make_no_sense_are_named() {
    let check = |statement: &str, read: &dyn Fn(&Journal) -> JournalError, row: &str| {
        let journal = journal_with_a_deploy();
        run(
            &journal,
            "DROP TRIGGER events_never_change; PRAGMA foreign_keys = 0",
        )
        .unwrap();
        run(&journal, statement).unwrap();
        let error = read(&journal);
        assert!(matches!(error, JournalError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(row), "{error}");
    };
    let shop = AppName::parse("shop").unwrap();
    check(
        r#"UPDATE events SET event = '{"event":"moon_asked"}'"#,
        &|journal| journal.events(&id(1), 0, 10).unwrap_err(),
        "events 1",
    );
    check(
        "UPDATE deploys SET source = 'x'",
        &|journal| journal.deploy(&id(1)).unwrap_err(),
        &format!("deploys {}", id(1)),
    );
    check(
        "UPDATE deploys SET deploy = 'nonsense'",
        &|journal| journal.unfinished(&shop).unwrap_err(),
        "deploys nonsense",
    );
    check(
        "UPDATE calls SET deploy = 'nonsense'",
        &|journal| journal.find_call("c1").unwrap_err(),
        "calls c1",
    );
    check(
        "INSERT INTO releases VALUES ('shop', '[]')",
        &|journal| journal.releases(&shop).unwrap_err(),
        "releases shop",
    );
    check(
        "INSERT INTO outbox (deploy, repository, environment, message, not_before) VALUES ('d', 'r', 'e', '1', 0)",
        &|journal| journal.due_message(at(9)).unwrap_err(),
        "outbox 1",
    );
}

#[test]
fn the_schema_holds_the_rules_of_events() {
    let check = |journal: &Journal, statement: &str, rule: &str| {
        let error = run(journal, statement).unwrap_err().to_string();
        assert!(error.contains(rule), "{statement}: {error}");
    };
    let journal = journal_with_a_deploy();
    check(&journal, "UPDATE events SET at = 0", "never changed");
    check(&journal, "DELETE FROM events", "never deleted");
    let another =
        |id: &str| format!("INSERT INTO deploys VALUES ('{id}', 'shop', '{{}}', 0, NULL, 1)");
    run(&journal, &another("d2")).unwrap();
    run(&journal, &another("d3")).unwrap();
    check(&journal, &another("d4"), "at most three");
    journal
        .append(&id(1), at(2), &ended(), &Releases::default(), &[])
        .unwrap();
    let late = format!(
        "INSERT INTO events (deploy, at, event) VALUES ('{}', 0, '{{}}')",
        id(1)
    );
    check(&journal, &late, "no more events");
    check(&journal, "DELETE FROM deploys", "FOREIGN KEY");
}

#[test]
fn a_failed_disk_latches_writes_shut_and_reads_go_on() {
    let journal = journal_with_a_deploy();
    let failure: Result<(), JournalError> = journal.store().transact("a test", |_| {
        let code = rusqlite::ffi::SQLITE_IOERR_FSYNC;
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(code),
            None,
        ))
    });
    assert!(
        matches!(failure, Err(JournalError::Write { .. })),
        "{failure:?}"
    );
    let next = journal.append(&id(1), at(2), &ended(), &Releases::default(), &[]);
    assert!(matches!(next, Err(JournalError::Latched(_))), "{next:?}");
    assert!(matches!(
        journal.message_begun(1),
        Err(JournalError::Latched(_))
    ));
    assert_eq!(journal.events(&id(1), 0, 10).unwrap().len(), 1);
}

#[test]
fn every_commit_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("agent.db")).unwrap();
    let pragma = |name: &str| {
        let query = format!("PRAGMA {name}");
        let text = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
        journal
            .store()
            .connection
            .query_row(&query, [], text)
            .unwrap()
    };
    assert_eq!(pragma("journal_mode"), "wal".to_owned().into());
    assert_eq!(pragma("synchronous"), 2.into());
    assert_eq!(pragma("foreign_keys"), 1.into());
}
