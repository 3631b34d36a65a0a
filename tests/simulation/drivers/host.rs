//! The model of the engine of containers.

use std::net::SocketAddr;
use std::time::Duration;

use cutover_agent::containers::{
    Container, ContainerError, ContainerErrorKind, ContainerState, Containers, HealthAnswer,
    HookEnd, HookOrder, LastEnd, Room, StartOrder,
};
use cutover_plan::id::{AppName, Digest, ImageReference};
use cutover_plan::spec::Bytes;
use cutover_plan::step::HealthCheck;
use cutover_wire::request::RegistryCredentials;
use tokio::time::{Instant, sleep};

use super::{QUICK, Sim, Trouble};
use crate::scenario::Behaviour;
use crate::world::{Modelled, SUCCESSES, World};

impl Sim {
    fn show(&self, name: &str, one: &Modelled) -> Container {
        let now = Instant::now();
        let state = match one.runs() {
            true => ContainerState::Running {
                address: one.address,
                since: self.now() - now.duration_since(one.started),
            },
            false => ContainerState::Exited {
                code: 1,
                out_of_memory: false,
                error: None,
            },
        };
        Container {
            id: one.id.clone(),
            name: name.to_owned(),
            app: one.order.app.clone(),
            deploy: one.order.deploy.clone(),
            release: one.order.release,
            replica: one.order.replica,
            slot: one.order.slot,
            image: one.order.image.clone(),
            protocol: one.order.run.protocol,
            state,
            restarts: one.restarts(now),
        }
    }
}

fn engine_trouble(trouble: Trouble) -> ContainerError {
    let (kind, reason) = match trouble {
        Trouble::Refused => (ContainerErrorKind::Host, "the engine refused"),
        Trouble::Unreachable => (
            ContainerErrorKind::Unavailable,
            "the engine does not answer",
        ),
    };
    ContainerError {
        kind,
        reason: reason.to_owned(),
        hint: None,
    }
}

impl Containers for Sim {
    async fn preflight(
        &self,
        _: &ImageReference,
        _: Option<&RegistryCredentials>,
        _: Option<Bytes>,
    ) -> Result<String, ContainerError> {
        let made = self.effect("engine", "preflight".into(), |_| {
            "room for one more".to_owned()
        });
        made.await.map_err(engine_trouble)
    }

    async fn room(&self) -> Result<Room, ContainerError> {
        Ok(Room::default())
    }

