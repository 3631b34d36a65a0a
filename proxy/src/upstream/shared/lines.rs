//! Which connection to a target a request takes a place on.
//!
//! To a target that is trusted, requests share few connections, and who finds no
//! place waits for the one that is being made rather than make another. Until then,
//! and again after it closed one without a word, each request has a connection alone,
//! as with HTTP/1.1: what happens on one then costs one request. What must not be
//! lost takes a used one only when the last answer is so long ago that its end
//! would be known.
//!
//! Invariant: nobody comes to a line that is held alone while another could be made.

use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::client::conn::http2::SendRequest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::Notify;

use super::super::Care;
use super::super::patience::{KEPT_MIN, Patience};
use super::Shared;
use super::trust::{End, Trust, is_sudden};
use crate::upload::RequestBody;

/// Requests on one connection at once: beyond it they would wait for each other
/// in one stream of bytes. It is also the least that a target should allow (RFC
/// 9113, section 6.5.2); what is over its own bound waits in the library.
pub(super) const MAX_STREAMS: usize = 100;

/// Connections of one worker to one target at most.
const MAX_LINES: usize = 64;

/// How long a connection without a request is kept.
const IDLE: Duration = Duration::from_secs(60);

/// How long one is kept to be learned from while others are wanted: twice the time
/// that makes one of half its age safe, and as much again for a busy host.
const TRIAL: Duration = KEPT_MIN.saturating_mul(4);

const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// What is noted of a connection, by those who have a place on it.
#[derive(Debug)]
pub(crate) struct Shelf {
    open: Cell<usize>,
    carried: Cell<u32>,
    answered: Cell<u32>,
    idle_since: Cell<Instant>,
    /// The one who has it wants nobody beside it.
    alone: Cell<bool>,
    /// The target has said, or shown, that it takes no more here.
    left: Cell<bool>,
    /// Its end is no news.
    expected: Cell<bool>,
    /// When it was looked at, and how many had been answered then.
    seen: Cell<(Instant, u32)>,
}

impl Shelf {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            open: Cell::new(0),
            carried: Cell::new(0),
            answered: Cell::new(0),
            idle_since: Cell::new(now),
            alone: Cell::new(false),
            left: Cell::new(false),
            expected: Cell::new(false),
            seen: Cell::new((now, 0)),
        }
    }

    /// Nobody comes here any more; what is open goes on.
    pub(super) fn leave(&self) {
        self.left.set(true);
    }

    /// Whether more than one request has had a place.
    pub(super) fn has_carried_others(&self) -> bool {
        self.carried.get() > 1
    }

    /// A request has ended.
    pub(super) fn give_back(&self, now: Instant) {
        self.open.set(self.open.get().saturating_sub(1));
        self.answered.set(self.answered.get().saturating_add(1));
        self.idle_since.set(now);
        if self.is_idle() {
            self.alone.set(false);
        }
    }

    fn is_idle(&self) -> bool {
        self.open.get() == 0
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.idle_since.get())
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) target: SocketAddr,
    pub(super) sender: SendRequest<RequestBody>,
    /// The same socket, to be looked at.
    pub(super) socket: OwnedFd,
    pub(super) shelf: Rc<Shelf>,
}

/// Whether a request has others beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    Alone,
    Others,
}

/// What is to be done for a place.
#[derive(Debug)]
pub(crate) enum Seat {
    /// Here it is.
    Taken(Shared),
    /// Somebody makes a connection; look again when it is there, or is not.
    Wait(Rc<Notify>),
    /// Make one.
    Make(Company),
}

/// The connections of one worker to one target.
#[derive(Debug)]
pub(crate) struct Lines {
    lines: Vec<Line>,
    /// How many are being made.
    making: usize,
    made: Rc<Notify>,
    trust: Trust,
    patience: Patience,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            making: 0,
            made: Rc::default(),
            trust: Trust::default(),
            patience: Patience::new(IDLE),
        }
    }
}

impl Line {
    fn take(&self, company: Company) -> Shared {
        let shelf = Rc::clone(&self.shelf);
        shelf.open.set(shelf.open.get() + 1);
        shelf.carried.set(shelf.carried.get().saturating_add(1));
        shelf.alone.set(company == Company::Alone);
        Shared {
            target: self.target,
            sender: self.sender.clone(),
            shelf,
        }
    }

    fn is_open(&self) -> bool {
        // What is open on a line that was left goes on.
        !self.sender.is_closed() && !self.shelf.left.get()
    }

    /// Asks the kernel whether the target has closed it: the task that moves the
    /// bytes may not have come to it yet.
    fn is_closed_by_target(&self) -> bool {
        let mut asked = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let told = poll(&mut asked, Some(&AT_ONCE));
        told != Ok(0)
    }
}

impl Lines {
    /// A place, or how to come by one.
    pub(crate) fn seat(&mut self, care: Care, now: Instant) -> Seat {
        self.lines.retain(Line::is_open);
        if care != Care::Again && !self.trust.is_whole() {
            self.look(now);
        }
        let found = match care {
            Care::Again => None,
            _ if self.trust.is_whole() => self.shared(care, now),
            Care::Repeatable if !self.trust.is_wary() => self.unused(|_, _| true, now),
            Care::Repeatable | Care::Once => self.unused(Self::has_rested, now),
        };
        let company = match care {
            Care::Repeatable | Care::Once if self.trust.is_whole() => Company::Others,
            _ => Company::Alone,
        };
        if let Some(line) = found.and_then(|found| self.lines.get(found)) {
            return Seat::Taken(line.take(company));
        }
        if company == Company::Others && self.making > 0 {
            return Seat::Wait(Rc::clone(&self.made));
        }
        self.make(company)
    }

