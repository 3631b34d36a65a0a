//! What is written is what is read, and rules that writes must keep.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use cutover_agent::journal::{Acceptance, Journal, JournalError, Record as _};
use cutover_plan::event::Event;
use cutover_plan::release::Releases;
use cutover_wire::request::Source;
use jiff::Timestamp;

use crate::deploys::{aborted, accept, accepted, app, append, at, ended, id, message, whole};

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
    assert_eq!(journal.unfinished(&app("shop")).unwrap()[0].deploy, id(1));
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
    assert_eq!(journal.unfinished(&app("shop")).unwrap(), Vec::new());
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
fn deploys_stand_in_the_order_of_the_journal_whatever_the_clock_said() {
    let journal = Journal::in_memory().unwrap();
    // Each was accepted an hour before the one that is older.
    for number in [7_202, 3_601, 1] {
        accept(&journal, number, "shop", &[]);
    }
    let unfinished = journal.unfinished(&app("shop")).unwrap();
    let order: Vec<_> = unfinished.into_iter().map(|one| one.deploy).collect();
    assert_eq!(order, [id(7_202), id(3_601), id(1)]);
    assert_eq!(journal.under_way().unwrap()[0].deploy, id(7_202));
    append(&journal, 7_202, 7_203, &ended(), &[]);
    append(&journal, 3_601, 3_602, &ended(), &[]);
    let last = journal.last_ended(&app("shop")).unwrap().unwrap();
    assert_eq!(last.deploy, id(3_601));
}

#[test]
fn a_known_call_is_answered_with_its_first_deploy_and_writes_nothing() {
    let journal = Journal::in_memory().unwrap();
    accept(&journal, 1, "shop", &[]);
    let changes = journal.changes();
    let again = journal
        .accept(
            Some("call-1"),
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
    // One that runs, one that waits, and one that takes its place.
    accept(&journal, 4, "shop", &[]);
    accept(&journal, 5, "shop", &[]);
    let fourth = journal.accept(
        Some("call-2"),
        &id(2),
        at(9),
        &accepted("shop"),
        &Source::default(),
        &[],
    );
    assert!(matches!(fourth, Err(JournalError::Unfinished(_))));
    let headless = journal.accept(
        Some("call-3"),
        &id(3),
        at(9),
        &ended(),
        &Source::default(),
        &[],
    );
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
fn a_call_is_known_with_the_event_that_it_asked_for_and_not_without() {
    let journal = Journal::in_memory().unwrap();
    let none = Releases::default();
    accept(&journal, 1, "shop", &[]);
    let say = |call: &str, number| {
        journal.append_called(call, &id(number), at(2), &aborted("ada"), &none, &[])
    };
    say("word", 1).unwrap();
    assert_eq!(journal.find_call("word").unwrap(), Some(id(1)));
    assert_eq!(journal.events(&id(1), 0, 10).unwrap().len(), 2);
    // What cannot be written leaves the call unknown.
    say("lost", 2).unwrap_err();
    journal.append(&id(1), at(3), &ended(), &none, &[]).unwrap();
    say("late", 1).unwrap_err();
    for call in ["lost", "late"] {
        assert_eq!(journal.find_call(call).unwrap(), None, "{call}");
    }
}

#[test]
fn the_newest_deploys_come_first_and_only_those_that_were_called_for() {
    let journal = Journal::in_memory().unwrap();
    for number in 1..=3 {
        whole(
            &journal,
            number,
            "shop",
            10 * i64::try_from(number).unwrap(),
        );
    }
    whole(&journal, 4, "blog", 40);
    let source = Source::default();
    journal
        .accept(None, &id(5), at(50), &accepted("shop"), &source, &[])
        .unwrap();
    let newest = |app: Option<&str>, limit| {
        let app = app.map(crate::deploys::app);
        let records = journal.newest(app.as_ref(), limit).unwrap();
        let ids: Vec<_> = records.into_iter().map(|record| record.deploy).collect();
        ids
    };
    assert_eq!(newest(None, 100), [id(4), id(3), id(2), id(1)]);
    assert_eq!(newest(None, 2), [id(4), id(3)]);
    assert_eq!(newest(Some("shop"), 2), [id(3), id(2)]);
    assert_eq!(newest(Some("other"), 2), []);
}
