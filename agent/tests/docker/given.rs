//! What each key of the run spec makes of a container.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use cutover_agent::containers::{
    Container, ContainerErrorKind, ContainerState, Containers as _, HealthAnswer, HookOrder,
    StartOrder,
};
use cutover_agent::docker::labels;
use cutover_plan::id::{ImageReference, ReleaseNumber};
use cutover_plan::spec::{Bytes, DockerHealth, ExtraHost, Logging, Tmpfs, Ulimit, Volume};
use cutover_plan::step::{HealthCheck, HookPoint, Question};
use cutover_tests::host::{docker, host};
use cutover_tests::wait::eventually;

use crate::orders::{DEADLINE, build, engine, order, question, started};

/// What the engine says of a container.
async fn inspect(container: &Container, template: &str) -> anyhow::Result<String> {
    docker(&["inspect", "--format", template, &container.id]).await
}

async fn asked(container: &Container, check: &HealthCheck) -> HealthAnswer {
    let engine = engine();
    engine.ask(container, check, "shop.test").await.unwrap()
}

#[tokio::test]
async fn every_key_of_the_run_spec_reaches_the_container() -> anyhow::Result<()> {
    docker(&["network", "create", "databases"]).await?;
    let (_, container) = started("every", &[("VERSION", "1")], |order| {
        let run = &mut order.run;
        let tmpfs = |target: &str, size| Tmpfs {
            target: target.to_owned(),
            size,
        };
        run.tmpfs = vec![tmpfs("/tmp", Some(Bytes(64 << 20))), tmpfs("/run", None)];
        run.user = Some("1000:1001".to_owned());
        run.read_only = true;
        run.command = Some(vec!["serve".to_owned(), "a b".to_owned()]);
        run.entrypoint = Some(vec!["/app".to_owned(), "-v".to_owned()]);
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        // A file with one of ours is refused; should one come by another way, ours win.
        run.labels = [label("com.example.team", "web"), label(labels::APP, "x")].into();
        let unlimited = Ulimit::UNLIMITED;
        let limit = |name: &str, soft, hard| (name.to_owned(), Ulimit { soft, hard });
        run.ulimits = [limit("nofile", 512, 1024), limit("core", 0, unlimited)].into();
        run.stop_signal = Some("SIGQUIT".to_owned());
        run.logging = Logging {
            max_size: Bytes(1 << 20),
            max_files: 2,
        };
        run.networks = ["databases".to_owned()].into();
        let extra = |name: &str, address: Option<[u8; 4]>| ExtraHost {
            name: name.to_owned(),
            address: address.map(IpAddr::from),
        };
        run.extra_hosts = vec![extra("db", Some([10, 0, 0, 5])), extra("host", None)];
    })
    .await?;
    for (template, expected) in [
        (
            "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}}",
            "1000:1001 true",
        ),
        (
            "{{json .HostConfig.Tmpfs}}",
            r#"{"/run":"","/tmp":"size=67108864"}"#,
        ),
        (
            "{{json .Config.Entrypoint}} {{json .Config.Cmd}}",
            r#"["/app","-v"] ["serve","a b"]"#,
        ),
        (
            r#"{{index .Config.Labels "com.example.team"}} {{index .Config.Labels "cutover.app"}}"#,
            "web every",
        ),
        (
            "{{range .HostConfig.Ulimits}}{{.Name}} {{.Soft}} {{.Hard}};{{end}}",
            "core 0 -1;nofile 512 1024;",
        ),
        ("{{.Config.StopSignal}}", "SIGQUIT"),
        (
            "{{json .HostConfig.LogConfig.Config}}",
            r#"{"max-file":"2","max-size":"1048576"}"#,
        ),
        (
            "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}};{{end}}",
            "cutover;databases;",
        ),
        (
            "{{json .HostConfig.ExtraHosts}}",
            r#"["db:10.0.0.5","host:host-gateway"]"#,
        ),
        ("{{json .Config.Healthcheck.Test}}", r#"["NONE"]"#),
        (
            r#"{{index .Config.Labels "cutover.health"}}"#,
            labels::IGNORE,
        ),
    ] {
        assert_eq!(inspect(&container, template).await?, expected, "{template}");
    }
    let template = "{{.NetworkSettings.Networks.cutover.IPAddress}}";
    let address = inspect(&container, template).await?;
    let reached = container.address().map(|address| address.ip().to_string());
    assert_eq!(reached, Some(address), "the proxy's network is ours");
    eventually("it serves", DEADLINE, async || {
        asked(&container, &question("/healthz")).await == HealthAnswer::Good
    })
    .await?;
    // What the kernel holds the app to.
    let pid = inspect(&container, "{{.State.Pid}}").await?;
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let open = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<&str> = open.unwrap_or_default().split_whitespace().collect();
    assert_eq!(words, ["Max", "open", "files", "512", "1024", "files"]);
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mounts"))?;
    let tmp = mounts.lines().find(|line| line.contains(" /tmp tmpfs "));
    assert!(
        tmp.is_some_and(|line| line.contains("size=65536k")),
        "{mounts}"
    );
    let root = mounts
        .lines()
        .find(|line| line.split(' ').nth(1) == Some("/"));
    assert!(root.is_some_and(|line| line.contains(" ro,")), "{mounts}");
    Ok(())
}

#[tokio::test]
async fn a_network_that_is_not_there_is_the_hosts_fault() -> anyhow::Result<()> {
    let (order, _) = started("lonely", &[("VERSION", "1")], |_| {}).await?;
    let mut next = order.clone();
    next.release = ReleaseNumber(2);
    next.run.networks = ["nowhere".to_owned()].into();
    let error = engine().start(&next).await.unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Host, "{error:?}");
    assert!(error.reason.contains("no network nowhere"), "{error:?}");
    let hint = error.hint.unwrap_or_default();
    assert_eq!(hint, "make it: docker network create nowhere");
    assert_eq!(engine().list(&order.app).await?.len(), 1, "nothing is left");
    Ok(())
}

