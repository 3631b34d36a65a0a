//! Reading deploys, events and releases. A row that cannot be understood is an
//! error that names it, never a panic and never skipped.

use cutover_plan::id::{AppName, DeployId};
use cutover_plan::release::Releases;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};
use serde::de::DeserializeOwned;

use super::{DeployRecord, Journal, JournalError, Recorded};

/// Where a deploy begins and where it is by now. The clock may be set back between
/// two deploys; the order of the journal stays.
const FIRST_EVENT: &str = "(SELECT min(seq) FROM events WHERE events.deploy = deploys.deploy)";
/// What somebody called for, or changed the app's file for.
const SHOWN: &str = "(called OR 'scale' = (SELECT json_extract(event, '$.kind') FROM events \
    WHERE events.deploy = deploys.deploy ORDER BY seq LIMIT 1))";
const LAST_EVENT: &str = "(SELECT max(seq) FROM events WHERE events.deploy = deploys.deploy)";

impl Journal {
    /// The deploy that a call began, if it was accepted.
    pub fn find_call(&self, call: &str) -> Result<Option<DeployId>, JournalError> {
        let found: Option<String> = self
            .store()
            .connection
            .prepare_cached("SELECT deploy FROM calls WHERE call = ?")
            .and_then(|mut query| query.query_row([call], |row| row.get(0)).optional())
            .map_err(JournalError::read("a call"))?;
        found.map(|id| id_of("calls", call, &id)).transpose()
    }

    /// A deploy.
    pub fn deploy(&self, id: &DeployId) -> Result<Option<DeployRecord>, JournalError> {
        self.find_deploy("deploy = ?", id.as_str())
    }

    /// The deploys of the app that have not ended, oldest first.
    pub fn unfinished(&self, app: &AppName) -> Result<Vec<DeployRecord>, JournalError> {
        let which = format!("app = ? AND ended_at IS NULL ORDER BY {FIRST_EVENT}");
        self.find_deploys(&which, app.as_str())
    }

    /// The deploys of every app that have not ended, oldest first.
    pub fn under_way(&self) -> Result<Vec<DeployRecord>, JournalError> {
        // No app has an empty name.
        let which = format!("app <> ? AND ended_at IS NULL ORDER BY {FIRST_EVENT}");
        self.find_deploys(&which, "")
    }

    /// The deploy of the app that ended last, of those that somebody called for.
    pub fn last_ended(&self, app: &AppName) -> Result<Option<DeployRecord>, JournalError> {
        let newest = format!(
            "app = ? AND ended_at IS NOT NULL AND called ORDER BY {LAST_EVENT} DESC LIMIT 1"
        );
        self.find_deploy(&newest, app.as_str())
    }

    /// The newest deploys of an app, or of all, of those that somebody called
    /// for or had by the app's file; at most `limit`. Ids sort by time.
    pub fn newest(
        &self,
        app: Option<&AppName>,
        limit: u32,
    ) -> Result<Vec<DeployRecord>, JournalError> {
        let which = match app {
            Some(_) => "app = ?",
            None => "app <> ?",
        };
        // No app has an empty name.
        let key = app.map_or("", AppName::as_str);
        let newest = format!("{which} AND {SHOWN} ORDER BY deploy DESC LIMIT {limit}");
        self.find_deploys(&newest, key)
    }

    /// What is known of the app's releases; of an unknown app, nothing.
    pub fn releases(&self, app: &AppName) -> Result<Releases, JournalError> {
        let found: Option<String> = self
            .store()
            .connection
            .prepare_cached("SELECT releases FROM releases WHERE app = ?")
            .and_then(|mut query| query.query_row([app.as_str()], |row| row.get(0)).optional())
            .map_err(JournalError::read("releases"))?;
        match found {
            None => Ok(Releases::default()),
            Some(text) => decode("releases", app.as_str(), &text),
        }
    }

    /// What is known of the releases of every app but this one.
    pub fn releases_of_others(&self, app: &AppName) -> Result<Vec<Releases>, JournalError> {
        let read = JournalError::read("releases");
        let rows: Vec<(String, String)> = {
            let store = self.store();
            let mut query = store
                .connection
                .prepare_cached("SELECT app, releases FROM releases WHERE app <> ?")
                .map_err(&read)?;
            let two = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            query
                .query_map([app.as_str()], two)
                .and_then(Iterator::collect)
                .map_err(&read)?
        };
        let decoded = rows.iter().map(|(app, text)| decode("releases", app, text));
        decoded.collect()
    }

