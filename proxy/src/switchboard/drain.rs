//! The end of targets: no new requests, and what is open ends or is ended.
//!
//! ```text
//!  Drain: set draining ─▶ wait for the open counts ─▶ close our idle connections ─▶ answer
//! ```

use std::sync::Arc;
use std::time::Duration;

use cutover_wire::proxy::{Cut, Drained, Refusal};
use tokio::time::{Instant, timeout_at};

use super::Switchboard;
use crate::clock::millis;
use crate::takeover::UNKNOWN;
use crate::target::Target;

/// The longest drain: a day, after which the agent may ask again.
const MAX_DRAIN: Duration = Duration::from_secs(24 * 3600);

impl Switchboard {
    /// Gives these targets no new request and waits for the open ones, those that
    /// instances before this one still carry among them. A table that comes
    /// meanwhile and gives one of them requests again ends that.
    pub(crate) async fn drain(
        &self,
        app: &str,
        ids: &[String],
        deadline: Duration,
        cut: Option<Cut>,
    ) -> Result<Drained, Refusal> {
        let deadline = deadline.min(MAX_DRAIN);
        let before = self.followers.clone();
        let (app_there, ids_there) = (app.to_owned(), ids.to_vec());
        let there =
            tokio::spawn(async move { before.drain(&app_there, &ids_there, deadline, cut).await });
        let here = self.drain_here(app, ids, deadline, cut).await;
        if here.is_err() {
            there.abort();
        }
        let here = here?;
        Ok(here.plus(there.await.unwrap_or(UNKNOWN)))
    }

    async fn drain_here(
        &self,
        app: &str,
        ids: &[String],
        deadline: Duration,
        cut: Option<Cut>,
    ) -> Result<Drained, Refusal> {
        let deadline = Instant::now() + deadline;
        let now = self.tally.uptime_ms();
        let from = |after: Option<u64>| after.map(|after| now.saturating_add(after));
        let ended = |target: &Arc<Target>| target.cutting().count();
        let (targets, before) = {
            // Behind a table that is being applied, which may give them requests.
            let _turn = self.turn.lock().await;
            let targets = self.state().named(app, ids);
            let before: Vec<(u64, u64)> = targets.iter().map(ended).collect();
            for target in &targets {
                target.set_draining(true);
                if let Some(cut) = cut {
                    let (streams, tunnels) = (from(cut.streams_ms), from(cut.tunnels_ms));
                    target.cutting().begin(streams, tunnels, cut.spread_ms);
                }
            }
            (targets, before)
        };
        for target in &targets {
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
        let state = self.state();
        for target in state.targets() {
            target.cutting().begin(now, now, millis(spread));
        }
        for lot in state.lots() {
            lot.close();
        }
    }
}