#[tokio::test]
async fn a_user_that_the_image_does_not_know_is_told() -> anyhow::Result<()> {
    let image = build("nobody", &[("VERSION", "1")]).await?;
    engine().pull(&image, None, &|_| {}).await?;
    let mut order = order("nobody", image);
    order.run.user = Some("somebody".to_owned());
    let error = engine().start(&order).await.unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Release, "{error:?}");
    assert!(error.reason.contains("somebody"), "{error:?}");
    assert!(error.hint.is_some_and(|hint| hint.contains("number")));
    assert_eq!(engine().list(&order.app).await?, Vec::new());
    Ok(())
}

/// An image with a HEALTHCHECK, which lists `/switch/on` with the host's `ls`.
async fn checked(app: &str) -> anyhow::Result<ImageReference> {
    let image = build(app, &[("VERSION", "1")]).await?;
    engine().pull(&image, None, &|_| {}).await?;
    let base = docker(&["create", &image.to_string()]).await?;
    let tagged = format!("{}:checked", image.repository);
    let check = r#"HEALTHCHECK --interval=1s --retries=1 CMD ["/usr/bin/ls", "/switch/on"]"#;
    docker(&["commit", "--change", check, &base, &tagged]).await?;
    docker(&["push", &tagged]).await?;
    let template = "{{join .RepoDigests \"\\n\"}}";
    let digests = docker(&["inspect", "--format", template, &tagged]).await?;
    let digest = digests.lines().find(|d| !d.contains(image.digest.as_str()));
    Ok(digest.unwrap_or_default().parse()?)
}

/// Starts it with the host's programs and `switch`.
async fn with_programs(
    order: &mut StartOrder,
    switch: &Path,
    docker_health: DockerHealth,
) -> anyhow::Result<Container> {
    let folder = |source: &str, target: &str| Volume {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: true,
    };
    let programs = ["/usr", "/lib", "/lib64"].into_iter();
    let programs = programs.filter(|path| Path::new(path).exists());
    order.run.volumes = programs.map(|path| folder(path, path)).collect();
    let switch = switch.display().to_string();
    order.run.volumes.push(folder(&switch, "/switch"));
    order.run.docker_health = docker_health;
    Ok(engine().start(order).await?)
}

#[tokio::test]
async fn the_images_own_check_counts_where_it_is_required() -> anyhow::Result<()> {
    let switch = host().folder("switch")?;
    let mut order = order("checked", checked("checked").await?);
    let container = with_programs(&mut order, &switch, DockerHealth::Require).await?;
    let require = HealthCheck {
        docker: DockerHealth::Require,
        ..question("/healthz")
    };
    let says = async |check: &HealthCheck, expected: &str| {
        eventually("it says so", DEADLINE, async || {
            let text = format!("{:?}", asked(&container, check).await);
            anyhow::ensure!(text.contains(expected), "{text}");
            anyhow::Ok(())
        })
        .await
    };
    says(&question("/healthz"), "Good").await?;
    says(&require, "its HEALTHCHECK says unhealthy, exit code 2: ").await?;
    says(&require, "/switch/on").await?;
    std::fs::write(switch.join("on"), "")?;
    says(&require, "Good").await?;
    // The app's own answer is asked for as well.
    let nowhere = HealthCheck {
        question: Question::Get("/nowhere".to_owned()),
        ..require.clone()
    };
    says(&nowhere, "answered 404").await?;
    Ok(())
}

