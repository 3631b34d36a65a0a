//! The model of the proxy, as the agent sees it.

use std::net::SocketAddr;
use std::time::Duration;

use cutover_agent::traffic::{Knock, Traffic, TrafficError};
use cutover_plan::id::AppName;
use cutover_plan::release::Standing;
use cutover_wire::proxy::{Cut, Drained, Status};
use cutover_wire::statistics::Statistics;
use cutover_wire::table::{Route, Table};
use tokio::time::{Instant, sleep};

use super::{QUICK, Sim, Trouble};
use crate::run::app;
use crate::scenario::Behaviour;
use crate::world::Modelled;

impl Sim {
    /// Whether the release that serves by the journal has proved itself.
    fn serves_proven(&self) -> bool {
        let releases = self.journal.releases(&app()).unwrap();
        let serving = releases.serving.and_then(|number| releases.find(number));
        serving.is_some_and(|known| known.standing == Standing::Proven)
    }
}

/// A route in a few words, for the story.
fn told(route: Option<&Route>) -> String {
    let Some(route) = route else {
        return "no route".to_owned();
    };
    let weights = route.serving.weights();
    let weights = weights.map(|(pool, weight)| format!("{weight} to {pool}"));
    let mut words: Vec<_> = weights.collect();
    words.extend(
        route
            .rules
            .iter()
            .map(|rule| format!("rule to {}", rule.pool)),
    );
    words.extend(
        route
            .preview
            .iter()
            .map(|one| format!("shows {}", one.pool)),
    );
    words.extend(
        route
            .mirror
            .iter()
            .map(|one| format!("copies to {}", one.pool)),
    );
    words.extend(route.park.iter().map(|_| "holds".to_owned()));
    let pools = route.pools.iter();
    words.extend(pools.map(|(pool, one)| format!("{pool} has {}", one.targets.len())));
    words.join(", ")
}

fn proxy_trouble(trouble: Trouble) -> TrafficError {
    match trouble {
        Trouble::Refused => TrafficError::Refused("the disk is full".to_owned()),
        Trouble::Unreachable => TrafficError::Unavailable("connection refused".to_owned()),
    }
}

impl Traffic for Sim {
    async fn status(&self) -> Result<Status, TrafficError> {
        let generation = self.table().await?.generation;
        let instance = self.world().counted.instance.clone();
        Ok(Status {
            instance,
            program: "model".to_owned(),
            generation,
            listeners: vec![SocketAddr::from(([127, 0, 0, 1], 80))],
            abilities: std::collections::BTreeSet::new(),
        })
    }

    async fn table(&self) -> Result<Table, TrafficError> {
        sleep(QUICK).await;
        if self.is_away("proxy") {
            return Err(proxy_trouble(Trouble::Unreachable));
        }
        Ok(self.world().table.clone())
    }

    async fn apply(&self, expected: u64, table: &Table) -> Result<(), TrafficError> {
        let route = table.apps.get("shop");
        let name = format!("apply table {}: {}", table.generation, told(route));
        // A proven release that serves is not left without a route.
        let closes = route.is_none() && self.serves_proven();
        let made = self.effect("proxy", name, |world| {
            if closes && !world.sickened && !world.table.apps.is_empty() {
                world.violation("the route of a proven release was withdrawn".to_owned());
            }
            if world.table.generation != expected {
                return Err(TrafficError::Generation(world.table.generation));
            }
            world.follow(table);
            Ok(())
        });
        made.await.map_err(proxy_trouble)?
    }

    async fn drain(
        &self,
        app: &AppName,
        targets: &[String],
        deadline: Duration,
        _cut: Option<Cut>,
    ) -> Result<Drained, TrafficError> {
        let made = self.effect("proxy", format!("drain {app} {targets:?}"), |_| ());
        made.await.map_err(proxy_trouble)?;
        let until = Instant::now() + deadline;
        loop {
            let open: u32 = {
                let world = self.world();
                let named = targets.iter().filter_map(|name| world.containers.get(name));
                named.map(|one| one.open).sum()
            };
            if open == 0 || Instant::now() >= until {
                let requests = u64::from(open);
                return Ok(Drained {
                    requests,
                    ..Drained::default()
                });
            }
            sleep(QUICK).await;
        }
    }

    async fn statistics(&self) -> Result<Statistics, TrafficError> {
        sleep(QUICK).await;
        if self.is_away("proxy") {
            return Err(proxy_trouble(Trouble::Unreachable));
        }
        Ok(self.world().counted.clone())
    }

    async fn knock(&self, _: SocketAddr, _: &str, _: &str) -> Result<Knock, TrafficError> {
        sleep(QUICK).await;
        let now = Instant::now();
        let world = self.world();
        if world.table.apps.is_empty() {
            return Ok(Knock {
                status: 404,
                pool: None,
            });
        }
        let Some((pool, container)) = world.door("shop") else {
            return Err(proxy_trouble(Trouble::Unreachable));
        };
        let one = world.containers.get(&container);
        let behind = |one: &Modelled| one.behaviour != Behaviour::BehindAnotherDoor;
        let answers = one.is_some_and(|one| one.runs() && one.is_healthy(now) && behind(one));
        Ok(Knock {
            status: if answers { 200 } else { 502 },
            pool: answers.then_some(pool),
        })
    }
}
