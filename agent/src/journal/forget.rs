//! Forgetting: the history is bounded, and what is still needed stays.

use jiff::Timestamp;
use rusqlite::{Transaction, params};

use super::read::nanoseconds;
use super::{Journal, JournalError};

/// The deploys that may go: ended, told, old, and not among the newest of the app.
const FORGETTABLE: &str = "
SELECT deploy FROM (
    SELECT deploy, ended_at,
        row_number() OVER (PARTITION BY app, called ORDER BY ended_at DESC, deploy DESC) AS place
    FROM deploys WHERE ended_at IS NOT NULL
) AS ended
WHERE place > ?1 AND ended_at < ?2 AND NOT EXISTS (
    SELECT 1 FROM outbox WHERE outbox.deploy = ended.deploy AND settled_at IS NULL
)";

impl Journal {
    /// Deletes whole deploys, and returns how many: those that ended before
    /// `older_than` and are not among the newest `keep_deploys_per_app` ended
    /// ones of their app. A deploy that has not ended stays, and so does one
    /// with a message that is to be delivered, and the last one of each app.
    ///
    /// Calls from before `older_than` go too, so it must lie further back than
    /// the age at which a signature is refused: else a replay would be new.
    pub fn forget(
        &self,
        keep_deploys_per_app: usize,
        older_than: Timestamp,
    ) -> Result<u64, JournalError> {
        let keep = i64::try_from(keep_deploys_per_app.max(1)).unwrap_or(i64::MAX);
        let before = nanoseconds(older_than);
        self.store().transact("what is forgotten", |transaction| {
            Ok(Ok(forget(transaction, keep, before)?))
        })
    }
}

fn forget(transaction: &Transaction<'_>, keep: i64, before: i64) -> rusqlite::Result<u64> {
    let forgettable: Vec<String> = transaction
        .prepare(FORGETTABLE)?
        .query_map(params![keep, before], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    transaction.execute("DELETE FROM calls WHERE at < ?", [before])?;
    for deploy in &forgettable {
        // What refers to the deploy goes before it.
        for table in ["calls", "outbox", "events", "deploys"] {
            let statement = format!("DELETE FROM {table} WHERE deploy = ?");
            transaction.prepare_cached(&statement)?.execute([deploy])?;
        }
    }
    Ok(forgettable.len() as u64)
}
