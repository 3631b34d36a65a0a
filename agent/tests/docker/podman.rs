//! The same driver at Podman's socket, which speaks for Docker's with words of
//! its own.
//!
//! Both engines give our network the same bridge, so Podman gets a network of
//! its own, and a registry in it: the test runs itself anew in there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cutover_agent::containers::{
    ContainerErrorKind, ContainerState, Containers as _, HealthAnswer, HookOrder, LastEnd,
    StartOrder,
};
use cutover_agent::docker::Docker;
use cutover_plan::id::{ImageReference, ReleaseNumber};
use cutover_plan::step::HookPoint;
use cutover_tests::host::host;
use cutover_tests::process::Process;
use cutover_tests::registry::{OTHER_PASSWORD, PASSWORD, PrivateRegistry, USER};
use cutover_tests::wait::eventually;
use cutover_wire::request::RegistryCredentials;

use crate::orders::{DEADLINE, build, order, question};

/// The image, where the test is inside.
const IMAGE: &str = "CUTOVER_TEST_PODMAN_IMAGE";

/// What Podman would leave on the machine: addresses that it gave, and the
/// control groups of containers that are gone.
const INSIDE: &str = r#"
set -e
ip link set lo up
mkdir -p /var/lib/cni && mount -t tmpfs tmpfs /var/lib/cni
status=0
"$@" || status=$?
find /sys/fs/cgroup -depth -path '*/libpod_parent*' -type d -exec rmdir {} + 2>/dev/null || :
exit "$status"
"#;

#[tokio::test]
async fn podmans_socket_works_too() -> anyhow::Result<()> {
    if let Ok(image) = std::env::var(IMAGE) {
        return works(&image).await;
    }
    let image = build("podman", &[("VERSION", "1")]).await?;
    let mut command = tokio::process::Command::new("unshare");
    command
        .args(["--net", "--mount", "--", "bash", "-c", INSIDE, "inside"])
        .arg(std::env::current_exe()?)
        .args(["--exact", "--nocapture"])
        .arg("podman::podmans_socket_works_too")
        .env(IMAGE, image.to_string());
    let ran = command.output().await?;
    let told = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{told}\n{errors}");
    assert!(told.contains("1 passed"), "{told}");
    Ok(())
}

/// Starts Podman's service with all its files in `folder`.
async fn serve(folder: &Path, registry: &str) -> anyhow::Result<(Process, Docker)> {
    let write = |name: &str, text: String| -> anyhow::Result<_> {
        let path = folder.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    };
    let at = |name: &str| folder.join(name).display().to_string();
    let storage = write(
        "storage.conf",
        format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = {:?}\nrunroot = {:?}\n",
            at("store"),
            at("run")
        ),
    )?;
    let containers = write(
        "containers.conf",
        format!(
            "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
             [network]\nnetwork_config_dir = {:?}\n",
            at("networks")
        ),
    )?;
    let registries = write(
        "registries.conf",
        format!("[[registry]]\nlocation = {registry:?}\ninsecure = true\n"),
    )?;
    let socket = folder.join("podman.sock");
    let mut command = Command::new("podman");
    command
        .args(["system", "service", "--time=0"])
        .arg(format!("unix://{}", socket.display()))
        .env("CONTAINERS_STORAGE_CONF", storage)
        .env("CONTAINERS_CONF", containers)
        .env("CONTAINERS_REGISTRIES_CONF", registries);
    let service = Process::spawn(command)?;
    eventually("Podman serves", DEADLINE, async || socket.exists()).await?;
    Ok((service, Docker::connect(socket.to_str())?))
}