    /// The events of a deploy that follow the seq `after`, in order, at most `limit`.
    pub fn events(
        &self,
        id: &DeployId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, JournalError> {
        let read = JournalError::read("events");
        let rows: Vec<(i64, i64, String)> = {
            let store = self.store();
            let mut query = store
                .connection
                .prepare_cached(
                    "SELECT seq, at, event FROM events WHERE deploy = ? AND seq > ? ORDER BY seq LIMIT ?",
                )
                .map_err(&read)?;
            let three = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            query
                .query_map(
                    params![id.as_str(), signed(after), signed(limit as u64)],
                    three,
                )
                .and_then(Iterator::collect)
                .map_err(&read)?
        };
        let recorded = |(seq, at, text): (i64, i64, String)| {
            let row = seq.to_string();
            Ok(Recorded {
                seq: unsigned(seq),
                at: timestamp("events", &row, at)?,
                event: decode("events", &row, &text)?,
            })
        };
        rows.into_iter().map(recorded).collect()
    }

    /// The events of every deploy that follow the seq `after`, in order.
    pub fn events_after(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(DeployId, Recorded)>, JournalError> {
        let read = JournalError::read("events");
        let rows: Vec<(i64, i64, String, String)> = {
            let store = self.store();
            let mut query = store
                .connection
                .prepare_cached(
                    "SELECT seq, at, event, deploy FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
                )
                .map_err(&read)?;
            let four = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            query
                .query_map(params![signed(after), signed(limit as u64)], four)
                .and_then(Iterator::collect)
                .map_err(&read)?
        };
        let recorded = |(seq, at, text, deploy): (i64, i64, String, String)| {
            let row = seq.to_string();
            let recorded = Recorded {
                seq: unsigned(seq),
                at: timestamp("events", &row, at)?,
                event: decode("events", &row, &text)?,
            };
            Ok((id_of("events", &row, &deploy)?, recorded))
        };
        rows.into_iter().map(recorded).collect()
    }

    /// When a deploy of each app that somebody called for was last promoted.
    pub fn last_successes(&self) -> Result<Vec<(AppName, Timestamp)>, JournalError> {
        let read = JournalError::read("deploys");
        let rows: Vec<(String, i64)> = {
            let store = self.store();
            let mut query = store
                .connection
                .prepare_cached(
                    "SELECT app, max(ended_at) FROM deploys WHERE ended_at IS NOT NULL AND called                      AND (SELECT json_extract(event, '$.outcome') FROM events                           WHERE events.deploy = deploys.deploy ORDER BY seq DESC LIMIT 1) = 'promoted'                      GROUP BY app",
                )
                .map_err(&read)?;
            let two = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            query
                .query_map([], two)
                .and_then(Iterator::collect)
                .map_err(&read)?
        };
        let understand = |(app, at): (String, i64)| {
            let name = AppName::parse(&app).map_err(|source| corrupt("deploys", &app, source))?;
            Ok((name, timestamp("deploys", &app, at)?))
        };
        rows.into_iter().map(understand).collect()
    }

    fn find_deploy(&self, which: &str, key: &str) -> Result<Option<DeployRecord>, JournalError> {
        Ok(self.find_deploys(which, key)?.into_iter().next())
    }

    fn find_deploys(&self, which: &str, key: &str) -> Result<Vec<DeployRecord>, JournalError> {
        let query =
            format!("SELECT deploy, app, source, accepted_at, ended_at FROM deploys WHERE {which}");
        let read = JournalError::read("a deploy");
        let found: Vec<DeployRow> = {
            let store = self.store();
            let mut query = store.connection.prepare_cached(&query).map_err(&read)?;
            query
                .query_map([key], DeployRow::read)
                .and_then(Iterator::collect)
                .map_err(&read)?
        };
        found.into_iter().map(DeployRow::understand).collect()
    }
}

/// A row of `deploys` as it is stored.
struct DeployRow {
    deploy: String,
    app: String,
    source: String,
    accepted_at: i64,
    ended_at: Option<i64>,
}

impl DeployRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            deploy: row.get(0)?,
            app: row.get(1)?,
            source: row.get(2)?,
            accepted_at: row.get(3)?,
            ended_at: row.get(4)?,
        })
    }

    fn understand(self) -> Result<DeployRecord, JournalError> {
        let (table, key) = ("deploys", self.deploy.as_str());
        let app = AppName::parse(&self.app).map_err(|source| corrupt(table, key, source))?;
        let ended_at = self.ended_at.map(|at| timestamp(table, key, at));
        Ok(DeployRecord {
            deploy: id_of(table, key, key)?,
            app,
            source: decode(table, key, &self.source)?,
            accepted_at: timestamp(table, key, self.accepted_at)?,
            ended_at: ended_at.transpose()?,
        })
    }
}

pub(super) fn id_of(table: &'static str, row: &str, text: &str) -> Result<DeployId, JournalError> {
    DeployId::parse(text).map_err(|source| corrupt(table, row, source))
}

pub(super) fn decode<T: DeserializeOwned>(
    table: &'static str,
    row: &str,
    text: &str,
) -> Result<T, JournalError> {
    serde_json::from_str(text).map_err(|source| corrupt(table, row, source))
}

pub(super) fn timestamp(
    table: &'static str,
    row: &str,
    nanoseconds: i64,
) -> Result<Timestamp, JournalError> {
    Timestamp::from_nanosecond(i128::from(nanoseconds))
        .map_err(|source| corrupt(table, row, source))
}

fn corrupt(
    table: &'static str,
    row: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> JournalError {
    JournalError::Corrupt {
        table,
        row: row.to_owned(),
        source: source.into(),
    }
}

/// A time as it is stored. Times outside of 1677 to 2262 are not times of
/// deploys but bounds ("everything before"), and become the nearest bound.
pub(super) fn nanoseconds(at: Timestamp) -> i64 {
    let exact = at.as_nanosecond();
    let nearest = if exact < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(exact).unwrap_or(nearest)
}

/// Row ids are positive by construction.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A bound above every row id is as good as the highest.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
