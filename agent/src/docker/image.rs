//! Bringing an image to the host, by digest and by nothing else.

use std::time::Duration;

use bollard::query_parameters::CreateImageOptions;
use cutover_plan::id::{ImageReference, Repository};
use cutover_plan::spec::{Bytes, render_duration};
use cutover_wire::request::RegistryCredentials;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout};

use crate::containers::{ContainerError, ContainerErrorKind};

use super::connection::{Connection, QUESTION};
use super::failure::{Fault, WithHint as _, error};
use super::keyring::{Found, Keyring, Login};
use super::progress::Progress;
use super::{processor, room};

/// A pull without any sign of life for this long is given up. The engine
/// repeats a broken download by itself for about half a minute.
const STALLED: Duration = Duration::from_secs(120);

/// A pull that is alive and still not done is given up, too: an hour is enough
/// for 4 GB at 10 Mbit/s.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Pulls the image, unless it is there. The credentials of the call go before
/// those that the host knows.
pub(super) async fn pull(
    engine: &Connection,
    keyring: &Keyring,
    image: &ImageReference,
    credentials: Option<&RegistryCredentials>,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<String, ContainerError> {
    if let Some(present) = present(engine, image).await? {
        let size = present.made_for(engine, image).await?;
        return Ok(format!("{image} is on the host already, {size}"));
    }
    let begun = Instant::now();
    let found = match credentials {
        Some(given) => Some(Found {
            login: Login::from(given),
            from: "the call".to_owned(),
        }),
        None => keyring.find(registry(&image.repository)).await?,
    };
    let login = found.as_ref().map(|found| &found.login);
    let pulled = match timeout(LONGEST, receive(engine, image, login, progress)).await {
        Ok(pulled) => pulled,
        Err(_) => Err(Fault::silence(what(image), LONGEST)),
    };
    pulled.map_err(|fault| {
        let from = found.as_ref().map(|found| found.from.as_str());
        classify(conceal(fault, login), from, keyring)
    })?;
    let Some(present) = present(engine, image).await? else {
        let reason = format!("the engine pulled {image} and shows no image of that digest");
        return Err(error(ContainerErrorKind::Unavailable, reason));
    };
    let size = present.made_for(engine, image).await?;
    let took = Duration::from_secs(begun.elapsed().as_secs());
    Ok(format!(
        "{image} pulled, {size}, in {}",
        render_duration(took)
    ))
}

fn what(image: &ImageReference) -> String {
    format!("pulling {image}")
}

async fn receive(
    engine: &Connection,
    image: &ImageReference,
    login: Option<&Login>,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(), Fault> {
    let client = engine.client(&what(image), STALLED)?;
    let options = CreateImageOptions {
        from_image: Some(image.repository.to_string()),
        tag: Some(image.digest.to_string()),
        ..CreateImageOptions::default()
    };
    let credentials = login.map(|login| login.credentials(registry(&image.repository)));
    // Dropping the stream, as an abort does, ends the pull in the engine.
    let mut news = client.create_image(Some(options), None, credentials);
    let mut state = Progress::new(Instant::now());
    loop {
        let Ok(next) = timeout(STALLED, news.next()).await else {
            return Err(Fault::silence(what(image), STALLED));
        };
        match next {
            None => return Ok(()),
            Some(Err(error)) => return Err(Fault::new(what(image), &error)),
            Some(Ok(news)) => {
                if let Some(sentence) = state.take(news, Instant::now()) {
                    progress(sentence);
                }
            }
        }
    }
}

/// Whether the image is on the host.
pub(super) async fn is_present(
    engine: &Connection,
    image: &ImageReference,
) -> Result<bool, ContainerError> {
    Ok(present(engine, image).await?.is_some())
}

/// An image that is on the host.
struct Present {
    size: Bytes,
    architecture: Option<String>,
}

impl Present {
    /// Its size, if it can run here.
    async fn made_for(
        &self,
        engine: &Connection,
        image: &ImageReference,
    ) -> Result<Bytes, ContainerError> {
        let (name, system) = (image.to_string(), room::about(engine).await?);
        let architecture = self.architecture.as_deref();
        processor::check(&name, architecture, &system, engine.is_local())?;
        Ok(self.size)
    }
}

/// The image, if it is on the host under its repository and digest.
async fn present(
    engine: &Connection,
    image: &ImageReference,
) -> Result<Option<Present>, ContainerError> {
    let name = image.to_string();
    let looked = engine
        .call(
            format!("looking for the image {name}"),
            QUESTION,
            async |client| client.inspect_image(&name).await,
        )
        .await;
    let found = match looked {
        Ok(found) => found,
        Err(fault) if fault.is_missing() => return Ok(None),
        Err(fault) => return Err(fault.into()),
    };
    let digests = found.repo_digests.unwrap_or_default();
    let ours = digests.iter().any(|digest| is_reference(digest, image));
    let size = Bytes(u64::try_from(found.size.unwrap_or(0)).unwrap_or(0));
    let architecture = found.architecture;
    Ok(ours.then_some(Present { size, architecture }))
}

fn is_reference(text: &str, image: &ImageReference) -> bool {
    let Some((repository, digest)) = text.split_once('@') else {
        return false;
    };
    digest == image.digest.as_str() && same_repository(repository, image.repository.as_str())
}

/// Whether two texts name one repository: the engine leaves out the registry
/// that it takes for granted.
pub(super) fn same_repository(one: &str, other: &str) -> bool {
    familiar(one) == familiar(other)
}

fn familiar(repository: &str) -> &str {
    let hub = ["docker.io/", "index.docker.io/"];
    let hub = hub
        .iter()
        .find_map(|registry| repository.strip_prefix(registry));
    let name = hub.unwrap_or(repository);
    name.strip_prefix("library/").unwrap_or(name)
}

fn registry(repository: &Repository) -> &str {
    let text = repository.as_str();
    text.split_once('/').map_or(text, |(host, _)| host)
}

/// Takes the credentials out of a text in which they should never be.
fn conceal(mut fault: Fault, login: Option<&Login>) -> Fault {
    if let Some(login) = login {
        fault.message = login.conceal(&fault.message);
    }
    fault
}

/// `from` is where the credentials came from, if there were any.
fn classify(fault: Fault, from: Option<&str>, keyring: &Keyring) -> ContainerError {
    use ContainerErrorKind::{Host, Request, Unavailable};
    let denied = [
        "unauthorized",
        "denied",
        "no basic auth credentials",
        "authentication required",
        "403 forbidden",
    ];
    let missing = [
        "manifest unknown",
        "name unknown",
        "name_unknown",
        "not found",
    ];
    if fault.status.is_none() || fault.says(&["no space left on device", "disk quota exceeded"]) {
        return fault.into();
    }
    if fault.says(&["toomanyrequests", "too many requests", "rate limit"]) {
        let hint = "the registry limits pulls; with credentials it usually allows more";
        return fault.into_error(Unavailable).with_hint(hint);
    }
    if fault.says(&[
        "no matching manifest",
        "does not match the specified platform",
    ]) {
        let hint = "build the image for the host's processor, too";
        return fault.into_error(Request).with_hint(hint);
    }
    if fault.says(&["x509:", "server gave http response to https client"]) {
        let hint = "the engine must trust the registry's certificate, see insecure-registries and certs.d in its manual";
        return fault.into_error(Host).with_hint(hint);
    }
    if fault.says(&denied) {
        let hint = match from {
            Some(from) => format!(
                "the registry does not take the credentials of {from} for this repository: see that they are still valid and may read it"
            ),
            None => format!(
                "the registry wants credentials: pass them with the call, or keep them in {}",
                keyring.place().display()
            ),
        };
        return fault.into_error(Request).with_hint(hint);
    }
    if fault.says(&missing) {
        let hint = "see that this digest was pushed to this repository, and not deleted since";
        return fault.into_error(Request).with_hint(hint);
    }
    fault.into_error(Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(message: &str) -> Fault {
        let (what, message) = ("pulling x".to_owned(), message.to_owned());
        Fault {
            what,
            status: Some(500),
            message,
        }
    }

    fn check(message: &str, expected: ContainerErrorKind) {
        let error = classify(fault(message), Some("the call"), &Keyring::default());
        assert_eq!(error.kind, expected, "{message}");
    }

    #[test]
    fn a_pull_that_may_do_better_later_is_told_from_one_that_will_not() {
        use ContainerErrorKind::{Host, Request, Unavailable};
        check(
            "manifest for localhost:5000/x@sha256:1 not found: manifest unknown",
            Request,
        );
        check(
            "repository name not known to registry: name unknown",
            Request,
        );
        check("Head \"https://ghcr.io/v2/acme/shop\": denied", Request);
        check(
            "Get \"http://localhost:5001/v2/x\": no basic auth credentials",
            Request,
        );
        check("unauthorized: authentication required", Request);
        check(
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
            Request,
        );
        check(
            "toomanyrequests: You have reached your unauthenticated pull rate limit. denied",
            Unavailable,
        );
        check(
            "dial tcp: lookup ghcr.io on 127.0.0.53:53: no such host",
            Unavailable,
        );
        check(
            "dial tcp 127.0.0.1:5999: connect: connection refused",
            Unavailable,
        );
        check(
            "received unexpected HTTP status: 502 Bad Gateway",
            Unavailable,
        );
        check("net/http: TLS handshake timeout", Unavailable);
        check(
            "failed to register layer: write /app: no space left on device",
            Host,
        );
        check("x509: certificate signed by unknown authority", Host);
    }

    #[test]
    fn a_password_is_taken_out_of_an_error() {
        let given = RegistryCredentials {
            username: "u".into(),
            password: "hunter2".into(),
        };
        let told = conceal(fault("denied for u:hunter2"), Some(&Login::from(&given)));
        let error = classify(told, Some("the call"), &Keyring::default());
        assert_eq!(error.reason, "pulling x: denied for u:…");
    }

    #[test]
    fn a_repository_is_known_under_its_short_name() {
        assert!(same_repository("nginx", "docker.io/library/nginx"));
        assert!(same_repository("acme/shop", "docker.io/acme/shop"));
        assert!(same_repository("ghcr.io/acme/shop", "ghcr.io/acme/shop"));
        assert!(!same_repository("acme/shop", "ghcr.io/acme/shop"));
    }
}
