//! Whether the engine answers, the host has room for one more container, and the
//! image can be had.
//!
//! A refusal here costs nobody a request: it comes before anything is changed.

use std::path::Path;

use bollard::models::SystemInfo;
use cutover_plan::id::ImageReference;
use cutover_plan::spec::Bytes;
use cutover_wire::request::RegistryCredentials;
use rustix::fs::StatVfs;

use crate::containers::{ContainerError, ContainerErrorKind, Room};

use super::connection::{Connection, QUESTION};
use super::failure::{Fault, WithHint as _, error};
use super::keyring::Keyring;
use super::{image, registry};

/// Below this much free disk nothing is pulled: images of apps are some hundred
/// megabytes, and while a layer is unpacked it is there twice. It is no share
/// of the disk: five percent of a large disk is room for years, of a small one
/// not for one image. What the file system keeps for root is not counted.
const DISK: u64 = 1 << 30;

/// An image with a tree of small modules has tens of thousands of files.
const FILES: u64 = 50_000;

/// What must be left beside the new container's limit: the engine's own
/// process for each container takes some ten megabytes, and the host's other
/// programs move by as much.
const MEMORY: u64 = 64 << 20;

/// Looks, and tells in a sentence what was found.
pub(super) async fn look(
    engine: &Connection,
    keyring: &Keyring,
    image: &ImageReference,
    credentials: Option<&RegistryCredentials>,
    memory: Option<Bytes>,
) -> Result<String, ContainerError> {
    let system = about(engine).await?;
    let mut found = vec![platform(&system)?];
    if engine.is_local() {
        if let Some(root) = system.docker_root_dir.clone() {
            found.push(disk(root).await?);
        }
        found.push(free_memory(memory).await?);
    } else {
        found.push("disk and memory not looked at, as the engine is not on a socket".to_owned());
    }
    if image::size(engine, &system, image).await?.is_some() {
        found.push("the image is on the host".to_owned());
    } else {
        found.push("the image is to be pulled".to_owned());
        found.push(registry::ask(engine, &system, keyring, image, credentials).await?);
    }
    Ok(found.join(", "))
}

/// What is free, without a judgement.
pub(super) async fn free(engine: &Connection) -> Result<Room, ContainerError> {
    if !engine.is_local() {
        return Ok(Room::default());
    }
    let disk = match about(engine).await?.docker_root_dir {
        Some(root) => statistics_of(&root).await.map(|disk| free_of(&disk)),
        None => None,
    };
    Ok(Room {
        disk,
        memory: free_now().await,
    })
}

pub(super) async fn about(engine: &Connection) -> Result<SystemInfo, Fault> {
    let what = "asking the container engine about itself";
    engine
        .call(what, QUESTION, async |client| client.info().await)
        .await
}

/// A file system that stands still must not stand in the way of the others.
async fn statistics_of(root: &str) -> Option<StatVfs> {
    let root = root.to_owned();
    let looked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(Path::new(&root)));
    tokio::time::timeout(QUESTION, looked)
        .await
        .ok()?
        .ok()?
        .ok()
}

fn free_of(disk: &StatVfs) -> Bytes {
    Bytes(disk.f_bavail.saturating_mul(disk.f_frsize))
}

async fn free_now() -> Option<Bytes> {
    let meminfo = tokio::fs::read_to_string("/proc/meminfo").await;
    available(&meminfo.unwrap_or_default())
}

fn platform(system: &SystemInfo) -> Result<String, ContainerError> {
    let version = system
        .server_version
        .as_deref()
        .unwrap_or("of an unknown version");
    let (Some(os), Some(architecture)) = (&system.os_type, &system.architecture) else {
        let reason = "the container engine does not say which processor it runs on";
        return Err(error(ContainerErrorKind::Host, reason));
    };
    if os != "linux" {
        let reason = format!("the container engine runs {os} containers, and Cutover needs Linux");
        return Err(error(ContainerErrorKind::Host, reason));
    }
    let options = system.security_options.as_deref().unwrap_or_default();
    if options
        .iter()
        .any(|option| option.contains("name=rootless"))
    {
        let reason = "the container engine is rootless: the host cannot reach its containers";
        return Err(error(ContainerErrorKind::Host, reason)
            .with_hint("use the engine that root runs, at /var/run/docker.sock"));
    }
    Ok(format!("engine {version} on {os}/{architecture}"))
}

async fn disk(root: String) -> Result<String, ContainerError> {
    let Some(disk) = statistics_of(&root).await else {
        return Ok(format!("the free disk of {root} is not known"));
    };
    let free = free_of(&disk);
    let hint = "remove what is not needed there, for example with docker system prune";
    if free < Bytes(DISK) {
        let least = Bytes(DISK);
        let reason = format!("only {free} of disk are free in {root}, a deploy needs {least}");
        return Err(error(ContainerErrorKind::Host, reason).with_hint(hint));
    }
    // File systems without a bound on files say 0.
    if disk.f_files > 0 && disk.f_favail < FILES {
        let files = disk.f_favail;
        let reason = format!("only {files} more files fit in {root}, a deploy needs {FILES}");
        return Err(error(ContainerErrorKind::Host, reason).with_hint(hint));
    }
    Ok(format!("{free} of disk free"))
}

async fn free_memory(limit: Option<Bytes>) -> Result<String, ContainerError> {
    let Some(free) = free_now().await else {
        return Ok("the free memory is not known".to_owned());
    };
    let Some(limit) = limit else {
        return Ok(format!("{free} of memory free, no more is asked for"));
    };
    let needed = Bytes(limit.0.saturating_add(MEMORY));
    if free < needed {
        let reason = format!(
            "only {free} of memory are free, and one more container needs its limit of {limit} and {} beside it",
            Bytes(MEMORY)
        );
        return Err(error(ContainerErrorKind::Host, reason)
            .with_hint("lower [limits] memory in the app's file, or free memory on the host"));
    }
    Ok(format!("{free} of memory free for a limit of {limit}"))
}

/// What the kernel could give to a new program without swapping.
fn available(meminfo: &str) -> Option<Bytes> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(kib.saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_the_kernels_word() {
        let meminfo = "MemTotal:       24591512 kB\nMemFree:  10 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(available(meminfo), Some(Bytes(2 << 20)));
        assert_eq!(available("MemTotal: 1 kB"), None);
        assert_eq!(available("MemAvailable: many"), None);
    }

    fn check(change: impl FnOnce(&mut SystemInfo), expected: Result<&str, &str>) {
        let mut system = SystemInfo {
            server_version: Some("28.5.2".to_owned()),
            os_type: Some("linux".to_owned()),
            architecture: Some("x86_64".to_owned()),
            ..SystemInfo::default()
        };
        change(&mut system);
        match (platform(&system), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(part)) => assert!(error.reason.contains(part), "{error}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn an_engine_whose_containers_cannot_be_reached_is_refused() {
        check(|_| {}, Ok("engine 28.5.2 on linux/x86_64"));
        check(
            |system| system.os_type = Some("windows".into()),
            Err("needs Linux"),
        );
        check(|system| system.architecture = None, Err("which processor"));
        let rootless = vec![
            "name=seccomp,profile=default".to_owned(),
            "name=rootless".to_owned(),
        ];
        check(
            |system| system.security_options = Some(rootless),
            Err("rootless"),
        );
    }
}
