//! The switchboard with workers that are mailboxes only.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::state::MAX_GONE_POOLS;
use super::*;
use crate::target::Target;
use cutover_wire::table::{self, Route, Split};

fn table(generation: u64, pools: &[(&str, u16)], serving: &str) -> Table {
    let pool = |&(name, port): &(&str, u16)| {
        let target = table::Target {
            id: format!("{name}-0"),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        };
        (name.to_owned(), table::Pool::of(vec![target]))
    };
    let hosts = vec!["a.example".to_owned()];
    let pools = pools.iter().map(pool).collect();
    let route = Route::new(hosts, "/", Split::all_to(serving), pools);
    Table {
        generation,
        apps: BTreeMap::from([("shop".to_owned(), route)]),
        ..Table::default()
    }
}

fn switchboard(directory: &std::path::Path) -> (Switchboard, Arc<ArcSwap<Snapshot>>) {
    let snapshot = Arc::new(ArcSwap::default());
    let store = Store::open(directory).unwrap();
    (
        Switchboard::new(
            store,
            Arc::clone(&snapshot),
            Vec::new(),
            Arc::default(),
            Before::default(),
        ),
        snapshot,
    )
}

fn drain(targets: &[String], seconds: u64) -> Drain {
    Drain {
        app: "shop".to_owned(),
        targets: targets.to_vec(),
        deadline: Duration::from_secs(seconds),
        cut: None,
        of_successor: false,
    }
}

fn serving(snapshot: &ArcSwap<Snapshot>) -> Arc<Target> {
    let snapshot = snapshot.load();
    let found = snapshot.find("a.example", "/").unwrap();
    Arc::clone(&found.route.sole.as_ref().unwrap().targets[0])
}

#[tokio::test]
async fn a_target_keeps_its_identity_and_a_switch_back_ends_its_drain() {
    let directory = tempfile::tempdir().unwrap();
    let (board, snapshot) = switchboard(directory.path());
    let pools = [("v1", 1001), ("v2", 1002)];
    board.apply(0, table(1, &pools, "v1")).await.unwrap();
    let old = serving(&snapshot);
    board.apply(1, table(2, &pools, "v2")).await.unwrap();
    let ids = ["v1-0".to_owned()];
    let drained = board.drain(drain(&ids, 5)).await;
    assert!(drained.unwrap().is_empty() && old.is_draining());
    board.apply(2, table(3, &pools, "v2")).await.unwrap();
    assert!(old.is_draining(), "it is listed, and serves nobody");
    board.apply(3, table(4, &pools, "v1")).await.unwrap();
    assert!(Arc::ptr_eq(&old, &serving(&snapshot)) && !old.is_draining());
}

#[tokio::test]
async fn a_table_is_acknowledged_only_when_every_worker_follows_it() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = Arc::new(ArcSwap::default());
    let ((one, mut first), (two, mut second)) = (Mailbox::new(), Mailbox::new());
    let store = Store::open(directory.path()).unwrap();
    let workers = vec![one, two];
    let board = Switchboard::new(
        store,
        Arc::clone(&snapshot),
        workers,
        Arc::default(),
        Before::default(),
    );
    let mut applied = std::pin::pin!(board.apply(0, table(1, &[("v1", 1001)], "v1")));
    for worker in [&mut first, &mut second] {
        let fence = tokio::select! {
            _ = &mut applied => panic!("acknowledged before a worker followed"),
            message = worker.recv() => message,
        };
        // What a worker reads after the fence was sent is the new table already.
        assert!(snapshot.load().find("a.example", "/").is_some());
        let Some(Message::Fence { done, .. }) = fence else {
            panic!("{fence:?}");
        };
        done.send(()).unwrap();
    }
    assert!(matches!(applied.await, Ok(Applied::Generation(1))));
}

#[tokio::test]
async fn a_table_waits_for_the_end_of_a_loan_and_is_followed_only_after_one() {
    let directory = tempfile::tempdir().unwrap();
    let (board, _) = switchboard(directory.path());
    let board = Arc::new(board);
    let next = |generation| table(generation, &[("v1", 1001)], "v1");
    let loan = board.lend().await.unwrap();
    assert!(board.lend().await.is_none());
    let refused = board.apply(0, next(1)).await.unwrap();
    assert!(matches!(refused, Applied::Refused(Refusal::HandingOver)));
    drop(loan);
    let applied = board.apply(0, next(1)).await.unwrap();
    assert!(matches!(applied, Applied::Generation(1)));
    let refused = board.follow(next(2), Duration::ZERO).await.unwrap();
    assert!(matches!(refused, Applied::Refused(Refusal::TakeOver(_))));
    board.lend().await.unwrap().give();
    assert!(board.lend().await.is_none());
    let refused = board.apply(1, next(2)).await.unwrap();
    assert!(matches!(refused, Applied::Refused(Refusal::HandingOver)));
    for generation in [3, 3, 7] {
        let followed = board.follow(next(generation), Duration::ZERO).await;
        assert!(matches!(followed, Ok(Applied::Generation(n)) if n == generation));
        assert_eq!(board.table().generation, generation);
    }
    let refused = board.follow(next(6), Duration::ZERO).await.unwrap();
    assert!(matches!(
        refused,
        Applied::Refused(Refusal::Generation { .. })
    ));
    // What is followed is stored by who leads.
    assert_eq!(board.store.load().generation, 1);
}