#[tokio::test]
async fn a_command_in_the_container_or_a_connection_can_be_the_question() -> anyhow::Result<()> {
    let switch = host().folder("asked")?;
    let image = build("asked", &[("VERSION", "1")]).await?;
    engine().pull(&image, None, &|_| {}).await?;
    let mut order = order("asked", image);
    let container = with_programs(&mut order, &switch, DockerHealth::Ignore).await?;
    let run = |command: &[&str]| HealthCheck {
        question: Question::Run(command.iter().map(|word| word.to_string()).collect()),
        timeout: Duration::from_secs(10),
        ..question("/")
    };
    let bad = async |check: &HealthCheck| match asked(&container, check).await {
        HealthAnswer::Bad(reason) => reason,
        HealthAnswer::Good => "good".to_owned(),
    };
    let list = run(&["/usr/bin/ls", "/switch/on"]);
    // What it writes may be a secret, and a reason is shown in public.
    assert_eq!(bad(&list).await, "exit code 2");
    std::fs::write(switch.join("on"), "")?;
    assert_eq!(asked(&container, &list).await, HealthAnswer::Good);
    // What is not a shell's to read stays as it is.
    let odd = run(&["/usr/bin/ls", "/switch/on;true"]);
    assert_eq!(bad(&odd).await, "exit code 2");
    // One that is too slow is no better for having ended well after all.
    let slow = HealthCheck {
        timeout: Duration::from_secs(1),
        ..run(&["/usr/bin/sleep", "1.5"])
    };
    assert_eq!(bad(&slow).await, "did not end within 1s");
    assert_eq!(bad(&slow).await, "the one before took too long");
    let reason = bad(&run(&["/nowhere"])).await;
    assert!(reason.contains("no such program"), "{reason}");
    // An output without end is not kept, nor waited for without one.
    let endless = HealthCheck {
        timeout: Duration::from_secs(1),
        ..run(&["/usr/bin/yes"])
    };
    assert_eq!(bad(&endless).await, "did not end within 1s");
    assert_eq!(bad(&endless).await, "did not end within 1s");
    let top = docker(&["top", &container.id, "-eo", "pid,args"]).await?;
    assert_eq!(
        top.matches("/usr/bin/yes").count(),
        1,
        "they pile up: {top}"
    );

    let connect = HealthCheck {
        question: Question::Connect {},
        ..question("/")
    };
    eventually("its port is open", DEADLINE, async || {
        asked(&container, &connect).await == HealthAnswer::Good
    })
    .await?;
    let mut elsewhere = container.clone();
    elsewhere.state = ContainerState::Running {
        address: std::net::SocketAddr::new(container.address().unwrap().ip(), 1),
        since: jiff::Timestamp::now(),
    };
    let refused = HealthAnswer::Bad("connection refused".to_owned());
    assert_eq!(asked(&elsewhere, &connect).await, refused);
    // And with it what has no end.
    engine().remove(&container, Duration::ZERO).await?;
    Ok(())
}

#[tokio::test]
async fn the_images_own_check_does_not_run_where_it_is_ignored() -> anyhow::Result<()> {
    let switch = host().folder("unswitched")?;
    let mut order = order("unchecked", checked("unchecked").await?);
    let container = with_programs(&mut order, &switch, DockerHealth::Ignore).await?;
    let health = inspect(&container, "{{json .State.Health}}").await?;
    assert_eq!(health, "null");
    // One that was made so stays good when the app's file comes to require it.
    let require = HealthCheck {
        docker: DockerHealth::Require,
        ..question("/healthz")
    };
    eventually("it is healthy", DEADLINE, async || {
        asked(&container, &require).await == HealthAnswer::Good
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_hook_is_in_the_apps_networks_and_runs_no_check() -> anyhow::Result<()> {
    docker(&["network", "create", "migrated"]).await?;
    let order = order("migrate", checked("migrate").await?);
    let mut hook = HookOrder {
        app: order.app,
        deploy: order.deploy,
        release: order.release,
        point: HookPoint::BeforeStart,
        image: order.image,
        command: vec!["migrate".to_owned()],
        run: order.run,
    };
    hook.run.docker_health = DockerHealth::Require;
    hook.run.networks = ["nowhere".to_owned()].into();
    let end = [("EXIT_AT_START".to_owned(), "done".to_owned())];
    hook.run.env.0.extend(end);
    let error = engine().run_hook(&hook, &|_| {}).await.unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Host, "{error:?}");

    hook.run.networks = ["migrated".to_owned()].into();
    let end = engine().run_hook(&hook, &|_| {}).await?;
    assert_eq!(end.code, 1, "{end:?}");
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}};{{end}}";
    let template = format!("{networks} {{{{json .Config.Healthcheck.Test}}}}");
    let found = docker(&["inspect", "--format", &template, &hook.name()]).await?;
    assert_eq!(found, r#"cutover;migrated; ["NONE"]"#);
    engine().remove_hooks(&hook.app, Duration::ZERO).await?;
    Ok(())
}
