//! What a registry is asked before a pull: whether it has the image, and for
//! which processor.

use std::net::SocketAddr;
use std::time::Instant;

use cutover_agent::containers::{ContainerError, ContainerErrorKind, Containers as _};
use cutover_agent::docker::Docker;
use cutover_plan::id::ImageReference;
use cutover_tests::host::{docker, host};
use cutover_tests::registry::{Door, Mood};
use cutover_tests::request::{Answer, send};
use cutover_wire::request::RegistryCredentials;
use sha2::Digest as _;

use crate::orders::{DEADLINE, build, engine};
use crate::stub::{self, Says};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What is said to a registry itself; `./` is the image's repository in it.
async fn tell(
    image: &ImageReference,
    method: &str,
    path: &str,
    kind: &str,
    body: Vec<u8>,
) -> anyhow::Result<Answer> {
    let (registry, name) = image.repository.as_str().split_once('/').unwrap();
    let port = registry.rsplit(':').next().unwrap().parse()?;
    let registry = SocketAddr::from(([127, 0, 0, 1], port));
    let path = match path.strip_prefix("./") {
        Some(rest) => format!("/v2/{name}/{rest}"),
        None => path.to_owned(),
    };
    let request = http::Request::builder()
        .method(method)
        .uri(&path)
        .header("host", registry.to_string())
        .header("accept", MANIFEST)
        .header("content-type", kind);
    let answer = send(registry, request.body(body.into())?).await?;
    anyhow::ensure!(answer.status.is_success(), "{path}: {}", answer.text());
    Ok(answer)
}

/// One image of several, each for its own processor.
async fn several(images: &[&ImageReference]) -> anyhow::Result<ImageReference> {
    let mut manifests = Vec::new();
    for image in images {
        let path = format!("./manifests/{}", image.digest);
        let manifest = tell(image, "GET", &path, "", Vec::new()).await?.body;
        let config: serde_json::Value = serde_json::from_slice(&manifest)?;
        let config = config["config"]["digest"].as_str().unwrap().to_owned();
        let config = tell(image, "GET", &format!("./blobs/{config}"), "", Vec::new()).await?;
        let config: serde_json::Value = serde_json::from_slice(&config.body)?;
        manifests.push(serde_json::json!({
            "mediaType": MANIFEST, "size": manifest.len(), "digest": image.digest.as_str(),
            "platform": { "os": config["os"], "architecture": config["architecture"] },
        }));
    }
    let list = serde_json::json!({
        "schemaVersion": 2, "mediaType": LIST, "manifests": manifests,
    });
    let path = format!("./manifests/of-{}", images.len());
    let put = tell(images[0], "PUT", &path, LIST, serde_json::to_vec(&list)?).await?;
    let digest = put.header("docker-content-digest").unwrap_or_default();
    Ok(format!("{}@{digest}", images[0].repository).parse()?)
}

/// Has the registry give an image as one that is made for another processor:
/// no engine of this one makes it.
async fn made_for(image: &ImageReference, architecture: &str) -> anyhow::Result<ImageReference> {
    let ask = async |method: &str, path: &str, kind: &str, body| {
        tell(image, method, path, kind, body).await
    };
    let path = format!("./manifests/{}", image.digest);
    let manifest = ask("GET", &path, "", Vec::new()).await?;
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest.body)?;
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config = ask("GET", &format!("./blobs/{config}"), "", Vec::new()).await?;
    let mut config: serde_json::Value = serde_json::from_slice(&config.body)?;
    config["architecture"] = architecture.into();
    let config = serde_json::to_vec(&config)?;
    let digest = sha2::Sha256::digest(&config);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let digest = format!("sha256:{digest}");
    manifest["config"]["digest"] = digest.clone().into();
    manifest["config"]["size"] = config.len().into();
    let begun = ask("POST", "./blobs/uploads/", "", Vec::new()).await?;
    let place: http::Uri = begun.header("location").unwrap_or_default().parse()?;
    let place = place.path_and_query().unwrap().to_string();
    let path = format!("{place}&digest={digest}");
    ask("PUT", &path, "application/octet-stream", config).await?;
    let path = format!("./manifests/{architecture}");
    let put = ask("PUT", &path, MANIFEST, serde_json::to_vec(&manifest)?).await?;
    let digest = put.header("docker-content-digest").unwrap_or_default();
    Ok(format!("{}@{digest}", image.repository).parse()?)
}

