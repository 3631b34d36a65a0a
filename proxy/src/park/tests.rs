use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use tokio::task::{JoinHandle, yield_now};
use tokio::time::advance;

use super::*;

/// A minute for each request, and what the tests hold fits.
const WIDE: Park = Park {
    max_requests: 100_000,
    max_bytes: 1 << 20,
    max_age_ms: 60_000,
};

fn parked(bounds: &Park) -> Arc<Lot> {
    let lot = Arc::new(Lot::new());
    lot.park(bounds);
    lot
}

fn counts(lot: &Lot) -> [u64; 6] {
    let told = lot.read();
    [
        told.waiting,
        told.bytes,
        told.released,
        told.overflowed,
        told.timed_out,
        told.left,
    ]
}

/// Waits for each place in a task, and writes its name down when it is let go.
fn wait_in_order(
    places: impl IntoIterator<Item = (usize, Place)>,
    order: &Arc<Mutex<Vec<usize>>>,
) -> Vec<JoinHandle<()>> {
    let wait = |(name, place): (usize, Place)| {
        let order = Arc::clone(order);
        tokio::spawn(async move {
            if let Waited::Released(_place) = place.wait().await {
                order.lock().unwrap().push(name);
            }
        })
    };
    places.into_iter().map(wait).collect()
}

fn is_released(waited: &Waited) -> bool {
    matches!(waited, Waited::Released(_))
}

async fn settle() {
    // Each task of a test is awake after one turn, and done after the next.
    for _ in 0..3 {
        yield_now().await;
    }
}

#[test]
fn the_ramp_doubles_and_ends_at_everything() {
    let check = |step, expected| assert_eq!(batch(step), expected, "step {step}");
    check(0, 16);
    check(1, 32);
    check(5, 512);
    check(12, 65_536);
    check(64, usize::MAX);
    check(u32::MAX, usize::MAX);
    let steps = (0..13).map(batch).sum::<usize>();
    assert!(steps >= 100_000, "the largest lot is empty after 12 pauses");
}

#[test]
fn who_is_refused_comes_back_when_the_app_is_parked_no_more() {
    let check = |max_age_ms, expected| {
        let bounds = Park { max_age_ms, ..WIDE };
        assert_eq!(retry_after(&bounds), expected, "{max_age_ms} ms");
    };
    check(1, 1);
    check(1_000, 1);
    check(1_001, 2);
    check(29_001, 30);
    check(600_000, 30);
}

