//! Keeping the app's route true while nothing is deployed: a container that
//! was started anew has another address, a proxy that lost its table has none,
//! a changed configuration has other domains.

use cutover_plan::id::ReleaseNumber;

use super::Engine;
use super::route::{self, Put};
use crate::containers::Containers;
use crate::journal::Record;
use crate::traffic::Traffic;

/// What the last look found, so that the log tells a trouble once.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    trouble: Option<String>,
}

impl<C: Containers, T: Traffic, R: Record> Engine<C, T, R> {
    /// Compares the route with the containers, and mends it.
    ///
    /// An app that the journal knows nothing of is left alone: its route may
    /// be all that is left of a lost journal, and users are on it.
    pub(super) async fn keep(&self, keeper: &mut Keeper) {
        let Some(serving) = self.releases.serving else {
            return;
        };
        let trouble = self.mend(serving).await.err();
        if trouble != keeper.trouble {
            match &trouble {
                Some(trouble) => tracing::warn!(app = %self.lease.app(), "{trouble}"),
                None => tracing::info!(app = %self.lease.app(), "the route is in order again"),
            }
            keeper.trouble = trouble;
        }
    }

    async fn mend(&self, serving: ReleaseNumber) -> Result<(), String> {
        let app = self.lease.app();
        let listed = self.drivers.containers.list(app).await;
        let containers = listed.map_err(|error| error.reason)?;
        let spec = &self.spec;
        if route::route(spec, &containers, serving, None).is_none() {
            // The old addresses may answer again at any time, so they stay.
            return Err(format!(
                "no container of {serving} runs, which should serve"
            ));
        }
        let change = |now: Option<&cutover_wire::table::Route>| {
            let beside = |release: &ReleaseNumber| {
                let named = now.is_some_and(|now| now.pools.contains_key(&release.to_string()));
                *release != serving && named
            };
            let mut others = containers.iter().map(|container| container.release);
            route::route(spec, &containers, serving, others.find(beside))
        };
        match route::put(&self.lease, &*self.drivers.traffic, change).await {
            Ok(Put::Unchanged(_)) => Ok(()),
            Ok(Put::Changed(generation)) => {
                tracing::info!(%app, generation, "mended the route");
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}