#[tokio::test]
async fn an_image_of_another_processor_is_refused_before_its_pull_and_by_it() -> anyhow::Result<()>
{
    let base = build("foreigner", &[("VERSION", "1")]).await?;
    let image = made_for(&base, "s390x").await?;
    let check = |refused: Result<String, ContainerError>| {
        let error = refused.unwrap_err();
        assert_eq!(error.kind, ContainerErrorKind::Request, "{error:?}");
        let told = "is made for s390x, and the host's processor is";
        assert!(error.reason.contains(told), "{error:?}");
        let hint = error.hint.unwrap_or_default();
        assert!(hint.contains("build the image for linux/"), "{hint}");
    };
    let name = image.to_string();
    let present = async || docker(&["image", "inspect", &name]).await.is_ok();
    check(engine().preflight(&image, None, None).await);
    assert!(!present().await, "nothing was pulled");
    // Also the second time, when it is on the host.
    for _ in 0..2 {
        check(engine().pull(&image, None, &|_| {}).await);
        assert!(present().await);
        check(engine().preflight(&image, None, None).await);
    }

    // Of several, one is enough.
    let both = several(&[&base, &image]).await?;
    let found = engine().preflight(&both, None, None).await?;
    assert!(found.ends_with("the registry has it"), "{found}");
    check(
        engine()
            .preflight(&several(&[&image]).await?, None, None)
            .await,
    );
    Ok(())
}

#[tokio::test]
async fn a_registry_that_cannot_be_asked_stands_in_no_pulls_way() -> anyhow::Result<()> {
    let zeros = format!("sha256:{}", "0".repeat(64));
    let door = Door::open().await?;
    door.turn(Mood::Limits(1));
    let limited = format!("{}/limited@{zeros}", door.name).parse()?;
    let found = engine().preflight(&limited, None, None).await?;
    let told = "the registry could not be asked: toomanyrequests";
    assert!(found.contains(told), "{found}");
    assert_eq!(door.spoilt(), 1);

    let silent = stub::port(Says::Begins("")).await?;
    let silent = format!("localhost:{}/silent@{zeros}", silent.port()).parse()?;
    let credentials = RegistryCredentials {
        username: "robot".to_owned(),
        password: "hunter2".to_owned(),
    };
    let begun = Instant::now();
    let found = engine()
        .preflight(&silent, Some(&credentials), None)
        .await?;
    let took = begun.elapsed();
    assert!(
        found.ends_with("could not be asked: no answer within 10s"),
        "{found}"
    );
    assert!(took < DEADLINE, "{took:?}");

    // Engines that do not know the question, a door before one that does not let
    // it pass, and one that repeats what it was told.
    let check = async |name: &str, script, expected: &str| {
        let socket = host().folder(name).unwrap().join("engine.sock");
        stub::socket(&socket, Says::Script(script)).unwrap();
        let engine = Docker::connect(socket.to_str()).unwrap();
        let image = format!("localhost:1/shop@sha256:{}", "0".repeat(64));
        let image = image.parse().unwrap();
        let found = engine.preflight(&image, Some(&credentials), None).await;
        let (_, told) = found
            .as_ref()
            .unwrap()
            .split_once("could not be asked: ")
            .unwrap();
        assert_eq!(told, expected);
    };
    check(
        "unknowing",
        |request, _| says(request, 404, "page not found"),
        "page not found",
    )
    .await;
    check(
        "lacking",
        |request, _| says(request, 404, "Not Found"),
        "Not Found",
    )
    .await;
    check(
        "door",
        |request, _| says(request, 403, "403 Forbidden"),
        "403 Forbidden",
    )
    .await;
    check(
        "plugin",
        |request, _| says(request, 403, "authorization denied by plugin opa: no"),
        "authorization denied by plugin opa: no",
    )
    .await;
    check(
        "road",
        |request, _| says(request, 500, "dial tcp 10.0.0.1:443: permission denied"),
        "dial tcp 10.0.0.1:443: permission denied",
    )
    .await;
    check(
        "parrot",
        |request, _| says(request, 500, "robot:hunter2"),
        "robot:…",
    )
    .await;
    Ok(())
}

/// An engine that says this of every registry.
fn says(request: &str, status: u16, message: &str) -> String {
    match request {
        request if request.starts_with("GET /info") => {
            stub::answer(200, r#"{"OSType":"linux","Architecture":"x86_64"}"#)
        }
        request if request.starts_with("GET /distribution/") => stub::answer(
            status,
            &serde_json::json!({ "message": message }).to_string(),
        ),
        _ => stub::answer(404, r#"{"message":"no such image"}"#),
    }
}
