//! A line of JSON for each request that is drawn, written by a thread of its own.
//!
//! ```text
//!  worker ─▶ drawn? ─▶ record ─▶ queue, full: dropped and counted ─▶ writer ─▶ file
//!                                                                      ▲
//!                                        SIGHUP: opened anew ──────────┘
//! ```
//!
//! Invariant: it never costs a user anything but the making of the record. A worker
//! does not wait, takes no lock and wakes nobody: the writer looks by itself. A
//! disk that is full, slow or gone costs lines, which are counted, and is told
//! once a minute. That goes for the beginning, too: a proxy whose log cannot be opened
//! serves, and the log is tried on.
//!
//! The draw is made when a request begins and does not know how it will end, so a
//! share below one leaves out good and bad alike: a client that sends rubbish cannot
//! fill the disk that the operator has meant to spare. What went wrong is counted
//! in full in the statistics. Only what the proxy itself answers with a status of 500
//! or above is always written, because that is the operator's own trouble.

mod draft;
mod record;
mod share;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use draft::Draft;
pub(crate) use record::{Ending, Record};
pub use share::{NoShare, Share};

use crate::tally::Tally;

/// Records that may wait for the writer: those of a hundred thousand requests a
/// second for as long as a disk may be busy, a sixth of a second; some 8 MB.
const QUEUE: usize = 16_384;

/// How often the writer looks when nothing waits: often enough that the queue
/// never fills while the disk is quick.
const PAUSE: Duration = Duration::from_millis(50);

/// Bytes that are written at once. One write to a file that is appended to is
/// whole, so two processes may share a file.
const BATCH: usize = 64 * 1024;

/// How often trouble is told, and a file that could not be opened is tried again.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// How long the end of the process waits for the last lines.
const FINISH: Duration = Duration::from_secs(1);

/// Who may read the file besides its owner: the group, which log collectors are in.
const MODE: u32 = 0o640;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The standard output, which is used for nothing else.
    Output,
    /// A file, which is appended to.
    File(PathBuf),
}

impl Place {
    /// A path, or `-` for the standard output.
    pub(crate) fn of(path: &Path) -> Self {
        if path == Path::new("-") {
            Self::Output
        } else {
            Self::File(path.to_owned())
        }
    }
}

/// The workers' end of the log; a clone is as good.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog(Option<Arc<Open>>);

#[derive(Debug)]
struct Open {
    share: Share,
    records: SyncSender<Record>,
    signals: Arc<Signals>,
    /// Closed when the writer has ended.
    ended: std::sync::Mutex<Receiver<()>>,
    tally: Arc<Tally>,
}

/// What the writer is told beside records.
#[derive(Debug, Default)]
struct Signals {
    reopen: AtomicBool,
    finish: AtomicBool,
}

impl AccessLog {
    /// A log that writes nothing.
    pub(crate) fn off() -> Self {
        Self(None)
    }

    /// Starts a log. Only a thread that cannot be had is an error.
    pub(crate) fn start(place: Place, share: Share, tally: Arc<Tally>) -> io::Result<Self> {
        let (records, queue) = mpsc::sync_channel(QUEUE);
        let signals = Arc::new(Signals::default());
        let (alive, ended) = mpsc::sync_channel(0);
        let writer = Writer {
            queue,
            signals: Arc::clone(&signals),
            tally: Arc::clone(&tally),
            sink: None,
            place,
            torn: false,
            lost: 0,
            told: None,
        };
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                writer.run();
                drop(alive);
            })?;
        Ok(Self(Some(Arc::new(Open {
            share,
            records,
            signals,
            ended: std::sync::Mutex::new(ended),
            tally,
        }))))
    }

    /// Whether there is a log at all.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a request that begins with this random number is to be told of.
    /// One that the proxy itself answers with 500 or above is in any case, when
    /// [`AccessLog::is_on`].
    pub(crate) fn sampled(&self, random: u64) -> bool {
        self.0.as_ref().is_some_and(|open| open.share.draws(random))
    }

    /// Hands a record to the writer, or drops and counts it where none can wait.
    pub(crate) fn write(&self, record: Record) {
        if let Some(open) = &self.0
            && open.records.try_send(record).is_err()
        {
            open.tally.lines_dropped(1);
        }
    }

    /// Has the file opened anew, as whoever moved it away asks for.
    pub(crate) fn reopen(&self) {
        if let Some(open) = &self.0 {
            open.signals.reopen.store(true, Relaxed);
        }
    }

    /// Waits a moment until what was handed over is written; nothing is after that.
    pub(crate) fn finish(&self) {
        if let Some(open) = &self.0 {
            open.signals.finish.store(true, Relaxed);
            if let Ok(ended) = open.ended.lock() {
                let _ = ended.recv_timeout(FINISH);
            }
        }
    }
}

