//! How much memory and how many descriptors the proxy has, and how clients change it.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::common::{Proxy, until};

/// What a round may have more than the first ones, besides a quarter: what the
/// allocator is left with differs by how the clients fell on the workers.
const SLACK: u64 = 2 * 1024 * 1024;

/// Two rounds fill what the allocator keeps. What leaks makes each one after them higher
/// than the last; one that is not shows that nothing does, where chance made others high.
const FIRST: u32 = 2;

/// Rounds at most.
const ROUNDS: u32 = 6;

/// Between two looks at what clients are left with who give their buffers back. It is
/// longer than what is idle keeps them.
const PAUSE: Duration = Duration::from_millis(350);

/// What may be given back between two looks by chance.
const STILL: u64 = 128 * 1024;

/// What the process has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    /// Bytes of memory, shared pages by their part.
    pub(crate) memory: u64,
    /// Open descriptors.
    pub(crate) descriptors: usize,
}

impl Level {
    /// The least of some looks: the connection of a control call may be there still.
    pub(crate) fn at_rest(proxy: &Proxy) -> Self {
        let looks = (0..5).map(|_| {
            thread::sleep(Duration::from_millis(50));
            Self::of(proxy)
        });
        looks.min_by_key(|level| level.descriptors).unwrap()
    }

    pub(crate) fn of(proxy: &Proxy) -> Self {
        let process = format!("/proc/{}", proxy.child.id());
        let told = fs::read_to_string(format!("{process}/smaps_rollup")).unwrap();
        let line = told.lines().find(|line| line.starts_with("Pss:")).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        Self {
            memory: kilobytes * 1024,
            descriptors: fs::read_dir(format!("{process}/fd")).unwrap().count(),
        }
    }
}

/// What is left when nothing more is given back.
fn settled(proxy: &Proxy) -> Level {
    let mut before = Level::of(proxy);
    let mut now = before;
    until("buffers are given back", || {
        thread::sleep(PAUSE);
        now = Level::of(proxy);
        let is_still = now.memory + STILL >= before.memory;
        before = now;
        is_still
    });
    now
}

/// Lets this process have as many descriptors as it may.
pub(crate) fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// What one attack may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// How many clients there are.
    pub(crate) clients: usize,
    /// Bytes of memory for each of them.
    pub(crate) each: u64,
}

/// Makes an attack and lets it go, three times or more: it stays within its bounds, all
/// descriptors come back, and the level does not rise: what the allocator keeps of one round
/// it uses for the next, once its pieces have found their places in the first two.
///
/// `attack` returns its clients when they are there, and `gone` what ends them.
pub(crate) fn bears<T>(
    proxy: &Proxy,
    what: &str,
    bounds: Bounds,
    attack: impl FnMut() -> T,
    gone: impl FnMut(T),
) {
    bears_rounds(ROUNDS, proxy, what, bounds, attack, gone);
}

/// Makes an attack once: it stays within its bounds, and all descriptors come back.
pub(crate) fn bears_once<T>(
    proxy: &Proxy,
    what: &str,
    bounds: Bounds,
    attack: impl FnMut() -> T,
    gone: impl FnMut(T),
) {
    bears_rounds(1, proxy, what, bounds, attack, gone);
}

fn bears_rounds<T>(
    rounds: u32,
    proxy: &Proxy,
    what: &str,
    bounds: Bounds,
    mut attack: impl FnMut() -> T,
    mut gone: impl FnMut(T),
) {
    let start = Level::at_rest(proxy);
    let clients = bounds.clients as u64;
    let mut before = 0;
    for round in 1..=rounds {
        let held = attack();
        let at_once = Level::of(proxy);
        assert!(
            at_once.descriptors >= start.descriptors + bounds.clients,
            "{what}: the clients are not there: {at_once:?} {start:?}"
        );
        let settled = settled(proxy);
        gone(held);
        until(&format!("{what}: all descriptors are back"), || {
            Level::of(proxy).descriptors == start.descriptors
        });
        let after = self::settled(proxy);
        let more = |level: Level| level.memory.saturating_sub(start.memory);
        let each = |level: Level| more(level) as f64 / 1024.0 / clients as f64;
        eprintln!(
            "{what}, round {round}: {clients} clients, {:.2} KB each at once, {:.2} KB settled; \
             start {} KB, after {} KB; descriptors {} to {} and back",
            each(at_once),
            each(settled),
            start.memory / 1024,
            after.memory / 1024,
            start.descriptors,
            at_once.descriptors,
        );
        let most = more(at_once).max(more(settled));
        assert!(
            most <= bounds.each * clients,
            "{what}: {most} bytes for {clients} clients, {} each are allowed",
            bounds.each
        );
        let left = more(settled);
        if round <= FIRST {
            before = before.max(left);
        } else if left <= before + before / 4 + SLACK {
            return;
        } else {
            assert!(
                round < rounds,
                "{what}: each round after {FIRST} took more, the last {left} bytes, those \
                 {before} at most"
            );
        }
    }
}
