//! Takes renewed files of the table in force into service without being told.
//!
//! Whoever renews a certificate writes its files and need not know us. A look
//! compares stamps and reads what changed; SIGHUP reads everything at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;

use super::certificates::Certificates;
use super::load::Look;

/// Between two looks. Certificates are renewed weeks before they expire; a minute
/// is for people who wait to see theirs.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Looks at the files each minute and at each hang-up, until it is dropped.
pub(crate) async fn keep_fresh(certificates: Arc<Certificates>, mut hang_up: Signal) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let look = tokio::select! {
            _ = looks.tick() => Look::Changed,
            told = hang_up.recv() => match told {
                Some(()) => {
                    tracing::info!("told to read the files of all certificates again");
                    Look::Everything
                }
                None => return,
            },
        };
        let certificates = Arc::clone(&certificates);
        let done = tokio::task::spawn_blocking(move || certificates.renew(look)).await;
        if let Err(error) = done {
            tracing::error!(%error, "the files of certificates could not be looked at");
        }
    }
}
