//! Keeping the app's route true while nothing is deployed: a container that
//! was started anew has another address, a proxy that lost its table has none,
//! a changed configuration has other domains.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cutover_plan::id::{AppName, ReleaseNumber};
use cutover_plan::observed::Condition;
use cutover_plan::traffic::Traffic as Shares;
use cutover_wire::table::Route;
use tokio::time::Instant;

use super::route::{self, Parts, Put};
use super::{Engine, Lease, Look, side};
use crate::containers::{Container, Containers};
use crate::journal::Record;
use crate::traffic::Traffic;

/// How often the routes are compared with the containers, where no news hasten it.
const EVERY: Duration = Duration::from_secs(2);

/// How long a look may take: both answer in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of the parts of a route that only a deploy puts there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aside {
    /// A deploy is under way, and they are its own.
    Kept,
    /// None is: a preview, copies or sessions that one could not end are ended.
    Ended,
}

/// What goes on while something else is waited for.
type Waited<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One look at the route after the other, beside whatever else is waited for.
pub(super) struct Rounds<C> {
    containers: Arc<C>,
    app: AppName,
    /// When the next look is due, if none is under way.
    due: Instant,
    stirred: Waited<()>,
    look: Option<Waited<Result<Seen, String>>>,
    /// What the last look found, so that the log tells a trouble once.
    trouble: Option<String>,
}

/// What a round has come to.
pub(super) enum Turn {
    /// It is time to look.
    Due,
    /// A look has ended.
    Looked(Result<Seen, String>),
}

/// What a look has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// All is as it should be.
    InOrder,
    /// The release that serves has other containers than the app's file says.
    Miscounted,
    /// It has none.
    Deserted(ReleaseNumber),
}

impl Seen {
    /// What the log should know of it.
    pub(super) fn trouble(self) -> Option<String> {
        match self {
            Self::InOrder | Self::Miscounted => None,
            Self::Deserted(release) => Some(format!(
                "no container of {release} is left, which should serve"
            )),
        }
    }
}

impl<C: Containers> Rounds<C> {
    pub(super) fn new(containers: &Arc<C>, app: &AppName) -> Self {
        Self {
            containers: Arc::clone(containers),
            app: app.clone(),
            due: Instant::now() + EVERY,
            stirred: stirred(containers, app),
            look: None,
            trouble: None,
        }
    }

    /// Forgets the look that is under way, which was for what is over.
    pub(super) fn begin_anew(&mut self) {
        self.look = None;
        self.due = Instant::now() + EVERY;
    }

    /// Waits until there is something to do. Nothing is lost if it is dropped.
    pub(super) async fn turn(&mut self) -> Turn {
        if let Some(look) = &mut self.look {
            return Turn::Looked(look.await);
        }
        tokio::select! {
            () = &mut self.stirred => self.stirred = stirred(&self.containers, &self.app),
            () = tokio::time::sleep_until(self.due) => {}
        }
        Turn::Due
    }

    /// Does it, with a look that is made where one is due; tells what one that has
    /// ended has seen.
    pub(super) fn take<F>(&mut self, turn: Turn, look: impl FnOnce() -> F) -> Option<Seen>
    where
        F: Future<Output = Result<Seen, String>> + Send + 'static,
    {
        match turn {
            Turn::Due => {
                self.look = Some(Box::pin(look()));
                None
            }
            Turn::Looked(looked) => {
                self.begin_anew();
                let seen = looked.as_ref().ok().copied();
                self.hear(looked.map_or_else(Some, Seen::trouble));
                seen
            }
        }
    }

    fn hear(&mut self, trouble: Option<String>) {
        let app = &self.app;
        if trouble != self.trouble {
            match &trouble {
                Some(trouble) => tracing::warn!(%app, "{trouble}"),
                None => tracing::info!(%app, "the route is in order again"),
            }
            self.trouble = trouble;
        }
    }
}

fn stirred<C: Containers>(containers: &Arc<C>, app: &AppName) -> Waited<()> {
    let (containers, app) = (Arc::clone(containers), app.clone());
    Box::pin(async move { containers.stirred(&app).await })
}