/// The other end: it alone touches the file.
struct Writer {
    queue: Receiver<Record>,
    signals: Arc<Signals>,
    tally: Arc<Tally>,
    place: Place,
    sink: Option<Box<dyn Write + Send>>,
    /// Whether a line may have been cut, so that the next begins anew.
    torn: bool,
    /// Lines that were lost since trouble was told.
    lost: u64,
    /// When trouble was told last.
    told: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        self.open();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            // Asked before the queue is looked at, so that what came before is written.
            let last = self.signals.finish.load(Relaxed);
            if self.signals.reopen.swap(false, Relaxed) {
                self.open();
            }
            let gone = self.empty(&mut batch);
            self.tell_late();
            if last || gone {
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    /// Writes all that waits; tells whether no more can come.
    fn empty(&mut self, batch: &mut Vec<u8>) -> bool {
        let mut lines = 0;
        let gone = loop {
            match self.queue.try_recv() {
                Ok(record) => {
                    record.write(batch);
                    lines += 1;
                    if batch.len() >= BATCH {
                        self.flush(batch, &mut lines);
                    }
                }
                Err(TryRecvError::Empty) => break false,
                Err(TryRecvError::Disconnected) => break true,
            }
        };
        self.flush(batch, &mut lines);
        gone
    }

    fn flush(&mut self, batch: &mut Vec<u8>, lines: &mut u64) {
        if batch.is_empty() {
            return;
        }
        let due = self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY);
        if self.sink.is_none() && due {
            self.open();
        }
        let written = match &mut self.sink {
            Some(sink) => {
                let begin: &[u8] = if self.torn { b"\n" } else { b"" };
                let bytes = [begin, batch].concat();
                sink.write_all(&bytes).and_then(|()| sink.flush())
            }
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        match written {
            Ok(()) => self.torn = false,
            Err(error) => {
                self.torn = self.sink.is_some();
                self.lost += *lines;
                self.tally.lines_dropped(*lines);
                self.trouble(&error);
            }
        }
        batch.clear();
        *lines = 0;
    }

    /// Opens the place; what was open before stays where that fails.
    fn open(&mut self) {
        let opened: io::Result<Box<dyn Write + Send>> = match &self.place {
            Place::Output => Ok(Box::new(io::stdout())),
            Place::File(path) => {
                open_file(path).map(|file| Box::new(file) as Box<dyn Write + Send>)
            }
        };
        match opened {
            Ok(sink) => {
                self.sink = Some(sink);
                self.torn = false;
            }
            Err(error) => {
                // Told at once: somebody waits for the new file.
                self.told = None;
                self.trouble(&error);
            }
        }
    }

    fn trouble(&mut self, error: &io::Error) {
        let due = self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY);
        if due {
            self.told = Some(Instant::now());
            let (place, lost) = (&self.place, std::mem::take(&mut self.lost));
            tracing::error!(?place, %error, lost, "the access log cannot be written");
        }
    }