    /// A line that can be shared. One without a request is used only as long as
    /// the target keeps it, for what must not be lost.
    fn shared(&self, care: Care, now: Instant) -> Option<usize> {
        let is_full = self.lines.len() >= MAX_LINES;
        self.lines.iter().position(|line| {
            let shelf = &line.shelf;
            let has_room = !shelf.alone.get() && (shelf.open.get() < MAX_STREAMS || is_full);
            let is_in_use = care == Care::Repeatable || !shelf.is_idle();
            has_room && (is_in_use || self.is_kept(line, now))
        })
    }

    fn is_kept(&self, line: &Line, now: Instant) -> bool {
        self.patience.is_safe(line.shelf.age(now)) && !line.is_closed_by_target()
    }

    /// The line without a request that has had the most of them, so that one
    /// soon shows what the target does.
    fn unused(&self, is_fit: impl Fn(&Self, Duration) -> bool, now: Instant) -> Option<usize> {
        loop {
            let lines = self.lines.iter().enumerate();
            let unused = lines.filter(|(_, line)| {
                let shelf = &line.shelf;
                shelf.is_idle() && !shelf.left.get() && is_fit(self, shelf.age(now))
            });
            let most = unused.max_by_key(|(_, line)| line.shelf.answered.get());
            let (number, line) = most?;
            if !line.is_closed_by_target() {
                return Some(number);
            }
            line.shelf.leave();
        }
    }

    /// Whether an end that came with the last answer would be known, and another
    /// one will not come just now.
    fn has_rested(&self, age: Duration) -> bool {
        !is_sudden(age) && self.patience.is_safe(age)
    }

    /// Whatever is to be done where no line will do.
    fn make(&mut self, company: Company) -> Seat {
        if self.lines.len() + self.making < MAX_LINES || self.drop_one() {
            self.making += 1;
            return Seat::Make(company);
        }
        let used = self.lines.iter().filter(|line| !line.shelf.is_idle());
        match used.min_by_key(|line| line.shelf.open.get()) {
            Some(line) => Seat::Taken(line.take(Company::Others)),
            None => Seat::Wait(Rc::clone(&self.made)),
        }
    }

    /// Drops a line without a request that has had few of them, if there is one. The
    /// one with the most stays for a while: in a crowd nothing would be learned
    /// if each were dropped before it has rested.
    fn drop_one(&mut self) -> bool {
        let now = Instant::now();
        let answered = |line: &Line| line.shelf.answered.get();
        let known = self.lines.iter().map(answered).max();
        let on_trial = self.lines.iter().position(|line| {
            Some(answered(line)) == known && line.shelf.age(now) < TRIAL && line.shelf.is_idle()
        });
        let lines = self.lines.iter().enumerate();
        let idle = lines.filter(|(number, line)| line.shelf.is_idle() && Some(*number) != on_trial);
        let least = idle.min_by_key(|(_, line)| (answered(line), line.shelf.age(now)));
        let least = least.map(|(number, _)| number);
        least.map(|number| self.lines.remove(number)).is_some()
    }

    /// What was being made is there.
    pub(super) fn made(&mut self, line: Line, company: Company) -> Shared {
        let seat = line.take(company);
        self.lines.push(line);
        seat
    }

    /// A making has ended.
    pub(crate) fn settle(&mut self) {
        self.making = self.making.saturating_sub(1);
        self.made.notify_waiters();
    }

    /// Learns from the lines that stand.
    fn look(&mut self, now: Instant) {
        for line in &self.lines {
            let shelf = &line.shelf;
            let (then, answered) = shelf.seen.get();
            if now.saturating_duration_since(then) < KEPT_MIN || line.is_closed_by_target() {
                continue;
            }
            shelf.seen.set((now, shelf.answered.get()));
            if shelf.is_idle() {
                self.patience.survived(shelf.age(now));
            }
            self.trust.stood(answered);
            if self.trust.is_whole() {
                self.patience.survived(KEPT_MIN);
            }
        }
    }

    /// A line has ended.
    pub(crate) fn ended(&mut self, shelf: &Rc<Shelf>, end: End, now: Instant) {
        self.lines.retain(|line| !Rc::ptr_eq(&line.shelf, shelf));
        if end == End::Told || shelf.expected.get() {
            return;
        }
        let age = shelf.age(now);
        if shelf.is_idle() && !is_sudden(age) {
            return self.patience.ended(age);
        }
        self.trust.lost();
        // What was true of one is likely true of the others.
        for line in self.lines.drain(..) {
            line.shelf.expected.set(true);
        }
    }

    /// Closes what is idle for too long; tells whether anything is left.
    pub(in crate::upstream) fn sweep(&mut self, now: Instant) -> bool {
        self.look(now);
        let bound = self.patience.bound();
        self.lines.retain(|line| {
            let is_used = !line.shelf.is_idle() || line.shelf.age(now) <= bound;
            !line.sender.is_closed() && is_used
        });
        let is_blank = self.trust.is_blank() && self.patience.is_blank();
        !self.lines.is_empty() || self.making > 0 || !is_blank
    }
}