impl<C: Containers, T: Traffic, R: Record> Engine<C, T, R> {
    /// Compares the route with the containers, and mends it. The look has its
    /// own copy of what is known, so a step goes on meanwhile; dropping it is
    /// safe, because a table is only put in place of the one that was read.
    ///
    /// An app that the journal knows nothing of is left alone: its route may
    /// be all that is left of a lost journal, and users are on it.
    pub(super) fn keep(
        &self,
        aside: Aside,
    ) -> impl Future<Output = Result<Seen, String>> + Send + use<C, T, R> {
        let (look, lease) = (self.look(), Arc::clone(&self.lease));
        let hooks = aside == Aside::Ended && self.hooks_left.load(Ordering::Relaxed);
        let hooks = hooks.then(|| self.clear_hooks());
        let hooks = async {
            if let Some(hooks) = hooks {
                // Those that take longer to stop are asked for again at the next look.
                let _ = tokio::time::timeout(PATIENCE, hooks).await;
            }
        };
        async move {
            let mended = tokio::time::timeout(PATIENCE, async {
                match (look.releases.serving, aside) {
                    (Some(_), _) => look.mend(&lease, aside).await,
                    (None, Aside::Ended) => look.withdraw_preview(&lease).await,
                    (None, Aside::Kept) => Ok(Seen::InOrder),
                }
            });
            let late = |_| Err("the engine or the proxy does not answer".to_owned());
            // The route does not wait for hooks to stop, nor the next look for long.
            let (mended, ()) = futures_util::join!(mended, hooks);
            mended.unwrap_or_else(late)
        }
    }
}

impl<C: Containers, T: Traffic, R: Record> Look<C, T, R> {
    /// Takes away the route of an app without users that was only made to show a
    /// release before its first ones.
    async fn withdraw_preview(&self, lease: &Lease) -> Result<Seen, String> {
        let change = |now: Option<&Route>| now.filter(|now| !side::is_preview_only(now)).cloned();
        let put = route::put(lease, &*self.drivers.traffic, change).await;
        put.map(|_| Seen::InOrder)
            .map_err(|error| error.to_string())
    }

    /// Whether of each release that gets requests a container answers well.
    async fn all_answer(&self, to: &Shares, containers: &[Container]) -> bool {
        for release in to.releases() {
            let mut answers = false;
            for container in containers.iter().filter(|one| one.release == release) {
                answers = answers || self.condition(container).await == Condition::Healthy;
            }
            if !answers {
                return false;
            }
        }
        true
    }

    async fn mend(&self, lease: &Lease, aside: Aside) -> Result<Seen, String> {
        let app = &self.app;
        let listed = self.drivers.containers.list(app).await;
        let containers = listed.map_err(|error| error.reason)?;
        let (spec, to) = (&self.spec, &self.releases.traffic);
        let mut elsewhere = None;
        // A deploy that holds requests says itself when they go on, and to whom.
        // Where none is under way they go on as soon as somebody answers well.
        if aside == Aside::Ended {
            let table = self.drivers.traffic.table().await;
            let table = table.map_err(|error| error.to_string())?;
            let now = table.apps.get(app.as_str());
            let others = containers.iter().map(|one| one.release);
            let mut others = others.filter(|one| !to.reaches(*one));
            elsewhere =
                others.find(|one| now.is_some_and(|now| now.is_served_by(&one.to_string())));
            let holds = now.is_some_and(|now| now.park.is_some());
            if holds && !self.all_answer(to, &containers).await {
                return match self.count(&containers, elsewhere)? {
                    // Whoever starts them again also lets the requests go on.
                    Seen::Deserted(release) => Ok(Seen::Deserted(release)),
                    Seen::InOrder | Seen::Miscounted => {
                        Err(format!("requests are held until {to} answers well"))
                    }
                };
            }
        }
        let absent = Mutex::new(None);
        let change = |now: Option<&Route>| {
            *absent.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let held = now.filter(|now| aside == Aside::Kept && now.park.is_some());
            if let Some(held) = held {
                return Some(held.clone());
            }
            let named = now.iter().flat_map(|now| now.pools.keys());
            let named = named.filter_map(|pool| route::number(pool));
            let beside = named.filter(|one| !to.reaches(*one)).collect();
            let parts = Parts {
                spec,
                containers: &containers,
                to,
                beside: &beside,
            };
            let now = now.map(|now| match aside {
                Aside::Kept => now.clone(),
                Aside::Ended => side::bare(now),
            });
            let route = parts.route(now.as_ref());
            *absent.lock().unwrap_or_else(PoisonError::into_inner) = route.as_ref().err().copied();
            // The old addresses may answer again at any time, so they stay.
            route.unwrap_or(now)
        };
        match route::put(lease, &*self.drivers.traffic, change).await {
            Ok(Put::Unchanged(_)) => {
                let absent = absent.into_inner().unwrap_or_else(PoisonError::into_inner);
                let seen = match aside {
                    Aside::Kept => Seen::InOrder,
                    Aside::Ended => self.count(&containers, elsewhere)?,
                };
                match (seen, absent) {
                    (Seen::InOrder, Some(release)) => Err(format!(
                        "no container of {release} runs, which should serve"
                    )),
                    (seen, _) => Ok(seen),
                }
            }
            Ok(Put::Changed(generation)) => {
                tracing::info!(%app, generation, "mended the route");
                Ok(Seen::InOrder)
            }
            Err(error) => Err(error.to_string()),
        }
    }
}
