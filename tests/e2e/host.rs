//! The test host itself: an engine, a registry, and an app that does as it is
//! told. When these fail, no other end-to-end test means anything.

use std::time::Duration;

use anyhow::Context as _;
use cutover_tests::container::Container;
use cutover_tests::host::{docker, host};
use cutover_tests::image;
use cutover_tests::load::{Journal, Kind, Load};
use cutover_tests::request::get;
use cutover_tests::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(20);

async fn run(name: &str, environment: &[(&str, &str)]) -> anyhow::Result<Container> {
    let image = image::build(name, environment).await?;
    Container::run(&image.reference(), &[]).await
}

/// Runs an app in a network of its own, for a load that outlives it: on the
/// shared bridge another test's container may get its address.
async fn run_apart(name: &str, environment: &[(&str, &str)]) -> anyhow::Result<Container> {
    let image = image::build(name, environment).await?;
    docker(&["network", "create", name]).await?;
    Container::run(&image.reference(), &[&format!("--network={name}")]).await
}

#[tokio::test]
async fn an_image_goes_to_the_registry_and_comes_back_by_digest() -> anyhow::Result<()> {
    let blue = image::build("roundtrip", &[("VERSION", "blue")]).await?;
    let green = image::build(
        "roundtrip",
        &[("VERSION", "green"), ("NOTE", "a \"quoted\" $word")],
    )
    .await?;
    assert_ne!(blue.digest, green.digest);
    assert!(blue.reference().starts_with(&host().registry));
    assert!(
        docker(&["image", "inspect", &blue.reference()])
            .await
            .is_err()
    );

    docker(&["pull", &blue.reference()]).await?;
    let container = Container::run(&blue.reference(), &[]).await?;
    let answer = get(container.answering().await?, "/").await?;
    assert_eq!(answer.header("x-app-version"), Some("blue"));
    Ok(())
}

#[tokio::test]
async fn a_load_of_every_kind_is_answered_exactly_once() -> anyhow::Result<()> {
    let app = run("exact", &[("VERSION", "7"), ("JOURNAL", "stdout")]).await?;
    let address = app.answering().await?;
    let load = Load::new(address, "exact.test")?
        .users_of_every_kind()
        .events(5, Duration::from_millis(10))
        .requests(600);
    let report = load.start()?.finished().await?;
    report.ensure_none_failed()?;

    for journal in [
        Journal::of(address).await?,
        Journal::from_log(&app.logs().await?),
    ] {
        let summary = report.summary(&[journal]);
        assert_eq!((summary.sent, summary.ok), (600, 600), "{summary}");
        assert!(summary.lost.is_empty(), "{summary}");
        assert!(summary.duplicated.is_empty(), "{summary}");
        assert_eq!(summary.kinds.len(), 5, "{summary}");
        assert_eq!(summary.versions, ["7"], "{summary}");
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_app_costs_every_kind_of_user_a_request() -> anyhow::Result<()> {
    let app = run_apart("killed", &[("VERSION", "1")]).await?;
    let address = app.answering().await?;
    let load = Load::new(address, "killed.test")?
        .users_of_every_kind()
        .timeout(Duration::from_secs(2))
        .start()?;
    load.more_ok(50, DEADLINE).await?;
    docker(&["kill", app.id()]).await?;
    eventually("requests fail", DEADLINE, async || load.failed() >= 6).await?;
    let report = load.stop().await?;
    for kind in [
        Kind::KeepAlive,
        Kind::Fresh,
        Kind::Post,
        Kind::WebSocket,
        Kind::Events,
    ] {
        assert!(
            report.failed().any(|record| record.kind == kind),
            "{kind:?}"
        );
    }
    assert!(report.ensure_none_failed().is_err());
    Ok(())
}

#[tokio::test]
async fn an_app_that_stops_finishes_what_it_began() -> anyhow::Result<()> {
    let app = run_apart("stops", &[("VERSION", "1")]).await?;
    let address = app.answering().await?;
    let load = Load::new(address, "stops.test")?
        .users(Kind::Events, 2)
        .users(Kind::WebSocket, 2)
        .events(1000, Duration::from_millis(10))
        .timeout(Duration::from_secs(2))
        .start()?;
    load.more_ok(10, DEADLINE).await?;
    let slow = tokio::spawn(async move { get(address, "/slow?ms=700").await });
    eventually("the slow request is there", DEADLINE, async || {
        // Its connection shows up beside those of the load.
        Ok::<_, anyhow::Error>(established(&app).await? >= 5)
            .and_then(|there| there.then_some(()).context("not yet"))
    })
    .await?;
    docker(&["kill", "--signal=TERM", app.id()]).await?;
    assert_eq!(app.exit_code(DEADLINE).await?, 0);
    assert_eq!(slow.await??.text(), "waited 700 ms\n");
    let report = load.stop().await?;
    // Whoever came later was refused; nobody was cut off.
    for record in report.failed() {
        let outcome = format!("{:?}", record.outcome);
        assert!(outcome.contains("Connect"), "{record:?}");
    }
    Ok(())
}

/// Connections that the container's network has open.
async fn established(app: &Container) -> anyhow::Result<usize> {
    let pid = app.inspect("{{.State.Pid}}").await?;
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let states = table
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3));
    Ok(states.filter(|state| *state == "01").count())
}

