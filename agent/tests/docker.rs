//! The container driver against a real Docker Engine and a real registry, in
//! the test host that `tests/host/run` makes.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

#[path = "docker/asked.rs"]
mod asked;
#[path = "docker/given.rs"]
mod given;
#[path = "docker/images.rs"]
mod images;
#[path = "docker/life.rs"]
mod life;
#[path = "docker/orders.rs"]
mod orders;
#[path = "docker/podman.rs"]
mod podman;
#[path = "docker/private_registry.rs"]
mod private_registry;
#[path = "docker/stub.rs"]
mod stub;

use std::time::Duration;

use cutover_agent::containers::{Container, ContainerErrorKind, ContainerState, Containers as _};
use cutover_agent::docker::{Docker, labels};
use cutover_plan::id::ReleaseNumber;
use cutover_plan::spec::{Bytes, MilliCpus, Volume};
use cutover_tests::host::{docker, host};

use orders::{build, deploy, engine, only, order, started};
use stub::Says;

#[tokio::test]
async fn starting_twice_leaves_one_container_and_another_deploy_replaces_it() -> anyhow::Result<()>
{
    let (order, first) = started("twice", &[("VERSION", "1")], |_| {}).await?;
    assert_eq!(first.name, "cutover-twice-v1-0");
    let again = engine().start(&order).await?;
    assert_eq!((again.id, again.state), (first.id.clone(), first.state));
    assert_eq!(only(&order).await?.id, first.id);

    docker(&["stop", "--time=0", &first.id]).await?;
    assert!(matches!(
        only(&order).await?.state,
        ContainerState::Exited { .. }
    ));
    let second = engine().start(&order).await?;
    assert_ne!(second.id, first.id);

    let mut other = order.clone();
    other.deploy = deploy(2);
    let third = engine().start(&other).await?;
    assert_ne!(third.id, second.id);
    assert_eq!(only(&other).await?.deploy, deploy(2));

    // The bridge's name is what keeps two makers from making two networks.
    let bridge = "com.docker.network.bridge.name=cutover0";
    let second = docker(&["network", "create", "--opt", bridge, "second"]).await;
    assert!(second.is_err_and(|error| error.to_string().contains("same bridge name")));
    Ok(())
}