    async fn pull(
        &self,
        image: &ImageReference,
        _: Option<&RegistryCredentials>,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<String, ContainerError> {
        progress("half of it".to_owned());
        let digest = &image.digest;
        let made = self.effect(
            "engine",
            format!("pull {}", digest.short()),
            |world| match world.images.get(digest) {
                Some(Behaviour::Missing) | None => None,
                Some(_) => {
                    world.pulled.push(digest.clone());
                    Some("all of it".to_owned())
                }
            },
        );
        made.await
            .map_err(engine_trouble)?
            .ok_or_else(|| ContainerError {
                kind: ContainerErrorKind::Request,
                reason: format!("the registry has no {image}"),
                hint: None,
            })
    }

    async fn start(&self, order: &StartOrder) -> Result<Container, ContainerError> {
        let name = order.name();
        let made = self.effect("engine", format!("start {name}"), |world| {
            let keep = world
                .containers
                .get(&name)
                .is_some_and(|one| one.order.deploy == order.deploy);
            if !keep {
                if !world.pulled.contains(&order.image.digest) {
                    world.violation(format!("{name} was started without its image"));
                }
                let open = world.containers.get(&name).map_or(0, |one| one.open);
                if open > 0 {
                    world.violation(format!("{name} was replaced with {open} requests inside"));
                }
                world.made += 1;
                let one = Modelled {
                    id: format!("id{}", world.made),
                    order: order.clone(),
                    address: SocketAddr::from(([127, 0, 0, 1], 10_000 + world.made)),
                    started: Instant::now(),
                    behaviour: world.images[&order.image.digest],
                    asked: 0,
                    // Where nobody is left, whoever starts may be asked at once.
                    good_answers: if world.deserted { SUCCESSES } else { 0 },
                    open: 0,
                    taken: 0,
                };
                let replicas = world.replicas;
                world.wanted.entry(order.release).or_insert(replicas);
                world.containers.insert(name.clone(), one);
                world.count_live();
            }
        });
        made.await.map_err(engine_trouble)?;
        let world = self.world();
        Ok(self.show(&name, &world.containers[&name]))
    }

    async fn list(&self, app: &AppName) -> Result<Vec<Container>, ContainerError> {
        self.answers("engine").await;
        if self.is_away("engine") {
            return Err(engine_trouble(Trouble::Unreachable));
        }
        let world = self.world();
        let of_app = world
            .containers
            .iter()
            .filter(|(_, one)| one.order.app == *app);
        Ok(of_app.map(|(name, one)| self.show(name, one)).collect())
    }

    async fn ask(
        &self,
        container: &Container,
        _: &HealthCheck,
        _: &str,
    ) -> Result<HealthAnswer, ContainerError> {
        sleep(QUICK).await;
        let now = Instant::now();
        let mut world = self.world();
        let Some(one) = world.containers.get_mut(&container.name) else {
            return Ok(HealthAnswer::Bad("connection refused".to_owned()));
        };
        one.asked += 1;
        Ok(match one.is_healthy(now) {
            true => {
                one.good_answers += 1;
                HealthAnswer::Good
            }
            false => {
                // What was enough once stays enough.
                if one.good_answers < SUCCESSES {
                    one.good_answers = 0;
                }
                HealthAnswer::Bad("answered 503".to_owned())
            }
        })
    }

    /// Nothing is remembered of an end, as by an engine that was restarted.
    async fn last_end(&self, _: &Container) -> Result<Option<LastEnd>, ContainerError> {
        Ok(None)
    }

    /// No news ever come, so all is found by looking.
    async fn stirred(&self, _: &AppName) {
        std::future::pending().await
    }

    async fn last_lines(&self, _: &Container, _: usize) -> Result<Vec<String>, ContainerError> {
        Ok(vec!["the app's last line".to_owned()])
    }

    async fn remove(&self, container: &Container, _: Duration) -> Result<(), ContainerError> {
        let name = &container.name;
        let made = self.effect("engine", format!("remove {name}"), |world| {
            let listed = world.table.apps.values().any(|route| {
                let mut pools = route.pools.values();
                pools.any(|pool| pool.targets.iter().any(|target| target.id == *name))
            });
            if listed {
                world.violation(format!("{name} was told to stop while the table lists it"));
            }
            let open = world.containers.get(name).map_or(0, |one| one.open);
            if open > 0 {
                world.violation(format!(
                    "{name} was told to stop with {open} requests inside"
                ));
            }
            world.containers.remove(name);
        });
        made.await.map_err(engine_trouble)
    }

    async fn run_hook(
        &self,
        order: &HookOrder,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<HookEnd, ContainerError> {
        let name = order.name();
        let made = self.effect("engine", format!("hook {name}"), |world| world.hook(order));
        made.await.map_err(engine_trouble)?;
        progress("it has begun".to_owned());
        loop {
            self.answers("engine").await;
            if self.is_away("engine") {
                return Err(engine_trouble(Trouble::Unreachable));
            }
            let world = self.world();
            let Some(hook) = world.hooks.get(&name) else {
                return Err(engine_trouble(Trouble::Unreachable));
            };
            if let Some(code) = hook.ended(Instant::now()) {
                return Ok(HookEnd {
                    code,
                    out_of_memory: false,
                    lines: vec!["the hook's last line".to_owned()],
                });
            }
        }
    }

    async fn stop_hook(
        &self,
        order: &HookOrder,
        _: Duration,
    ) -> Result<Vec<String>, ContainerError> {
        let name = order.name();
        let made = self.effect("engine", format!("stop hook {name}"), |world| {
            if let Some(hook) = world.hooks.get_mut(&name) {
                hook.stopped = true;
            }
            vec!["the hook's last line".to_owned()]
        });
        made.await.map_err(engine_trouble)
    }

    async fn remove_hooks(&self, app: &AppName, _: Duration) -> Result<(), ContainerError> {
        self.answers("engine").await;
        if self.is_away("engine") {
            return Err(engine_trouble(Trouble::Unreachable));
        }
        let of_app = |world: &World| world.hooks.values().any(|hook| hook.order.app == *app);
        // A look that finds nothing changes nothing.
        if !of_app(&self.world()) {
            return Ok(());
        }
        let made = self.effect("engine", format!("remove hooks of {app}"), |world| {
            world.hooks.retain(|_, hook| hook.order.app != *app);
        });
        made.await.map_err(engine_trouble)
    }

    async fn prune(&self, _: &str, keep: &[Digest]) -> Result<String, ContainerError> {
        let made = self.effect("engine", "prune".into(), |world| {
            let used: Vec<_> = world
                .containers
                .values()
                .map(|one| one.order.image.digest.clone())
                .collect();
            world
                .pulled
                .retain(|digest| keep.contains(digest) || used.contains(digest));
            "pruned".to_owned()
        });
        made.await.map_err(engine_trouble)
    }
}
