//! Images of the demo app: one layer, always the same, and an environment that
//! makes the release.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Context as _;

use crate::host::{demo_app, docker, docker_with_input, host};

/// An image in the test host's registry. The engine has no copy of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Registry and name, without tag or digest.
    pub repository: String,
    /// `sha256:…`
    pub digest: String,
}

impl Image {
    /// `repository@digest`, as a deploy names it.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }
}

/// Builds `name` with `environment` and pushes it; the environment's `VERSION`
/// becomes its tag.
///
/// # Errors
///
/// The app is not built, or the engine or the registry refused.
pub async fn build(name: &str, environment: &[(&str, &str)]) -> anyhow::Result<Image> {
    import(name, environment, &layer()?).await
}

/// The same with a layer that no other image has, and so much in it that does
/// not get smaller by packing.
///
/// # Errors
///
/// The app is not built, or the engine or the registry refused.
pub async fn build_apart(
    name: &str,
    environment: &[(&str, &str)],
    size: usize,
) -> anyhow::Result<Image> {
    let mut content = vec![0; size];
    getrandom::fill(&mut content)?;
    let mut archive = archive("content", &content);
    // Of two archives in a row the reader takes the first alone: it has no end.
    archive.truncate(archive.len() - 2 * BLOCK);
    archive.extend(std::fs::read(layer()?)?);
    let path = host()
        .folder
        .join(format!("apart-{:x}.tar", getrandom::u64()?));
    std::fs::write(&path, archive)?;
    let image = import(name, environment, &path).await;
    std::fs::remove_file(&path)?;
    image
}

async fn import(name: &str, environment: &[(&str, &str)], layer: &Path) -> anyhow::Result<Image> {
    let version = environment.iter().find(|(key, _)| *key == "VERSION");
    let version = version.map_or("unnamed", |(_, value)| value);
    let repository = format!("{}/{name}", host().registry);
    let tagged = format!("{repository}:{version}");

    let mut changes = vec!["ENTRYPOINT [\"/app\"]".to_owned(), "EXPOSE 8080".to_owned()];
    for (key, value) in environment {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        changes.push(format!("ENV {key}=\"{value}\""));
    }
    let mut arguments = vec!["import"];
    for change in &changes {
        arguments.extend(["--change", change]);
    }
    arguments.extend(["-", &tagged]);
    docker_with_input(&arguments, Some(layer)).await?;

    let pushed = docker(&["push", &tagged]).await?;
    let digest = pushed
        .split_whitespace()
        .find(|word| word.starts_with("sha256:"))
        .with_context(|| format!("no digest in {pushed:?}"))?
        .to_owned();
    // So that whoever runs it has to pull it.
    docker(&["image", "rm", &tagged]).await?;
    Ok(Image { repository, digest })
}

/// The layer's file, written once per test program.
fn layer() -> anyhow::Result<PathBuf> {
    static LAYER: OnceLock<PathBuf> = OnceLock::new();
    if let Some(layer) = LAYER.get() {
        return Ok(layer.clone());
    }
    let program = demo_app()?;
    let app = std::fs::read(&program).with_context(|| format!("reading {}", program.display()))?;
    let unique = format!("layer-{}-{:x}.tar", std::process::id(), getrandom::u64()?);
    let path = host().folder.join(unique);
    let mut file = std::fs::File::create(&path).context("making the layer's file")?;
    file.write_all(&archive("app", &app))?;
    Ok(LAYER.get_or_init(|| path).clone())
}

/// What an archive is made of.
const BLOCK: usize = 512;

/// A tar archive (POSIX ustar) of one program. Its bytes depend on nothing but
/// the program, so that all images share the layer.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; BLOCK];
    let mut put = |offset: usize, text: &str| {
        header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    // The checksum is made as if its own field were blank.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());

    let mut archive = header.to_vec();
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}