    /// Says how many lines were lost since trouble was told, when there is no more.
    fn tell_late(&mut self) {
        if self.told.is_some_and(|told| told.elapsed() >= TOLD_EVERY) {
            self.told = None;
            if self.lost > 0 {
                let (place, lost) = (&self.place, std::mem::take(&mut self.lost));
                tracing::warn!(?place, lost, "lines of the access log were lost");
            }
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(MODE).open(path)
}

#[cfg(test)]
mod tests {
    use super::record::tests::record;
    use super::*;
    use std::fs;

    /// No wait of a test is longer.
    const DEADLINE: Duration = Duration::from_secs(20);

    fn start(path: &Path) -> (AccessLog, Arc<Tally>) {
        let tally = Arc::new(Tally::new(1));
        let log = AccessLog::start(Place::of(path), Share::ALL, Arc::clone(&tally)).unwrap();
        (log, tally)
    }

    /// The ids of the requests in a file.
    fn ids(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.is_empty());
        let id = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["request_id"].as_str().unwrap().to_owned()
        };
        lines.map(id).collect()
    }

    fn named(id: u64) -> Record {
        Record {
            request_id: id.to_string(),
            ..record()
        }
    }

    fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !condition() {
            assert!(Instant::now() < end, "never came true: {what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_log_that_is_off_takes_nothing() {
        let log = AccessLog::off();
        assert!(!log.is_on() && !log.sampled(0) && !log.sampled(u64::MAX));
        log.write(record());
        log.reopen();
        log.finish();
    }

    #[test]
    fn all_that_was_handed_over_is_in_the_file_when_it_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "").unwrap();
        let (log, tally) = start(&path);
        let workers = 0..4_u64;
        thread::scope(|scope| {
            for worker in workers {
                let log = log.clone();
                scope.spawn(move || (0..1_000).for_each(|n| log.write(named(worker * 1_000 + n))));
            }
        });
        log.finish();
        let mut told: Vec<u64> = ids(&path).iter().map(|id| id.parse().unwrap()).collect();
        told.sort_unstable();
        assert_eq!(told, (0..4_000).collect::<Vec<_>>());
        assert_eq!(tally.read().log_lines_dropped, 0);
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew_on_a_signal() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let (log, _) = start(&path);
        log.write(named(1));
        until("the first line", || ids(&path) == ["1"]);
        fs::rename(&path, &moved).unwrap();
        log.write(named(2));
        until("the second line, in the old file", || {
            ids(&moved) == ["1", "2"]
        });
        log.reopen();
        until("the new file", || path.exists());
        log.write(named(3));
        log.finish();
        assert_eq!((ids(&moved).len(), ids(&path)), (2, vec!["3".to_owned()]));
    }

    #[test]
    fn a_writer_that_hangs_costs_lines_and_no_worker_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        // Nobody reads it, so opening it does not end.
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let (log, tally) = start(&path);
        let begun = Instant::now();
        for id in 0..QUEUE as u64 + 100 {
            log.write(named(id));
        }
        assert_eq!(tally.read().log_lines_dropped, 100);
        assert!(begun.elapsed() < DEADLINE);
        // And what waited is there when somebody reads.
        let reader = thread::spawn({
            let path = path.clone();
            move || ids(&path).len()
        });
        until("the queue has places again", || {
            let before = tally.read().log_lines_dropped;
            log.write(named(0));
            tally.read().log_lines_dropped == before
        });
        log.finish();
        drop(log);
        assert!(reader.join().unwrap() > QUEUE);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_the_file_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing").join("log");
        let (log, tally) = start(&path);
        log.write(named(1));
        until("the line is counted", || {
            tally.read().log_lines_dropped == 1
        });
        fs::create_dir(directory.path().join("missing")).unwrap();
        log.reopen();
        until("the file is there", || path.exists());
        log.write(named(2));
        log.finish();
        assert_eq!(ids(&path), ["2"]);
    }

    #[test]
    fn a_full_disk_costs_lines_only() {
        let (log, tally) = start(Path::new("/dev/full"));
        for id in 0..10 {
            log.write(named(id));
        }
        log.finish();
        assert_eq!(tally.read().log_lines_dropped, 10);
    }

    #[test]
    fn others_may_not_read_the_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let (log, _) = start(&path);
        until("the file is there", || path.exists());
        log.finish();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0);
    }
}
