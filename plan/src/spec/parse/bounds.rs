//! From where to where a value of an app's file may go.
//!
//! Every wait has a deadline, and every number a bound: what lies outside is a
//! slip of the pen or cannot work.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::spec::{Bytes, MilliCpus};

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const MINUTE: Duration = seconds(60);
const HOUR: Duration = seconds(60 * 60);
const DAY: Duration = seconds(24 * 60 * 60);
/// A person is back from a holiday weekend by then.
const WEEK: Duration = seconds(7 * 24 * 60 * 60);

/// From the stop signal to the kill.
pub(super) const STOP_GRACE: RangeInclusive<Duration> = Duration::ZERO..=seconds(10 * 60);
/// What a drain may take.
pub(super) const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=HOUR;
/// How long a deploy may go without getting further.
pub(super) const PROGRESS: RangeInclusive<Duration> = MINUTE..=DAY;
/// How long the old release is kept warm.
pub(super) const STANDBY: RangeInclusive<Duration> = Duration::ZERO..=WEEK;
/// What a person has for an answer.
pub(super) const PERSON: RangeInclusive<Duration> = MINUTE..=WEEK;
/// What a hook may take.
pub(super) const HOOK: RangeInclusive<Duration> = seconds(1)..=HOUR;
/// From the start of a container to its last good answer.
pub(super) const GATE: RangeInclusive<Duration> = MILLISECOND..=HOUR;
/// A host has better to do than to answer health questions faster than this.
pub(super) const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=HOUR;
/// A watch has to see something: none at all would call missing data a success.
pub(super) const WATCH: RangeInclusive<Duration> = seconds(1)..=DAY;
/// What a watch may be extended to.
pub(super) const EXTENDED: RangeInclusive<Duration> = seconds(1)..=WEEK;
/// What an answer may take.
pub(super) const LATENCY: RangeInclusive<Duration> = MILLISECOND..=DAY;
/// A batch may be followed at once by the next one: each has passed its gate.
pub(super) const BAKE: RangeInclusive<Duration> = Duration::ZERO..=DAY;
/// How long a request is held; browsers and proxies before us give up sooner or later.
pub(super) const PARK: RangeInclusive<Duration> = seconds(1)..=seconds(10 * 60);
/// How many are held; each is a connection and its buffers.
pub(super) const PARKED: RangeInclusive<u32> = 1..=100_000;

/// From 1, because rates of no requests are no verdict; to more than any window sees.
pub(super) const REQUESTS: RangeInclusive<u64> = 1..=1_000_000_000;
/// One host has room for no more.
pub(super) const REPLICAS: RangeInclusive<u16> = 1..=100;

/// From the least that Docker Engine accepts to more than any host has.
pub(super) const MEMORY: RangeInclusive<Bytes> = Bytes(6 << 20)..=Bytes(64 << 40);
/// From one page of memory to more than any host has.
pub(super) const TMPFS: RangeInclusive<Bytes> = Bytes(4 << 10)..=Bytes(64 << 40);
/// From a few lines to what nobody reads any more.
pub(super) const LOG_SIZE: RangeInclusive<Bytes> = Bytes(4 << 10)..=Bytes(64 << 30);
/// How many files of it.
pub(super) const LOG_FILES: RangeInclusive<u16> = 1..=100;
/// From the least that Docker Engine accepts to more than any host has.
pub(super) const CPUS: RangeInclusive<MilliCpus> = MilliCpus(10)..=MilliCpus(4_096_000);
/// Linux numbers no more processes than 2^22.
pub(super) const PIDS: RangeInclusive<u32> = 1..=4_194_304;
/// What TOML can write; more is `unlimited`.
pub(super) const ULIMIT: RangeInclusive<u64> = 0..=i64::MAX as u64;