#[tokio::test]
async fn an_instance_that_cannot_obey_its_successor_lets_its_clients_go() {
    let directory = tempfile::tempdir().unwrap();
    let (mailbox, mut worker) = Mailbox::new();
    let store = Store::open(directory.path()).unwrap();
    let snapshot = Arc::new(ArcSwap::default());
    let board = Switchboard::new(
        store,
        snapshot,
        vec![mailbox],
        Arc::default(),
        Before::default(),
    );
    let board = Arc::new(board);
    board.lend().await.unwrap().give();
    // Wrong for any program, as a table of a newer one is for an older.
    let beyond = table(1, &[("v1", 1001)], "v2");
    let linger = Duration::from_millis(1);
    let mut followed = std::pin::pin!(board.follow(beyond, linger));
    let told = tokio::select! {
        _ = &mut followed => panic!("acknowledged while clients could still be bound"),
        told = worker.recv() => told,
    };
    assert!(matches!(told, Some(Message::Stop(given)) if given == linger));
    let fence = tokio::select! {
        _ = &mut followed => panic!("acknowledged before the worker had let go"),
        fence = worker.recv() => fence,
    };
    let Some(Message::Fence { done, .. }) = fence else {
        panic!("{fence:?}");
    };
    done.send(()).unwrap();
    assert!(matches!(followed.await, Ok(Applied::Generation(1))));
    assert_eq!(board.table().generation, 0);
}

#[tokio::test]
async fn counts_of_pools_that_left_are_told_and_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let (board, _) = switchboard(directory.path());
    let rounds = MAX_GONE_POOLS as u64 + 10;
    for round in 0..rounds {
        let name = format!("v{round}");
        let next = table(round + 1, &[(&name, 1001)], &name);
        board.apply(round, next).await.unwrap();
    }
    let told = board.statistics();
    let pools = &told.apps["shop"];
    assert_eq!(pools.len(), MAX_GONE_POOLS + 1);
    assert!(!pools.contains_key("v0"), "the oldest is forgotten first");
    assert!(pools.contains_key(&format!("v{}", rounds - 2)));
}

#[tokio::test]
async fn a_drain_that_a_table_overtakes_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (mailbox, mut worker) = Mailbox::new();
    tokio::spawn(async move {
        while let Some(Message::Fence { done, .. }) = worker.recv().await {
            let _ = done.send(());
        }
    });
    let snapshot = Arc::new(ArcSwap::default());
    let board = Switchboard::new(
        Store::open(directory.path()).unwrap(),
        Arc::clone(&snapshot),
        vec![mailbox],
        Arc::default(),
        Before::default(),
    );
    let pools = [("v1", 1001), ("v2", 1002)];
    board.apply(0, table(1, &pools, "v1")).await.unwrap();
    let old = serving(&snapshot);
    let hold = old.acquire(0).unwrap();
    board.apply(1, table(2, &pools, "v2")).await.unwrap();
    let ids = ["v1-0".to_owned()];
    let mut drained = std::pin::pin!(board.drain(drain(&ids, 3600)));
    tokio::select! {
        biased;
        told = &mut drained => panic!("it ended with a request inside: {told:?}"),
        () = std::future::ready(()) => assert!(old.is_draining()),
    }
    board.apply(2, table(3, &pools, "v1")).await.unwrap();
    let told = timeout(Duration::from_secs(5), drained).await.unwrap();
    assert_eq!(told, Err(Refusal::Overtaken));
    drop(hold);
}

#[tokio::test]
async fn what_is_read_waits_for_no_table_that_is_being_applied() {
    let directory = tempfile::tempdir().unwrap();
    let (mailbox, mut worker) = Mailbox::new();
    let store = Store::open(directory.path()).unwrap();
    let board = Switchboard::new(
        store,
        Arc::default(),
        vec![mailbox],
        Arc::default(),
        Before::default(),
    );
    let mut applied = std::pin::pin!(board.apply(0, table(1, &[("v1", 1001)], "v1")));
    let fence = tokio::select! {
        _ = &mut applied => panic!("acknowledged before the worker followed"),
        fence = worker.recv() => fence,
    };
    // It is not yet what everybody follows.
    assert_eq!(board.table().generation, 0);
    assert_eq!(board.statistics().proxy.generation, 0);
    let Some(Message::Fence { done, .. }) = fence else {
        panic!("{fence:?}");
    };
    done.send(()).unwrap();
    assert!(matches!(applied.await, Ok(Applied::Generation(1))));
    assert_eq!(board.table().generation, 1);
}

#[tokio::test]
async fn nothing_is_drained_while_another_instance_takes_over_but_by_that_one() {
    let directory = tempfile::tempdir().unwrap();
    let (board, _) = switchboard(directory.path());
    let board = Arc::new(board);
    let pools = [("v1", 1001), ("v2", 1002)];
    board.apply(0, table(1, &pools, "v1")).await.unwrap();
    board.apply(1, table(2, &pools, "v2")).await.unwrap();
    let ids = ["v1-0".to_owned()];
    let loan = board.lend().await.unwrap();
    assert_eq!(loan.open().len(), 1);
    let told = board.drain(drain(&ids, 5)).await;
    assert_eq!(told, Err(Refusal::HandingOver));
    loan.give();
    let told = board.drain(drain(&ids, 5)).await;
    assert_eq!(told, Err(Refusal::HandingOver));
    let of_successor = Drain {
        of_successor: true,
        ..drain(&ids, 5)
    };
    assert!(board.drain(of_successor).await.unwrap().is_empty());
}
