//! What the socket of the host tells to a plain `GET`: the same as a query, for
//! `curl` and scripts. The network has none of these paths.

use std::sync::Arc;

use axum::extract::{Path, Query as Parameters, State};
use axum::response::Response;
use cutover_plan::id::AppName;
use cutover_wire::request::Query;
use http::{StatusCode, Uri};
use serde::Deserialize;

use super::Counter;
use super::answer::good;
use super::deploys::{self, Answer};
use crate::desk::Refusal;

/// `?app=…&limit=…`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    app: Option<AppName>,
    limit: Option<u32>,
}

/// Tells what was deployed.
pub(super) async fn history(State(counter): State<Arc<Counter>>, uri: Uri) -> Answer {
    let bad = |message: String| {
        let hint = "for example /v1/deploys?app=shop&limit=10";
        Refusal::new(400, "bad_request", message, Some(hint))
    };
    let wanted = Parameters::<Wanted>::try_from_uri(&uri);
    let Parameters(Wanted { app, limit }) = wanted.map_err(|error| bad(error.body_text()))?;
    let query = Query::History {
        app: app.clone(),
        limit,
    };
    if let Some(problem) = query.problem() {
        return Err(bad(problem));
    }
    deploys::history(&counter, app, limit).await
}

/// Tells the agent's figures.
pub(super) async fn metrics(State(counter): State<Arc<Counter>>) -> Response {
    counter.inbox.metrics.answer()
}

/// Tells what serves, for every app.
pub(super) async fn apps(State(counter): State<Arc<Counter>>) -> Answer {
    let views = counter.inbox.desk.status(None).await?;
    Ok(good(StatusCode::OK, &views))
}

/// Tells what serves, for one app.
pub(super) async fn app(State(counter): State<Arc<Counter>>, Path(name): Path<String>) -> Answer {
    let app = AppName::parse(&name).map_err(|error| {
        let message = error.to_string();
        Refusal::new(404, "unknown_app", message, None)
    })?;
    let views = counter.inbox.desk.status(Some(app.clone())).await?;
    let view = views.first().ok_or_else(|| Refusal::unknown_app(&app))?;
    Ok(good(StatusCode::OK, view))
}
