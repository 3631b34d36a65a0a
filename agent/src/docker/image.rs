//! Bringing an image to the host, by digest and by nothing else.

use std::time::Duration;

use bollard::models::SystemInfo;
use bollard::query_parameters::CreateImageOptions;
use cutover_plan::id::ImageReference;
use cutover_plan::spec::{Bytes, render_duration};
use cutover_wire::request::RegistryCredentials;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout};

use crate::containers::{ContainerError, ContainerErrorKind};

use super::connection::{Connection, QUESTION};
use super::failure::{Fault, error};
use super::keyring::Keyring;
use super::progress::Progress;
use super::registry::Asker;
use super::{processor, room};

/// A pull without any sign of life for this long is given up. The engine
/// repeats a broken download by itself for about half a minute.
const STALLED: Duration = Duration::from_secs(120);

/// A pull that is alive and still not done is given up, too: an hour is enough
/// for 4 GB at 10 Mbit/s.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Pulls the image, unless it is there.
pub(super) async fn pull(
    engine: &Connection,
    keyring: &Keyring,
    image: &ImageReference,
    credentials: Option<&RegistryCredentials>,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<String, ContainerError> {
    let system = room::about(engine).await?;
    if let Some(size) = size(engine, &system, image).await? {
        return Ok(format!("{image} is on the host already, {size}"));
    }
    let begun = Instant::now();
    let asker = Asker::find(keyring, image, credentials).await?;
    let pulled = match timeout(LONGEST, receive(engine, image, &asker, progress)).await {
        Ok(pulled) => pulled,
        Err(_) => Err(Fault::silence(what(image), LONGEST)),
    };
    pulled.map_err(|fault| asker.classify(fault))?;
    let Some(size) = size(engine, &system, image).await? else {
        let reason = format!("the engine pulled {image} and shows no image of that digest");
        return Err(error(ContainerErrorKind::Unavailable, reason));
    };
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
    asker: &Asker<'_>,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(), Fault> {
    let client = engine.client(&what(image), STALLED)?;
    let options = CreateImageOptions {
        from_image: Some(image.repository.to_string()),
        tag: Some(image.digest.to_string()),
        ..CreateImageOptions::default()
    };
    // Dropping the stream, as an abort does, ends the pull in the engine.
    let mut news = client.create_image(Some(options), None, asker.credentials());
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

/// The size of the image, if it is on the host under its repository and digest;
/// one that cannot run there is refused.
pub(super) async fn size(
    engine: &Connection,
    system: &SystemInfo,
    image: &ImageReference,
) -> Result<Option<Bytes>, ContainerError> {
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
    if !ours {
        return Ok(None);
    }
    let processor = found.architecture.as_deref();
    processor::check(&name, processor.as_slice(), system, engine.is_local())?;
    let size = u64::try_from(found.size.unwrap_or(0)).unwrap_or(0);
    Ok(Some(Bytes(size)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_known_under_its_short_name() {
        assert!(same_repository("nginx", "docker.io/library/nginx"));
        assert!(same_repository("acme/shop", "docker.io/acme/shop"));
        assert!(same_repository("ghcr.io/acme/shop", "ghcr.io/acme/shop"));
        assert!(!same_repository("acme/shop", "ghcr.io/acme/shop"));
    }
}
