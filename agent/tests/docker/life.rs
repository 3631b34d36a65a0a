//! What a running container answers, how it ends, and how it is ended.

use std::time::{Duration, Instant};

use cutover_agent::containers::{
    Container, ContainerErrorKind, ContainerState, Containers as _, HealthAnswer, LastEnd,
    StartOrder,
};
use cutover_agent::docker::Docker;
use cutover_plan::spec::Bytes;
use cutover_tests::host::{docker, host};
use cutover_tests::wait::eventually;

use crate::orders::{DEADLINE, engine, only, question, started};
use crate::stub::{self, Says};

/// Asks a container that listens at `address`.
async fn asked(container: &Container, path: &str) -> HealthAnswer {
    engine()
        .ask(container, &question(path), "shop.test")
        .await
        .unwrap()
}

#[tokio::test]
async fn health_is_what_the_container_itself_answers() -> anyhow::Result<()> {
    let (_, good) = started("good", &[("VERSION", "1")], |_| {}).await?;
    eventually("it is healthy", DEADLINE, async || {
        asked(&good, "/healthz").await == HealthAnswer::Good
    })
    .await?;
    let check = async |container: &Container, path: &str, expected: &str| {
        let expected = HealthAnswer::Bad(expected.to_owned());
        eventually("it answers so", DEADLINE, async || {
            let answer = asked(container, path).await;
            anyhow::ensure!(answer == expected, "{answer:?}");
            anyhow::Ok(())
        })
        .await
    };
    check(&good, "/slow?ms=5000", "no answer within 500ms").await?;
    check(&good, "/nowhere", "answered 404: error: no such page").await?;
    let sick = [("VERSION", "1"), ("UNHEALTHY", "no database")];
    let (_, sick) = started("sick", &sick, |_| {}).await?;
    check(&sick, "/healthz", "answered 503: unhealthy: no database").await?;
    let (_, slow) = started("slow", &[("VERSION", "1"), ("SLOW_START_S", "600")], |_| {}).await?;
    check(&slow, "/healthz", "connection refused").await?;
    let state = ContainerState::Exited {
        code: 3,
        out_of_memory: false,
        error: None,
    };
    check(
        &Container {
            state,
            ..good.clone()
        },
        "/",
        "it has ended with exit code 3",
    )
    .await?;

    let ContainerState::Running { since, .. } = good.state else {
        panic!("{good:?}")
    };
    for (says, expected) in [
        (
            Says::Bytes(
                "HTTP/1.1 301 Moved\r\nLocation: https://shop.test/\r\nContent-Length: 0\r\n\r\n",
            ),
            "answered 301 to https://shop.test/: redirects are not followed",
        ),
        (
            Says::Bytes("HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\na\r\n\tb\u{1b}[m"),
            "answered 500: a b [m",
        ),
        (
            Says::Begins("HTTP/1.1 502 No\r\nContent-Length: 9\r\n\r\nhalf"),
            "answered 502: half",
        ),
        (Says::Begins(""), "no answer within 500ms"),
        (
            Says::Bytes(""),
            "the connection was closed before an answer",
        ),
        (
            Says::Bytes("SSH-2.0-OpenSSH_9.2\r\n"),
            "what it answered is not HTTP/1.1",
        ),
    ] {
        let address = stub::port(says).await?;
        let state = ContainerState::Running { address, since };
        check(
            &Container {
                state,
                ..good.clone()
            },
            "/",
            expected,
        )
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_container_that_ends_shows_its_exit_code_its_restarts_and_its_last_lines()
-> anyhow::Result<()> {
    let (order, _) = started("ends", &[("VERSION", "1"), ("CRASH_AFTER_S", "1")], |_| {}).await?;
    let ended = eventually("it ends", DEADLINE, async || {
        let container = only(&order).await?;
        match container.state {
            ContainerState::Exited { code, .. } => anyhow::Ok((container, code)),
            state => anyhow::bail!("it is {state:?}"),
        }
    });
    let (container, code) = ended.await?;
    assert_eq!(code, 1);
    eventually("it is started anew", DEADLINE, async || {
        let container = only(&order).await?;
        anyhow::ensure!(container.restarts >= 1, "{container:?}");
        anyhow::Ok(())
    })
    .await?;
    let end = LastEnd {
        code: 1,
        out_of_memory: false,
    };
    assert_eq!(engine().last_end(&container).await?, Some(end));
    let lines = engine().last_lines(&container, 50).await?;
    assert!(!lines.is_empty() && lines.len() <= 50, "{lines:?}");
    assert!(engine().last_lines(&container, 1).await?.len() <= 1);
    engine().remove(&container, Duration::ZERO).await?;
    assert_eq!(
        engine().last_lines(&container, 50).await?,
        Vec::<String>::new()
    );
    Ok(())
}

#[tokio::test]
async fn a_container_that_ends_is_told_to_who_waits_for_news_of_its_app_alone() -> anyhow::Result<()>
{
    let (order, container) = started("news", &[("VERSION", "1")], |_| {}).await?;
    let other = "other".parse()?;
    let engine = engine();
    let (ours, others) = (engine.stirred(&order.app), engine.stirred(&other));
    tokio::pin!(ours, others);
    // The news begin when the engine has been asked; nothing tells when it was.
    let again = eventually("the end is told", DEADLINE, async || {
        tokio::select! {
            () = &mut others => anyhow::bail!("told to the other app, too"),
            () = &mut ours => anyhow::Ok(()),
            () = async {
                let _ = docker(&["restart", "--time", "0", &container.id]).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            } => anyhow::bail!("nothing was told"),
        }
    });
    again.await?;
    engine.remove(&container, Duration::ZERO).await?;
    Ok(())
}

#[tokio::test]
async fn a_container_over_its_memory_limit_is_seen_as_that() -> anyhow::Result<()> {
    let environment = [
        ("VERSION", "1"),
        ("MEMORY_MB", "200"),
        ("MEMORY_AFTER_S", "1"),
    ];
    let limit = |order: &mut StartOrder| {
        order.run.memory = Some(Bytes(32 << 20));
    };
    let (order, container) = started("memory", &environment, limit).await?;
    assert_eq!(engine().last_end(&container).await?, None);
    eventually("the kernel ends it", DEADLINE, async || {
        let state = only(&order).await?.state;
        match state {
            ContainerState::Exited {
                code: 137,
                out_of_memory: true,
                ..
            } => anyhow::Ok(()),
            state => anyhow::bail!("it is {state:?}"),
        }
    })
    .await?;
    // It may run again by now, and the engine still knows.
    let end = LastEnd {
        code: 137,
        out_of_memory: true,
    };
    assert_eq!(engine().last_end(&container).await?, Some(end));
    let error = engine()
        .preflight(&order.image, None, Some(Bytes(1 << 50)))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Host, "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_stop_is_graceful_then_final_and_removing_twice_is_fine() -> anyhow::Result<()> {
    let polite = [("VERSION", "1"), ("STOP_DELAY_S", "2")];
    let (_, polite) = started("polite", &polite, |_| {}).await?;
    eventually("it serves", DEADLINE, async || {
        asked(&polite, "/healthz").await == HealthAnswer::Good
    })
    .await?;
    let begun = Instant::now();
    engine().remove(&polite, Duration::from_secs(60)).await?;
    let took = begun.elapsed();
    assert!(
        (2..30).contains(&took.as_secs()),
        "the app was waited for, not its grace: {took:?}"
    );
    engine().remove(&polite, Duration::from_secs(60)).await?;

    let deaf = [("VERSION", "1"), ("IGNORE_SIGTERM", "1")];
    let (order, deaf) = started("deaf", &deaf, |_| {}).await?;
    eventually("it serves", DEADLINE, async || {
        asked(&deaf, "/healthz").await == HealthAnswer::Good
    })
    .await?;
    let begun = Instant::now();
    let engine = engine();
    let (one, other) = tokio::join!(
        engine.remove(&deaf, Duration::from_secs(2)),
        engine.remove(&deaf, Duration::from_secs(2)),
    );
    one?;
    other?;
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(engine.list(&order.app).await?, Vec::new());
    Ok(())
}

#[tokio::test]
async fn a_removal_that_another_began_is_waited_for() -> anyhow::Result<()> {
    let (_, container) = started("removed", &[("VERSION", "1")], |_| {}).await?;
    let socket = host().folder("removed")?.join("engine.sock");
    let script = |request: &str, number| match number {
        0 | 3 => {
            let labels = r#"{"cutover.app":"removed","cutover.deploy":"1"}"#;
            stub::answer(200, &format!(r#"{{"Config":{{"Labels":{labels}}}}}"#))
        }
        1 => stub::answer(304, ""),
        2 => {
            assert!(request.starts_with("DELETE "), "{request}");
            let message = "removal of container 4f1c is already in progress";
            stub::answer(409, &format!(r#"{{"message":{message:?}}}"#))
        }
        _ => stub::answer(404, r#"{"message":"No such container"}"#),
    };
    stub::socket(&socket, Says::Script(script))?;
    let engine = Docker::connect(socket.to_str())?;
    engine.remove(&container, Duration::ZERO).await?;
    Ok(())
}