/// What the driver does, in the network of its own.
async fn works(image: &str) -> anyhow::Result<()> {
    let folder = host().folder("podman")?;
    let registry = PrivateRegistry::start(&folder).await?;
    let (_service, engine) = serve(&folder, &registry.name).await?;
    let (_, image) = image.split_once('/').unwrap();
    let image: ImageReference = format!("{}/{image}", registry.name).parse()?;

    // It does not know the question, and pulls.
    let [right, wrong] = [PASSWORD, OTHER_PASSWORD].map(|password| RegistryCredentials {
        username: USER.to_owned(),
        password: password.to_owned(),
    });
    let found = engine.preflight(&image, Some(&wrong), None).await?;
    assert!(
        found.ends_with("the registry could not be asked: Not Found"),
        "{found}"
    );
    let error = engine
        .pull(&image, Some(&wrong), &|_| {})
        .await
        .unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Denied, "{error:?}");
    let told = engine.pull(&image, Some(&right), &|_| {}).await?;
    assert!(told.contains("pulled"), "{told}");
    let found = engine.preflight(&image, Some(&right), None).await?;
    assert!(found.ends_with("the image is on the host"), "{found}");

    let serves = order("podman", image.clone());
    let serving = engine.start(&serves).await?;
    let again = engine.start(&serves).await?;
    assert_eq!(again.id, serving.id);
    eventually("it serves", DEADLINE, async || {
        let said = engine
            .ask(&serving, &question("/healthz"), "shop.test")
            .await?;
        anyhow::ensure!(said == HealthAnswer::Good, "{said:?}");
        anyhow::Ok(())
    })
    .await?;
    assert_eq!(engine.last_end(&serving).await?, None);

    // One that ends is started anew at once, and is `stopped` in between. A question
    // that meets its end may fail: Podman looks for its process then.
    let mut ends = serves.clone();
    ends.release = ReleaseNumber(2);
    let says = ("EXIT_AT_START".to_owned(), "no database".to_owned());
    ends.run.env.0.extend([says]);
    let asked = async || {
        let started = engine.start(&ends).await;
        if let Err(error) = &started {
            let is_seen = error.kind == ContainerErrorKind::Release;
            anyhow::ensure!(is_seen && error.reason.contains("right away"), "{error:?}");
        }
        let all = engine.list(&serves.app).await?;
        let [first, second] = &all[..] else {
            anyhow::bail!("{all:?}")
        };
        anyhow::ensure!(first.address().is_some(), "{first:?}");
        let code = match second.state {
            ContainerState::Exited { code, .. } => code,
            _ => anyhow::bail!("{second:?}"),
        };
        let end = engine.last_end(second).await?;
        let lines = engine.last_lines(second, 50).await?;
        anyhow::Ok((second.clone(), code, end, lines))
    };
    let (ended, code, end, lines) = eventually("its end is seen", DEADLINE, asked).await?;
    let expected = LastEnd {
        code: 1,
        out_of_memory: false,
    };
    assert_eq!((code, end), (1, Some(expected)));
    let told = lines.iter().any(|line| line.contains("no database"));
    assert!(told, "{lines:?}");
    eventually("it is gone", DEADLINE, async || {
        engine.remove(&ended, Duration::ZERO).await
    })
    .await?;

    let hook = hook(&ends);
    let end = eventually("the hook ends", DEADLINE, async || {
        engine.run_hook(&hook, &|_| {}).await
    })
    .await?;
    assert_eq!(end.code, 1, "{end:?}");
    let all = engine.list(&serves.app).await?;
    assert_eq!(all.len(), 1, "a hook is no container of a release");
    engine.remove_hooks(&serves.app, Duration::ZERO).await?;

    let kept = engine.prune(image.repository.as_str(), &[]).await?;
    assert!(kept.starts_with("no image"), "it is used: {kept}");
    for _ in 0..2 {
        engine.remove(&serving, Duration::from_secs(1)).await?;
    }
    assert_eq!(engine.list(&serves.app).await?, Vec::new());
    let pruned = engine.prune(image.repository.as_str(), &[]).await?;
    assert!(pruned.starts_with("removed 1 image"), "{pruned}");
    Ok(())
}

fn hook(like: &StartOrder) -> HookOrder {
    HookOrder {
        app: like.app.clone(),
        deploy: like.deploy.clone(),
        release: like.release,
        point: HookPoint::BeforeStart,
        image: like.image.clone(),
        command: vec!["migrate".to_owned()],
        run: like.run.clone(),
    }
}
