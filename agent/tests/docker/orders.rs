//! Orders of test apps, and the engine of the test host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cutover_agent::containers::{Container, Containers as _, StartOrder};
use cutover_agent::docker::Docker;
use cutover_plan::id::{DeployId, ImageReference, ReleaseNumber, Replica, Slot};
use cutover_plan::spec::{Bytes, DockerHealth, Environment, Logging, Protocol, RunSpec};
use cutover_plan::step::{HealthCheck, Question};
use cutover_tests::host::host;
use cutover_tests::image;

/// Longer than anything here takes on a busy host.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The test host's engine.
pub(crate) fn engine() -> Docker {
    host();
    let address = std::env::var("DOCKER_HOST").unwrap();
    Docker::connect(Some(&address)).unwrap()
}

/// A question for `path`, of which the engine is not asked.
pub(crate) fn question(path: &str) -> HealthCheck {
    HealthCheck {
        question: Question::Get(path.to_owned()),
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        successes: 1,
        docker: DockerHealth::Ignore,
    }
}

/// The `number`th deploy.
pub(crate) fn deploy(number: u64) -> DeployId {
    DeployId::new(number, [7; 10])
}

/// An order for the first container of `app`.
pub(crate) fn order(app: &str, image: ImageReference) -> StartOrder {
    StartOrder {
        app: app.parse().unwrap(),
        deploy: deploy(1),
        release: ReleaseNumber(1),
        slot: Slot::Blue,
        replica: Replica(0),
        image,
        run: RunSpec {
            port: 8080,
            protocol: Protocol::Http1,
            env: Environment::default(),
            env_file: None,
            volumes: Vec::new(),
            tmpfs: Vec::new(),
            user: None,
            read_only: false,
            command: None,
            entrypoint: None,
            labels: BTreeMap::new(),
            memory: None,
            cpus: None,
            pids: None,
            ulimits: BTreeMap::new(),
            stop_signal: None,
            stop_grace: Duration::from_secs(1),
            logging: Logging {
                max_size: Bytes(10_000_000),
                max_files: 3,
            },
            networks: BTreeSet::new(),
            extra_hosts: Vec::new(),
            docker_health: DockerHealth::Ignore,
        },
    }
}

/// Builds an image of the demo app that only the registry has.
pub(crate) async fn build(
    app: &str,
    environment: &[(&str, &str)],
) -> anyhow::Result<ImageReference> {
    let image = image::build(app, environment).await?;
    Ok(image.reference().parse()?)
}

/// Builds, pulls and starts.
pub(crate) async fn started(
    app: &str,
    environment: &[(&str, &str)],
    change: impl FnOnce(&mut StartOrder),
) -> anyhow::Result<(StartOrder, Container)> {
    let image = build(app, environment).await?;
    engine().pull(&image, None, &|_| {}).await?;
    let mut order = order(app, image);
    change(&mut order);
    let container = engine().start(&order).await?;
    Ok((order, container))
}

/// The only container of the order's app.
pub(crate) async fn only(order: &StartOrder) -> anyhow::Result<Container> {
    let mut all = engine().list(&order.app).await?;
    anyhow::ensure!(all.len() == 1, "{} containers: {all:?}", all.len());
    Ok(all.remove(0))
}