#[tokio::test]
async fn a_network_that_another_makes_meanwhile_is_found() -> anyhow::Result<()> {
    let socket = host().folder("meanwhile")?.join("engine.sock");
    let script = |request: &str, number| {
        let asked: String = request.split(' ').take(2).collect::<Vec<_>>().join(" ");
        match (number, asked.as_str()) {
            (0 | 7, "GET /networks/cutover") => {
                stub::answer(404, r#"{"message":"network cutover not found"}"#)
            }
            (1 | 8, "GET /version") => stub::answer(200, "{}"),
            (2 | 9, "DELETE /networks/cutover-probe") => {
                stub::answer(404, r#"{"message":"network cutover-probe not found"}"#)
            }
            (3, "POST /networks/create") => stub::answer(201, r#"{"Id":"probe","Warning":""}"#),
            (4, "GET /networks/probe") => {
                let ipam = r#"{"IPAM":{"Config":[{"Subnet":"10.9.0.0/16"}]}}"#;
                stub::answer(200, ipam)
            }
            (5, "DELETE /networks/probe") => stub::answer(204, ""),
            (6, "POST /networks/create") => {
                stub::answer(403, r#"{"message":"networks have same bridge name"}"#)
            }
            // Another one is looking, too.
            (10, "POST /networks/create") => stub::answer(
                409,
                r#"{"message":"network with name cutover-probe already exists"}"#,
            ),
            (11, "GET /networks/cutover") => {
                stub::answer(200, r#"{"Labels":{"cutover.network":"cutover"}}"#)
            }
            _ => stub::answer(500, &format!(r#"{{"message":"{number} asked {asked}"}}"#)),
        }
    };
    stub::socket(&socket, Says::Script(script))?;
    let engine = Docker::connect(socket.to_str())?;
    let image = format!("localhost:5000/shop@sha256:{}", "0".repeat(64)).parse()?;
    let error = engine.start(&order("meanwhile", image)).await.unwrap_err();
    let next = "12 asked GET /containers/cutover-meanwhile-v1-0/json";
    assert!(error.reason.ends_with(next), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn what_cutover_did_not_make_is_never_touched() -> anyhow::Result<()> {
    let (order, ours) = started("foreign", &[("VERSION", "1")], |_| {}).await?;
    let mut next = order.clone();
    next.release = ReleaseNumber(2);
    let image = order.image.to_string();
    let theirs = docker(&["run", "--detach", "--name", &next.name(), &image]).await?;

    let error = engine().start(&next).await.unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Host, "{error:?}");
    assert!(error.reason.contains("Cutover did not make"), "{error:?}");
    let mistaken = Container {
        id: theirs.clone(),
        name: next.name(),
        ..ours.clone()
    };
    let error = engine()
        .remove(&mistaken, Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Host, "{error:?}");
    let running = docker(&["inspect", "--format", "{{.State.Running}}", &theirs]).await?;
    assert_eq!(running, "true");

    // One with labels that make no sense is skipped, not taken for a container.
    let label = format!("{}=foreign", labels::APP);
    docker(&["create", "--label", &label, &image]).await?;
    assert_eq!(only(&order).await?.id, ours.id);
    Ok(())
}

#[tokio::test]
async fn a_network_of_somebody_else_is_not_used() -> anyhow::Result<()> {
    let socket = host().folder("network")?.join("engine.sock");
    let theirs = |_: &str, _| stub::answer(200, r#"{"Name":"cutover"}"#);
    stub::socket(&socket, Says::Script(theirs))?;
    let engine = Docker::connect(socket.to_str())?;
    let image = format!("localhost:5000/shop@sha256:{}", "0".repeat(64)).parse()?;
    let error = engine.start(&order("network", image)).await.unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Host, "{error:?}");
    assert!(
        error
            .hint
            .is_some_and(|hint| hint.contains("--label cutover.network"))
    );
    Ok(())
}

#[tokio::test]
async fn a_container_is_given_what_the_configuration_says_and_no_more() -> anyhow::Result<()> {
    let folder = host().folder("given")?;
    let env_file = folder.join("shop.env");
    std::fs::write(&env_file, "# secrets\nTOKEN=a b=c\nLEVEL=file\n")?;
    let (order, container) = started("given", &[("VERSION", "1")], |order| {
        order.run.env_file = env_file.to_str().map(str::to_owned);
        order
            .run
            .env
            .0
            .insert("LEVEL".to_owned(), "table".to_owned());
        order.run.memory = Some(Bytes(64 << 20));
        order.run.cpus = Some(MilliCpus(1500));
        order.run.pids = Some(100);
        let volume = |source: String, target: &str, read_only| Volume {
            source,
            target: target.to_owned(),
            read_only,
        };
        order.run.volumes = vec![
            volume(folder.display().to_string(), "/given", true),
            volume("cutover-given".to_owned(), "/data", false),
        ];
    })
    .await?;
    let inspect =
        async |template: &str| docker(&["inspect", "--format", template, &container.id]).await;
    let environment = inspect("{{json .Config.Env}}").await?;
    assert!(environment.contains("\"TOKEN=a b=c\""), "{environment}");
    assert!(environment.contains("\"LEVEL=table\"") && !environment.contains("LEVEL=file"));
    let limits =
        "{{with .HostConfig}}{{.Memory}} {{.MemorySwap}} {{.NanoCpus}} {{.PidsLimit}}{{end}}";
    assert_eq!(inspect(limits).await?, "67108864 67108864 1500000000 100");
    let rest = "{{with .HostConfig}}{{.Privileged}} {{.SecurityOpt}} {{.RestartPolicy.Name}} {{.NetworkMode}} {{len .PortBindings}} {{json .LogConfig}}{{end}}";
    let log = r#"{"Type":"json-file","Config":{"max-file":"3","max-size":"10000000"}}"#;
    let expected = format!("false [no-new-privileges] unless-stopped cutover 0 {log}");
    assert_eq!(inspect(rest).await?, expected);
    let mounts = inspect("{{range .Mounts}}{{.Destination}} {{.RW}};{{end}}").await?;
    assert!(
        mounts.contains("/given false;") && mounts.contains("/data true;"),
        "{mounts}"
    );
    for (name, expected) in [
        (labels::APP, "given"),
        (labels::DEPLOY, order.deploy.as_str()),
        (labels::RELEASE, "v1"),
        (labels::SLOT, "blue"),
        (labels::REPLICA, "0"),
        (labels::IMAGE, &order.image.to_string()),
        (labels::PORT, "8080"),
    ] {
        let label = inspect(&format!("{{{{index .Config.Labels {name:?}}}}}")).await?;
        assert_eq!(label, expected, "{name}");
    }

    let mut wrong = order.clone();
    wrong.release = ReleaseNumber(2);
    std::fs::write(&env_file, "TOKEN=1\nhunter2\n")?;
    let error = engine().start(&wrong).await.unwrap_err();
    assert!(
        error.reason.contains("shop.env, line 2: has no '='"),
        "{error:?}"
    );
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    std::fs::remove_file(&env_file)?;
    let error = engine().start(&wrong).await.unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Host, "{error:?}");
    wrong.run.env_file = None;
    wrong.run.volumes[0].source = "/srv/not-there".to_owned();
    let error = engine().start(&wrong).await.unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Host, "{error:?}");
    assert_eq!(only(&order).await?.id, container.id);
    Ok(())
}

#[tokio::test]
async fn an_image_whose_program_is_missing_is_the_releases_fault() -> anyhow::Result<()> {
    let image = build("missing", &[("VERSION", "1")]).await?;
    engine().pull(&image, None, &|_| {}).await?;
    let base = docker(&["create", &image.to_string()]).await?;
    let tagged = format!("{}:broken", image.repository);
    docker(&[
        "commit",
        "--change",
        r#"ENTRYPOINT ["/nowhere"]"#,
        &base,
        &tagged,
    ])
    .await?;
    docker(&["push", &tagged]).await?;
    let digests = docker(&[
        "inspect",
        "--format",
        "{{join .RepoDigests \"\\n\"}}",
        &tagged,
    ])
    .await?;
    let digest = digests
        .lines()
        .find(|d| !d.contains(image.digest.as_str()))
        .unwrap_or_default();

    let order = order("missing", digest.parse()?);
    let error = engine().start(&order).await.unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Release, "{error:?}");
    assert!(error.reason.contains("/nowhere"), "{error:?}");
    assert_eq!(engine().list(&order.app).await?, Vec::new());

    let absent = format!("{}@sha256:{}", image.repository, "0".repeat(64));
    let error = engine()
        .start(&orders::order("missing", absent.parse()?))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Request, "{error:?}");
    Ok(())
}

#[tokio::test]
async fn an_engine_that_is_down_is_unavailable_call_by_call() -> anyhow::Result<()> {
    let folder = host().folder("down")?;
    let socket = folder.join("docker.sock");
    let engine = Docker::connect(socket.to_str())?;
    let app = "shop".parse()?;
    let error = engine.list(&app).await.unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Unavailable, "{error:?}");
    // A socket that nobody listens on is what a killed engine leaves.
    drop(std::os::unix::net::UnixListener::bind(&socket)?);
    let error = engine.list(&app).await.unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Unavailable, "{error:?}");
    assert!(error.reason.to_lowercase().contains("refused"), "{error:?}");
    std::fs::remove_file(&socket)?;
    stub::socket(&socket, Says::Script(|_, _| stub::answer(200, "[]")))?;
    assert_eq!(engine.list(&app).await?, Vec::new());
    Ok(())
}
