//! Images: pulled by digest, with and without credentials, and pruned.

use std::sync::Mutex;
use std::time::Duration;

use cutover_agent::containers::{ContainerErrorKind, Containers as _};
use cutover_plan::id::{Digest, ImageReference};
use cutover_plan::spec::Bytes;
use cutover_tests::host::{docker, host};
use cutover_wire::request::RegistryCredentials;

use crate::orders::{build, engine, order};
use crate::private_registry;

#[tokio::test]
async fn an_image_is_pulled_by_digest_and_found_the_second_time() -> anyhow::Result<()> {
    let image = build("pulled", &[("VERSION", "1")]).await?;
    let memory = Some(Bytes(32 << 20));
    let found = engine().preflight(&image, None, memory).await?;
    for part in ["of disk free", "to be pulled", "the registry has it"] {
        assert!(found.contains(part), "{found}");
    }
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
    let found = engine().preflight(&image, None, None).await?;
    assert!(found.ends_with("the image is on the host"), "{found}");
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
        // What trying again does not help is known before the pull, and nothing else is.
        match (engine().preflight(&image, None, None).await, kind) {
            (Err(error), ContainerErrorKind::Request) => {
                assert_eq!(error.kind, kind, "{error:?}");
                assert!(error.reason.starts_with("asking the registry"), "{error:?}");
                assert!(error.hint.is_some_and(|hint| hint.contains("was pushed")));
            }
            (Ok(found), ContainerErrorKind::Unavailable) => {
                let (_, told) = found
                    .split_once("the registry could not be asked: ")
                    .unwrap();
                assert!(told.contains(part), "{found}");
            }
            (found, _) => panic!("{found:?}"),
        }
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

    let credentials = |password: &str| RegistryCredentials {
        username: "robot".to_owned(),
        password: password.to_owned(),
    };
    let refused = async |credentials: Option<&RegistryCredentials>, hint: &str| {
        let engine = engine();
        let asked = engine.preflight(&image, credentials, None).await;
        let pulled = engine.pull(&image, credentials, &|_| {}).await;
        for error in [asked.unwrap_err(), pulled.unwrap_err()] {
            assert_eq!(error.kind, ContainerErrorKind::Denied, "{error:?}");
            assert!(!format!("{error:?}").contains("hunter3"), "{error:?}");
            assert!(error.hint.is_some_and(|told| told.contains(hint)));
        }
    };
    refused(None, "wants credentials").await;
    let wrong = credentials("hunter3");
    refused(Some(&wrong), "the credentials of the call").await;

    let told = Mutex::new(Vec::new());
    let right = credentials(password);
    let found = engine().preflight(&image, Some(&right), None).await?;
    assert!(found.ends_with("the registry has it"), "{found}");
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