#[tokio::test(start_paused = true)]
async fn requests_are_let_go_in_the_order_in_which_they_came() {
    let lot = parked(&WIDE);
    let places: Vec<_> = (0..100).map(|name| (name, lot.enter(1).unwrap())).collect();
    let order = Arc::default();
    // That they begin to wait in another order changes nothing.
    let tasks = wait_in_order(places.into_iter().rev(), &order);
    settle().await;
    lot.release();
    settle().await;
    assert_eq!(*order.lock().unwrap(), (0..16).collect::<Vec<_>>());
    assert!(lot.is_open(), "who comes now waits behind");
    let last = lot.enter(1).unwrap();
    let last = wait_in_order([(100, last)], &order);
    for task in tasks.into_iter().chain(last) {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..=100).collect::<Vec<_>>());
    assert!(!lot.is_open());
    assert_eq!(counts(&lot), [0, 0, 101, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_ramp_has_a_pause_between_its_batches() {
    let lot = parked(&WIDE);
    let places: Vec<_> = (0..100).map(|name| (name, lot.enter(0).unwrap())).collect();
    let order: Arc<Mutex<Vec<usize>>> = Arc::default();
    let _tasks = wait_in_order(places, &order);
    settle().await;
    lot.release();
    for expected in [16, 48, 100] {
        settle().await;
        assert_eq!(order.lock().unwrap().len(), expected);
        advance(STEP).await;
    }
}

#[tokio::test]
async fn count_and_bytes_are_bounded_and_free_when_a_client_leaves() {
    let lot = parked(&Park {
        max_requests: 2,
        max_bytes: 10,
        max_age_ms: 7_000,
    });
    let full = Full { retry_after: 7 };
    let first = lot.enter(10).unwrap();
    assert_eq!(lot.enter(1).unwrap_err(), full, "its bytes");
    let second = lot.enter(0).unwrap();
    assert_eq!(lot.enter(0).unwrap_err(), full, "its count");
    assert_eq!(counts(&lot), [2, 10, 0, 2, 0, 0]);
    drop(first);
    assert_eq!(counts(&lot), [1, 0, 0, 2, 0, 1]);
    let third = lot.enter(10).unwrap();
    drop((second, third));
    assert_eq!(counts(&lot), [0, 0, 0, 2, 0, 3]);
    assert!(lot.is_open(), "the table still parks");
    assert!(lot.enter(u64::MAX).is_err());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_refused_when_the_app_serves_again() {
    let lot = parked(&Park {
        max_requests: 1,
        max_bytes: 10,
        max_age_ms: 7_000,
    });
    let first = lot.enter(10).unwrap();
    assert!(lot.enter(0).is_err());
    lot.release();
    let second = lot.enter(10).unwrap();
    for place in [first, second] {
        assert!(is_released(&place.wait().await));
    }
    assert_eq!(counts(&lot)[2..], [2, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_held_too_long_is_told_so() {
    let lot = parked(&Park {
        max_age_ms: 2_000,
        ..WIDE
    });
    let began = Instant::now();
    let waited = lot.enter(5).unwrap().wait().await;
    assert!(matches!(waited, Waited::Aged { retry_after: 2 }));
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(counts(&lot), [0, 0, 0, 0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_parks_again_stops_the_ramp_and_who_was_let_go_keeps_its_turn() {
    let lot = parked(&WIDE);
    let mut places: Vec<_> = (0..40).map(|name| (name, lot.enter(1).unwrap())).collect();
    let rest = places.split_off(1);
    let first = tokio::spawn(places.remove(0).1.wait());
    let order: Arc<Mutex<Vec<usize>>> = Arc::default();
    let _tasks = wait_in_order(rest, &order);
    settle().await;
    lot.release();
    settle().await;
    lot.park(&WIDE);
    assert_eq!(counts(&lot)[0], 24, "the first batch went");
    advance(STEP * 100).await;
    settle().await;
    assert_eq!(counts(&lot)[0], 24, "and no other");
    // The first one had not reached a target before the table changed back.
    let Waited::Released(again) = first.await.unwrap() else {
        panic!("it was let go");
    };
    let again = wait_in_order([(0, again)], &order);
    settle().await;
    assert_eq!(counts(&lot)[0], 25);
    order.lock().unwrap().clear();
    lot.release();
    for task in again {
        task.await.unwrap();
    }
    settle().await;
    let expected: Vec<_> = [0].into_iter().chain(16..31).collect();
    assert_eq!(*order.lock().unwrap(), expected);
    advance(STEP).await;
    settle().await;
    assert_eq!(counts(&lot), [0, 0, 40, 0, 0, 0], "each is counted once");
}

#[tokio::test(start_paused = true)]
async fn waiting_again_makes_no_request_younger() {
    let lot = parked(&Park {
        max_age_ms: 1_000,
        ..WIDE
    });
    let place = lot.enter(1).unwrap();
    advance(Duration::from_millis(900)).await;
    lot.release();
    let Waited::Released(place) = place.wait().await else {
        panic!("it was let go");
    };
    lot.park(&WIDE);
    let began = Instant::now();
    assert!(matches!(place.wait().await, Waited::Aged { .. }));
    assert!(began.elapsed() <= Duration::from_millis(101));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_the_lot_empty_waits_only_when_it_is_parked_again() {
    let lot = Arc::new(Lot::new());
    let Waited::Released(place) = lot.enter(1).unwrap().wait().await else {
        panic!("nobody parks");
    };
    drop(place);
    let Waited::Released(place) = lot.enter(1).unwrap().wait().await else {
        panic!("nobody parks");
    };
    assert_eq!(counts(&lot), [0; 6], "nobody was held");
    lot.park(&Park {
        max_age_ms: 1_000,
        ..WIDE
    });
    let began = Instant::now();
    assert!(matches!(place.wait().await, Waited::Aged { .. }));
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn two_thousand_clients_that_leave_take_everything_with_them() {
    let lot = parked(&WIDE);
    let places: Vec<_> = (0..2_000)
        .map(|name| (name, lot.enter(7).unwrap()))
        .collect();
    let order: Arc<Mutex<Vec<usize>>> = Arc::default();
    let tasks = wait_in_order(places, &order);
    settle().await;
    assert_eq!(counts(&lot), [2_000, 14_000, 0, 0, 0, 0]);
    let stays = lot.enter(7).unwrap();
    for task in &tasks {
        task.abort();
    }
    for task in tasks {
        assert!(task.await.unwrap_err().is_cancelled());
    }
    assert_eq!(counts(&lot), [1, 7, 0, 0, 0, 2_000]);
    // Nobody waits for those who left.
    let began = Instant::now();
    lot.release();
    assert!(is_released(&stays.wait().await));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(!lot.is_open());
    advance(STEP).await;
    settle().await;
    assert_eq!(Arc::strong_count(&lot), 1, "the ramp has ended");
}

#[tokio::test]
async fn the_last_client_that_leaves_in_the_middle_of_a_ramp_ends_it() {
    let lot = parked(&WIDE);
    let mut places: Vec<_> = (0..17).map(|_| lot.enter(1).unwrap()).collect();
    lot.release();
    settle().await;
    assert!(lot.is_open());
    drop(places.pop());
    assert!(!lot.is_open());
}

#[test]
fn threads_that_come_leave_and_wait_lose_nobody() {
    const WORKERS: usize = 3;
    const REQUESTS: usize = 2_000;
    let lot = parked(&WIDE);
    let let_go = Arc::new(AtomicUsize::new(0));
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                let (lot, let_go) = (Arc::clone(&lot), Arc::clone(&let_go));
                scope.spawn(move || {
                    runtime().unwrap().block_on(async {
                        let mut tasks = Vec::new();
                        for request in 0..REQUESTS {
                            let place = lot.enter(1).unwrap();
                            if request % 4 == 0 {
                                continue;
                            }
                            let let_go = Arc::clone(&let_go);
                            tasks.push(tokio::spawn(async move {
                                assert!(is_released(&place.wait().await));
                                let_go.fetch_add(1, SeqCst);
                            }));
                            if request % 16 == 0 {
                                yield_now().await;
                            }
                        }
                        for task in tasks {
                            task.await.unwrap();
                        }
                    });
                })
            })
            .collect();
        runtime().unwrap().block_on(async {
            while !workers.iter().all(|worker| worker.is_finished()) {
                lot.release();
                sleep(Duration::from_millis(1)).await;
                lot.park(&WIDE);
                lot.release();
                sleep(STEP).await;
            }
        });
    });
    let expected = WORKERS * REQUESTS * 3 / 4;
    assert_eq!(let_go.load(SeqCst), expected);
    let told = lot.read();
    assert_eq!((told.waiting, told.bytes), (0, 0));
}
