//! Orders of test apps, and the engine of the test host.

use std::time::Duration;

use cutover_agent::containers::{Container, Containers as _, StartOrder};
use cutover_agent::docker::Docker;
use cutover_plan::id::{DeployId, ImageReference, ReleaseNumber, Slot};
use cutover_plan::spec::{Environment, RunSpec};
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
        replica: 0,
        image,
        run: RunSpec {
            port: 8080,
            env: Environment::default(),
            env_file: None,
            volumes: Vec::new(),
            memory: None,
            cpus: None,
            pids: None,
            stop_grace: Duration::from_secs(1),
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
