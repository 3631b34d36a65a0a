//! The account of one request: where it is bound, and that it ends exactly once.
//!
//! It sends nothing. Dropping a ticket that was not settled counts the request
//! as abandoned: whatever else can happen settles it before.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;

use crate::access_log::{Draft, Ending};
use crate::counters::Outcome;
use crate::route::Pool;
use crate::target::{Hold, Kind};

/// See the module.
#[derive(Debug)]
pub(crate) struct Ticket {
    pool: Arc<Pool>,
    hold: Hold,
    worker: usize,
    kind: Kind,
    begun: Instant,
    settled: bool,
    /// What its line in the log will say.
    draft: Option<Box<Draft>>,
}

impl Ticket {
    /// Binds a request whose head was complete at `begun`.
    pub(crate) fn new(
        pool: Arc<Pool>,
        hold: Hold,
        worker: usize,
        begun: Instant,
        draft: Option<Box<Draft>>,
    ) -> Self {
        pool.counters.entered(worker, Kind::Request);
        Self {
            pool,
            hold,
            worker,
            kind: Kind::Request,
            begun,
            settled: false,
            draft,
        }
    }

    /// What its line in the log will say.
    pub(crate) fn draft(&mut self) -> Option<&mut Draft> {
        self.draft.as_deref_mut()
    }

    /// Bytes of the request's body came.
    pub(crate) fn received(&mut self, bytes: u64) {
        if let Some(draft) = self.draft() {
            draft.record().bytes_in += bytes;
        }
    }

    /// Bytes of the answer's body were handed to the client.
    pub(crate) fn passed(&mut self, bytes: usize) {
        if let Some(draft) = self.draft() {
            draft.record().bytes_out += bytes as u64;
        }
    }

    /// The pool it is bound to.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The pool it is bound to, to be kept.
    pub(crate) fn shared_pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The target it is bound to.
    pub(crate) fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Counts the request out of its target, until it is bound anew: a drain must
    /// not wait for what waits for another target.
    pub(crate) fn unbind(&mut self) {
        if self.hold.is_inside() {
            self.pool.counters.left(self.worker, self.kind);
        }
        self.hold.leave();
    }

    /// Binds the request anew, for another try.
    pub(crate) fn rebind(&mut self, pool: Arc<Pool>, hold: Hold) {
        self.retried();
        if !(self.hold.is_inside() && Arc::ptr_eq(&self.pool, &pool)) {
            self.unbind();
            pool.counters.entered(self.worker, self.kind);
            self.pool = pool;
        }
        self.hold = hold;
    }

    /// The request is sent once more to the same target.
    pub(crate) fn retried(&mut self) {
        self.pool.counters.retried(self.worker);
        if let Some(draft) = self.draft() {
            draft.record().retries += 1;
        }
    }

    /// The head of the answer came; tells when, to spare a second look at the clock.
    pub(crate) fn answered(&mut self, status: StatusCode) -> Instant {
        let now = Instant::now();
        if let Some(draft) = self.draft() {
            draft.answered(status, now);
        }
        if !self.settled {
            let micros = now.duration_since(self.begun).as_micros();
            let micros = u64::try_from(micros).unwrap_or(u64::MAX);
            self.pool.counters.answered(self.worker, micros);
        }
        now
    }

    /// The request turned out to be a stream or a tunnel.
    pub(crate) fn become_kind(&mut self, kind: Kind) {
        self.hold.become_kind(kind);
        self.pool.counters.entered(self.worker, kind);
        self.pool.counters.left(self.worker, self.kind);
        self.kind = kind;
    }

    /// The request is a probe of the front door or a tester's of a preview: it is
    /// waited for like any other, but how it went is not counted among the users'
    /// requests, by which releases are judged.
    pub(crate) fn leave_uncounted(&mut self) {
        self.settled = true;
    }

    /// The request ended; only the first end counts.
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if let Some(mut draft) = self.draft.take() {
            let name = self.pool.name.as_ref();
            let record = draft.record();
            record.pool = name.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
            record.target = Some(self.hold.target().address().to_string());
            draft.end(Ending::Of(outcome));
        }
        if !self.settled {
            self.settled = true;
            self.pool.counters.ended(self.worker, outcome);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.settle(Outcome::Abandoned);
        self.unbind();
    }
}
