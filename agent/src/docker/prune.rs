//! Removing images of an app's repository that nobody needs.
//!
//! Only the reference `repository@digest` is removed, never by force: the
//! engine lets go of an image when that was its last one. An image that a
//! container uses, that has a tag (a person gave it) or whose digest is kept
//! stays.

use std::collections::HashSet;

use bollard::models::ImageSummary;
use bollard::query_parameters::{ListImagesOptions, RemoveImageOptions};
use cutover_plan::id::Digest;
use cutover_plan::spec::Bytes;

use crate::containers::ContainerError;

use super::connection::{Connection, QUESTION};
use super::image::same_repository;
use super::sight;

/// Prunes, and says in a sentence what was removed and what could not be.
pub(super) async fn prune(
    engine: &Connection,
    repository: &str,
    keep: &[Digest],
) -> Result<String, ContainerError> {
    let what = format!("listing the images of {repository}");
    let images = engine
        .call(what, QUESTION, async |client| {
            client.list_images(None::<ListImagesOptions>).await
        })
        .await?;
    let used = used(engine).await?;
    let (mut removed, mut freed, mut left) = (0_u32, 0_u64, Vec::new());
    for image in images.iter().filter(|image| !used.contains(&image.id)) {
        let unneeded = unneeded(image, repository, keep);
        let mut gone = false;
        for reference in &unneeded {
            match remove(engine, reference).await {
                Ok(()) => gone = true,
                Err(reason) => left.push(reason.to_string()),
            }
        }
        if gone {
            removed += 1;
            freed += u64::try_from(image.size).unwrap_or(0);
        }
    }
    let mut sentence = match removed {
        0 => format!("no image of {repository} to remove"),
        1 => format!("removed 1 image of {repository}, {}", Bytes(freed)),
        more => format!("removed {more} images of {repository}, {}", Bytes(freed)),
    };
    for reason in left {
        sentence = format!("{sentence}; not removed: {reason}");
    }
    Ok(sentence)
}

/// The images that containers use, whoever made them.
async fn used(engine: &Connection) -> Result<HashSet<String>, ContainerError> {
    let containers = sight::all(engine).await?.into_iter();
    Ok(containers.map(|container| container.image).collect())
}

/// The references of the image by which nobody needs it: all of them in the
/// repository, or none.
fn unneeded<'a>(image: &'a ImageSummary, repository: &str, keep: &[Digest]) -> Vec<&'a str> {
    // With the engine's newer store, a reference by digest stands there, too.
    let tag = |text: &String| !text.contains('@') && !text.contains("<none>");
    if image.repo_tags.iter().any(tag) {
        return Vec::new();
    }
    let mut references = Vec::new();
    for reference in &image.repo_digests {
        let Some((name, digest)) = reference.split_once('@') else {
            continue;
        };
        if !same_repository(name, repository) {
            continue;
        }
        if keep.iter().any(|kept| kept.as_str() == digest) {
            return Vec::new();
        }
        references.push(reference.as_str());
    }
    references
}

async fn remove(engine: &Connection, reference: &str) -> Result<(), ContainerError> {
    let options = RemoveImageOptions {
        force: false,
        ..RemoveImageOptions::default()
    };
    let what = format!("removing the image {reference}");
    let removed = engine
        .call(what, QUESTION, async |client| {
            client.remove_image(reference, Some(options), None).await
        })
        .await;
    match removed {
        Ok(_) => Ok(()),
        Err(fault) if fault.is_missing() => Ok(()),
        Err(fault) => Err(fault.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: &str = "ghcr.io/acme/shop";

    fn digest(letter: char) -> Digest {
        Digest::parse(&format!("sha256:{}", letter.to_string().repeat(64))).unwrap()
    }

    fn check(references: &[&str], tags: &[&str], keep: &[Digest], expected: usize) {
        let of = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let image = ImageSummary {
            repo_digests: of(references),
            repo_tags: of(tags),
            ..ImageSummary::default()
        };
        assert_eq!(
            unneeded(&image, REPOSITORY, keep).len(),
            expected,
            "{references:?}"
        );
    }

    #[test]
    fn an_image_is_kept_for_its_digest_its_tag_or_its_repository() {
        let a = format!("{REPOSITORY}@{}", digest('a'));
        let b = format!("{REPOSITORY}@{}", digest('b'));
        let other = format!("ghcr.io/acme/other@{}", digest('a'));
        check(&[&a], &[], &[], 1);
        check(&[&a], &["<none>:<none>"], &[], 1);
        check(&[&a], &[&a], &[], 1);
        check(&[&a, &b], &[], &[], 2);
        check(&[&a, &other], &[], &[], 1);
        check(&[&a], &[], &[digest('a')], 0);
        check(&[&a, &b], &[], &[digest('b')], 0);
        check(&[&a], &["ghcr.io/acme/shop:v1"], &[], 0);
        check(&[&other], &[], &[], 0);
        check(&["<none>@<none>"], &[], &[], 0);
    }
}
