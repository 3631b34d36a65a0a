//! Images: pulled by digest, with and without credentials, and pruned.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use cutover_agent::containers::{ContainerErrorKind, Containers as _};
use cutover_plan::id::{Digest, ImageReference};
use cutover_plan::spec::Bytes;
use cutover_tests::host::{docker, host};
use cutover_tests::request::send;
use cutover_wire::request::RegistryCredentials;
use sha2::Digest as _;

use crate::orders::{build, engine, order};
use crate::private_registry;

#[tokio::test]
async fn an_image_is_pulled_by_digest_and_found_the_second_time() -> anyhow::Result<()> {
    let image = build("pulled", &[("VERSION", "1")]).await?;
    let found = engine().preflight(&image, Some(Bytes(32 << 20))).await?;
    assert!(
        found.contains("of disk free") && found.contains("to be pulled"),
        "{found}"
    );
    let sentence = engine().pull(&image, None, &|_| {}).await?;
    assert!(
        sentence.starts_with(&format!("{image} pulled")),
        "{sentence}"
    );

    let progress = Mutex::new(0);
    let sentence = engine()
        .pull(&image, None, &|_| *progress.lock().unwrap() += 1)
        .await?;
    assert!(sentence.contains("on the host already"), "{sentence}");
    assert_eq!(*progress.lock().unwrap(), 0);
    let found = engine().preflight(&image, None).await?;
    assert!(found.contains("the image is on the host"), "{found}");
    Ok(())
}

#[tokio::test]
async fn an_image_that_is_not_there_is_told_from_a_registry_that_is_not() -> anyhow::Result<()> {
    let image = build("absent", &[("VERSION", "1")]).await?;
    let digest = format!("sha256:{}", "0".repeat(64));
    let check = async |reference: String, kind, part: &str| {
        let image: ImageReference = reference.parse().unwrap();
        let error = engine().pull(&image, None, &|_| {}).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.reason.contains(part), "{error:?}");
    };
    let known = &image.repository;
    check(
        format!("{known}@{digest}"),
        ContainerErrorKind::Request,
        "not found",
    )
    .await;
    let registry = &host().registry;
    check(
        format!("{registry}/nowhere@{digest}"),
        ContainerErrorKind::Request,
        "pulling",
    )
    .await;
    let down = format!("localhost:1/shop@{digest}");
    check(down, ContainerErrorKind::Unavailable, "connection refused").await;
    Ok(())
}

#[tokio::test]
async fn a_private_image_is_pulled_with_credentials_that_no_error_shows() -> anyhow::Result<()> {
    let digest = image_of_its_own("private").await?;
    // Three places of each letter that plain base64 and the one for URLs differ in.
    let password = "hunter2>>>???~~~";
    let registry = private_registry::open("robot", password).await?;
    let image: ImageReference = format!("{registry}/private@{digest}").parse()?;

    let error = engine().pull(&image, None, &|_| {}).await.unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Request, "{error:?}");
    assert!(
        error
            .hint
            .is_some_and(|hint| hint.contains("wants credentials"))
    );

    let credentials = |password: &str| RegistryCredentials {
        username: "robot".to_owned(),
        password: password.to_owned(),
    };
    let wrong = credentials("hunter3");
    let error = engine()
        .pull(&image, Some(&wrong), &|_| {})
        .await
        .unwrap_err();
    assert_eq!(error.kind, ContainerErrorKind::Request, "{error:?}");
    assert!(!format!("{error:?}").contains("hunter3"), "{error:?}");

    let told = Mutex::new(Vec::new());
    let right = credentials(password);
    engine()
        .pull(&image, Some(&right), &|sentence| {
            told.lock().unwrap().push(sentence)
        })
        .await?;
    let told = told.into_inner()?;
    assert!(
        told.iter().all(|told| told.contains("layers ready")),
        "{told:?}"
    );
    // The registry takes two seconds, so there is news on the way.
    assert!(
        told.iter().any(|told| told.contains("of 4 MiB downloaded")),
        "{told:?}"
    );
    Ok(())
}

