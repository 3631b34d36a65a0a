//! The end of targets: no new requests, and what is open ends or is ended.
//!
//! ```text
//!  Drain: set draining ─▶ wait for the open counts ─▶ close our idle connections ─▶ answer
//! ```

use std::sync::Arc;
use std::time::Duration;

use cutover_wire::proxy::{Cut, Drained, Refusal};
use tokio::time::{Instant, timeout_at};

use super::{Authority, Switchboard};
use crate::clock::millis;
use crate::takeover::UNKNOWN;
use crate::target::Target;

/// The longest drain: a day, after which the agent may ask again.
const MAX_DRAIN: Duration = Duration::from_secs(24 * 3600);

/// What is asked of a drain.
#[derive(Debug)]
pub(crate) struct Drain {
    /// The app.
    pub(crate) app: String,
    /// The names of its targets.
    pub(crate) targets: Vec<String>,
    /// How long to wait.
    pub(crate) deadline: Duration,
    /// When long answers are ended.
    pub(crate) cut: Option<Cut>,
    /// Whether the instance that took over asks, which knows what is served.
    pub(crate) of_successor: bool,
}

impl Switchboard {
    /// Gives these targets no new request and waits for the open ones, those that
    /// instances before this one still carry among them. A table that comes
    /// meanwhile and gives one of them requests again ends that.
    pub(crate) async fn drain(&self, mut drain: Drain) -> Result<Drained, Refusal> {
        drain.deadline = drain.deadline.min(MAX_DRAIN);
        let (targets, before) = self.set_draining(&drain).await?;
        let (followers, deadline, cut) = (self.followers.clone(), drain.deadline, drain.cut);
        let there = tokio::spawn(async move {
            let Drain { app, targets, .. } = drain;
            followers.drain(&app, &targets, deadline, cut).await
        });
        let here = self.emptied(&targets, before, deadline).await;
        if here.is_err() {
            there.abort();
        }
        Ok(here?.plus(there.await.unwrap_or(UNKNOWN)))
    }

    /// Behind a table that is being applied, which may give them requests; and not
    /// while another instance takes over, which was told what is open.
    async fn set_draining(
        &self,
        drain: &Drain,
    ) -> Result<(Vec<Arc<Target>>, Vec<(u64, u64)>), Refusal> {
        let _turn = self.turn.lock().await;
        match *self.authority() {
            Authority::Ours => {}
            Authority::Given if drain.of_successor => {}
            Authority::Lent | Authority::Given => return Err(Refusal::HandingOver),
        }
        let now = self.tally.uptime_ms();
        let from = |after: Option<u64>| after.map(|after| now.saturating_add(after));
        let targets = self.state().named(&drain.app, &drain.targets);
        let before: Vec<(u64, u64)> = targets.iter().map(ended).collect();
        for target in &targets {
            target.set_draining(true);
            if let Some(cut) = drain.cut {
                let (streams, tunnels) = (from(cut.streams_ms), from(cut.tunnels_ms));
                target.cutting().begin(streams, tunnels, cut.spread_ms);
            }
        }
        Ok((targets, before))
    }

    async fn emptied(
        &self,
        targets: &[Arc<Target>],
        before: Vec<(u64, u64)>,
        deadline: Duration,
    ) -> Result<Drained, Refusal> {
        let deadline = Instant::now() + deadline;
        for target in targets {
            let _ = timeout_at(deadline, target.drained()).await;
        }
        // We close first, so that no target sees a connection of ours in use
        // when it is told to stop.
        let numbers: Vec<u64> = targets.iter().map(|target| target.number()).collect();
        if self.fence(&numbers).await.is_err() {
            tracing::error!("a worker did not close its idle connections to a drained target");
        }
        if targets.iter().any(|target| !target.is_draining()) {
            return Err(Refusal::Overtaken);
        }
        let drained = targets
            .iter()
            .zip(before)
            .map(|(target, (streams, tunnels))| {
                let (streams_now, tunnels_now) = ended(target);
                Drained {
                    streams_cut: streams_now.saturating_sub(streams),
                    tunnels_cut: tunnels_now.saturating_sub(tunnels),
                    ..target.open()
                }
            });
        Ok(drained.fold(Drained::default(), Drained::plus))
    }

    /// The process ends: streams and tunnels of all targets are ended, over `spread`,
    /// and who is held for an app is told to come again.
    pub(crate) fn part(&self, spread: Duration) {
        let now = Some(self.tally.uptime_ms());
        let mut state = self.state();
        for target in state.targets() {
            target.cutting().begin(now, now, millis(spread));
        }
        state.close_lots();
    }
}

/// The streams and tunnels of a target that were ended so far.
fn ended(target: &Arc<Target>) -> (u64, u64) {
    target.cutting().count()
}
