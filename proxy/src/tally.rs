//! What is counted of the process as a whole, in one lane for each worker and
//! one for the thread that accepts.
//!
//! It counts connections and what happens to requests that come to no pool; a
//! pool's own counts are in `counters`. As there, counting is a load and a
//! store, and a reader may be a moment late.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use cutover_wire::statistics::ProxyStatistics;

use crate::clock::millis;
use crate::counters::add;

/// One thing that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A client connection was taken.
    Opened,
    /// A client connection that was taken has ended.
    Closed,
    /// A client connection was closed at once: its address has too many.
    OverCap,
    /// A client connection did not come to speak TLS.
    HandshakeFailed,
    /// A request is for no app.
    Unrouted,
    /// No target of its app could take a request.
    Unserved,
    /// A request is sent once more.
    Retried,
}

/// How many events there are.
const EVENTS: usize = 7;

/// Why a request was refused for its form, before it was known whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The head is no head of a request.
    Head,
    /// The head is too large.
    HeadSize,
    /// The head, or the body, came too slowly.
    Slow,
    /// No host, more than one, or one that is no host.
    Host,
    /// A length that is repeated, is no number, or stands beside an encoding.
    Length,
    /// A transfer encoding other than chunks.
    Encoding,
    /// A line that ends or breaks otherwise than it must.
    Line,
    /// A field that is not to be passed on, or is named as one that is not.
    Field,
    /// What is asked for is no path of ours.
    Target,
    /// The body is longer than allowed.
    BodySize,
    /// Something that HTTP/2 forbids, or too much of what it allows.
    Http2,
    /// The line of a proxy before us is none.
    ProxyLine,
}

impl Form {
    /// Every kind, in the order in which they are declared.
    pub(crate) const ALL: [Self; 12] = [
        Self::Head,
        Self::HeadSize,
        Self::Slow,
        Self::Host,
        Self::Length,
        Self::Encoding,
        Self::Line,
        Self::Field,
        Self::Target,
        Self::BodySize,
        Self::Http2,
        Self::ProxyLine,
    ];

    /// The kind as it is told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::HeadSize => "head_size",
            Self::Slow => "slow",
            Self::Host => "host",
            Self::Length => "length",
            Self::Encoding => "encoding",
            Self::Line => "line",
            Self::Field => "field",
            Self::Target => "target",
            Self::BodySize => "body_size",
            Self::Http2 => "http2",
            Self::ProxyLine => "proxy_line",
        }
    }
}

/// The counts of one thread, alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    events: [AtomicU64; EVENTS],
    forms: [AtomicU64; Form::ALL.len()],
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tally {
    began: Instant,
    lanes: Box<[Lane]>,
    /// Counted by whoever finds the log full, which no lane is for; it happens
    /// only while the disk is too slow.
    lines_dropped: AtomicU64,
}

impl Tally {
    /// A tally at zero for so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            began: Instant::now(),
            lanes: (0..=workers).map(|_| Lane::default()).collect(),
            lines_dropped: AtomicU64::new(0),
        }
    }

    /// When the process began, by which all workers count their time.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// The time of the workers' clocks.
    pub(crate) fn uptime_ms(&self) -> u64 {
        millis(self.began.elapsed())
    }

    /// The lane of the thread that accepts, after those of the workers.
    pub(crate) fn accepting_lane(&self) -> usize {
        self.lanes.len() - 1
    }

    /// Counts an event; only the thread whose lane it is may.
    pub(crate) fn count(&self, lane: usize, event: Event) {
        add(&self.lanes[lane].events[event as usize], 1);
    }

    /// Counts a request that was refused for its form.
    pub(crate) fn refused(&self, lane: usize, form: Form) {
        add(&self.lanes[lane].forms[form as usize], 1);
    }

    /// Lines of the access log were lost. Any thread may say so.
    pub(crate) fn lines_dropped(&self, count: u64) {
        self.lines_dropped.fetch_add(count, Relaxed);
    }

    /// All lanes together; what others count is left at zero.
    pub(crate) fn read(&self) -> ProxyStatistics {
        let sum = |event: Event| {
            let counts = self.lanes.iter();
            counts.fold(0, |sum: u64, lane| {
                sum + lane.events[event as usize].load(Relaxed)
            })
        };
        // Read first, so that one that ends in between is still counted as open.
        let closed = sum(Event::Closed);
        let opened = sum(Event::Opened);
        let mut told = ProxyStatistics {
            uptime_ms: self.uptime_ms(),
            connections_open: opened.saturating_sub(closed),
            connections_accepted: opened,
            connections_refused: sum(Event::OverCap),
            handshakes_failed: sum(Event::HandshakeFailed),
            unrouted: sum(Event::Unrouted),
            unserved: sum(Event::Unserved),
            retries: sum(Event::Retried),
            log_lines_dropped: self.lines_dropped.load(Relaxed),
            ..ProxyStatistics::default()
        };
        for form in Form::ALL {
            let counts = self.lanes.iter();
            let count = counts
                .map(|lane| lane.forms[form as usize].load(Relaxed))
                .sum();
            told.refused.insert(form.name().to_owned(), count);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_its_place_and_its_name() {
        let names: std::collections::BTreeSet<_> = Form::ALL.map(Form::name).into();
        assert_eq!(names.len(), Form::ALL.len());
        for (place, form) in Form::ALL.into_iter().enumerate() {
            assert_eq!(form as usize, place);
        }
    }

    #[test]
    fn lanes_are_added_up_and_a_connection_that_ended_is_not_open() {
        let tally = Tally::new(2);
        for lane in [0, 1, tally.accepting_lane()] {
            tally.count(lane, Event::Opened);
            tally.count(lane, Event::Retried);
            tally.refused(lane, Form::ProxyLine);
        }
        tally.count(1, Event::Closed);
        tally.lines_dropped(5);
        let told = tally.read();
        assert_eq!((told.connections_open, told.connections_accepted), (2, 3));
        assert_eq!((told.retries, told.log_lines_dropped), (3, 5));
        assert_eq!((told.refused["proxy_line"], told.refused["host"]), (3, 0));
    }
}