#[tokio::test]
async fn an_error_rate_is_exact() -> anyhow::Result<()> {
    let app = run("errors", &[("VERSION", "bad"), ("ERROR_RATE", "0.25")]).await?;
    let address = app.answering().await?;
    let load = Load::new(address, "errors.test")?.users(Kind::KeepAlive, 1);
    let report = load.requests(40).start()?.finished().await?;
    assert_eq!(report.failed().count(), 10);
    let summary = report.summary(&[]);
    assert_eq!(summary.failed["KeepAlive, Status: 500"], 10);
    assert_eq!(summary.answers["bad"], 40);
    Ok(())
}

#[tokio::test]
async fn an_app_goes_bad_when_told_to() -> anyhow::Result<()> {
    let app = run(
        "goes-bad",
        &[
            ("VERSION", "1"),
            ("ERRORS_AFTER_S", "1"),
            ("UNHEALTHY", "no database"),
            ("UNHEALTHY_AFTER_S", "1"),
        ],
    )
    .await?;
    let address = app.answering().await?;
    assert_eq!(get(address, "/").await?.status, 200);
    eventually("it goes bad", DEADLINE, async || {
        let status = get(address, "/").await?.status;
        (status == 500).then_some(()).context(status)
    })
    .await?;
    let health = get(address, "/healthz").await?;
    assert_eq!(health.status, 503);
    assert_eq!(health.text(), "unhealthy: no database\n");
    Ok(())
}

#[tokio::test]
async fn an_app_that_cannot_start_says_why() -> anyhow::Result<()> {
    let app = run(
        "no-start",
        &[("VERSION", "1"), ("EXIT_AT_START", "no such table: orders")],
    )
    .await?;
    assert_eq!(app.exit_code(DEADLINE).await?, 1);
    assert_eq!(app.logs().await?, "error: no such table: orders");
    Ok(())
}

#[tokio::test]
async fn an_app_starts_slowly_and_crashes() -> anyhow::Result<()> {
    let environment = [
        ("VERSION", "1"),
        ("SLOW_START_S", "1"),
        ("CRASH_AFTER_S", "2"),
    ];
    let app = run("crash", &environment).await?;
    assert!(get(app.address().await?, "/").await.is_err());
    get(app.answering().await?, "/").await?;
    assert_eq!(app.exit_code(DEADLINE).await?, 1);
    Ok(())
}

#[tokio::test]
async fn an_app_over_its_memory_limit_is_killed() -> anyhow::Result<()> {
    let image = image::build("memory", &[("VERSION", "1"), ("MEMORY_MB", "64")]).await?;
    let app = Container::run(&image.reference(), &["--memory=32m"]).await?;
    assert_eq!(app.exit_code(DEADLINE).await?, 137);
    assert_eq!(app.inspect("{{.State.OOMKilled}}").await?, "true");

    let app = Container::run(&image.reference(), &["--memory=128m"]).await?;
    let address = app.answering().await?;
    eventually("the memory is taken", DEADLINE, async || {
        app.logs()
            .await
            .is_ok_and(|logs| logs.contains("took 64 MB"))
    })
    .await?;
    assert_eq!(get(address, "/").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn an_app_that_ignores_sigterm_has_to_be_killed() -> anyhow::Result<()> {
    let app = run("stubborn", &[("VERSION", "1"), ("IGNORE_SIGTERM", "1")]).await?;
    app.answering().await?;
    docker(&["stop", "--time=1", app.id()]).await?;
    assert_eq!(app.exit_code(DEADLINE).await?, 137);
    assert!(app.logs().await?.contains("SIGTERM ignored"));
    Ok(())
}

#[tokio::test]
async fn a_published_port_is_open_inside_the_host() -> anyhow::Result<()> {
    let image = image::build("published", &[("VERSION", "1")]).await?;
    let app = Container::run(&image.reference(), &["--publish=127.0.0.1:18480:8080"]).await?;
    app.answering().await?;
    let answer = get("127.0.0.1:18480".parse()?, "/").await?;
    assert_eq!(answer.header("x-app-version"), Some("1"));
    Ok(())
}