/// Has the registry give an image as one that is made for another processor:
/// no engine of this one makes it.
async fn made_for(image: &ImageReference, architecture: &str) -> anyhow::Result<ImageReference> {
    let manifest_type = "application/vnd.docker.distribution.manifest.v2+json";
    let (registry, name) = image.repository.as_str().split_once('/').unwrap();
    let port = registry.rsplit(':').next().unwrap().parse()?;
    let registry = SocketAddr::from(([127, 0, 0, 1], port));
    let ask = async |method: &str, path: &str, kind: &str, body: Vec<u8>| {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", registry.to_string())
            .header("accept", manifest_type)
            .header("content-type", kind);
        let answer = send(registry, request.body(body.into())?).await?;
        anyhow::ensure!(answer.status.is_success(), "{path}: {}", answer.text());
        Ok(answer)
    };
    let path = format!("/v2/{name}/manifests/{}", image.digest);
    let manifest = ask("GET", &path, "", Vec::new()).await?;
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest.body)?;
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config = ask("GET", &format!("/v2/{name}/blobs/{config}"), "", Vec::new()).await?;
    let mut config: serde_json::Value = serde_json::from_slice(&config.body)?;
    config["architecture"] = architecture.into();
    let config = serde_json::to_vec(&config)?;
    let digest = sha2::Sha256::digest(&config);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let digest = format!("sha256:{digest}");
    manifest["config"]["digest"] = digest.clone().into();
    manifest["config"]["size"] = config.len().into();
    let begun = ask(
        "POST",
        &format!("/v2/{name}/blobs/uploads/"),
        "",
        Vec::new(),
    )
    .await?;
    let place: http::Uri = begun.header("location").unwrap_or_default().parse()?;
    let place = place.path_and_query().unwrap().to_string();
    let path = format!("{place}&digest={digest}");
    ask("PUT", &path, "application/octet-stream", config).await?;
    let path = format!("/v2/{name}/manifests/{architecture}");
    let put = ask("PUT", &path, manifest_type, serde_json::to_vec(&manifest)?).await?;
    let digest = put.header("docker-content-digest").unwrap_or_default();
    Ok(format!("{}@{digest}", image.repository).parse()?)
}

#[tokio::test]
async fn an_image_of_another_processor_is_refused_by_its_pull() -> anyhow::Result<()> {
    let base = build("foreigner", &[("VERSION", "1")]).await?;
    let image = made_for(&base, "s390x").await?;
    // Also the second time, when it is on the host.
    for _ in 0..2 {
        let error = engine().pull(&image, None, &|_| {}).await.unwrap_err();
        assert_eq!(error.kind, ContainerErrorKind::Request, "{error:?}");
        let told = "is made for s390x, and the host's processor is";
        assert!(error.reason.contains(told), "{error:?}");
        assert!(
            error
                .hint
                .is_some_and(|hint| hint.contains("build the image for linux/"))
        );
    }
    Ok(())
}

/// Pushes an image with a layer that no other has, since the engine downloads
/// none that it knows, and gives its digest.
async fn image_of_its_own(name: &str) -> anyhow::Result<Digest> {
    let base = build(name, &[("VERSION", "1")]).await?;
    let mut content = vec![0; 4 << 20];
    getrandom::fill(&mut content).map_err(|error| anyhow::anyhow!("{error}"))?;
    let file = host().folder(name)?.join("layer");
    std::fs::write(&file, content)?;
    let container = docker(&["create", &base.to_string()]).await?;
    let goal = format!("{container}:/layer");
    docker(&["cp", &file.display().to_string(), &goal]).await?;
    let tagged = format!("{}:own", base.repository);
    docker(&["commit", &container, &tagged]).await?;
    let pushed = docker(&["push", &tagged]).await?;
    docker(&["rm", &container]).await?;
    docker(&["image", "rm", &tagged]).await?;
    let digest = pushed
        .split_whitespace()
        .find(|word| word.starts_with("sha256:"));
    Ok(digest.unwrap_or_default().parse()?)
}

#[tokio::test]
async fn pruning_keeps_what_is_kept_used_tagged_or_of_another_repository() -> anyhow::Result<()> {
    let mut images = Vec::new();
    for version in ["kept", "used", "tagged", "unneeded"] {
        let image = build("pruned", &[("VERSION", version)]).await?;
        engine().pull(&image, None, &|_| {}).await?;
        images.push(image);
    }
    let [kept, used, tagged, unneeded] = &images[..] else {
        panic!("{images:?}")
    };
    let other = build("pruned-beside", &[("VERSION", "1")]).await?;
    engine().pull(&other, None, &|_| {}).await?;
    let container = engine().start(&order("pruned", used.clone())).await?;
    docker(&["tag", &tagged.to_string(), "mine:by-hand"]).await?;

    let keep = [kept.digest.clone()];
    let sentence = engine().prune(kept.repository.as_str(), &keep).await?;
    assert!(sentence.starts_with("removed 1 image"), "{sentence}");
    assert!(!sentence.contains("not removed"), "{sentence}");
    let present = async |image: &ImageReference| {
        docker(&["image", "inspect", &image.to_string()])
            .await
            .is_ok()
    };
    for image in [kept, used, tagged, &other] {
        assert!(present(image).await, "{image}");
    }
    assert!(!present(unneeded).await);
    engine().remove(&container, Duration::ZERO).await?;
    let sentence = engine().prune(kept.repository.as_str(), &keep).await?;
    assert!(
        sentence.starts_with("removed 1 image") && !present(used).await,
        "{sentence}"
    );
    let sentence = engine().prune(kept.repository.as_str(), &keep).await?;
    assert!(sentence.starts_with("no image"), "{sentence}");
    Ok(())
}
