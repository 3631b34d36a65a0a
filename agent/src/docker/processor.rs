//! Whether an image is made for the processor of the host. The engine pulls one
//! that is not, with a warning at most, and its container then ends with an
//! error that names no cause.

use std::collections::BTreeSet;
use std::path::Path;

use bollard::models::SystemInfo;

use crate::containers::{ContainerError, ContainerErrorKind};

use super::failure::{WithHint as _, error};

/// Where the kernel lists the programs that it runs foreign ones with.
const EMULATORS: &str = "/proc/sys/fs/binfmt_misc";

/// What every Linux program begins with, as the kernel lists it.
const PROGRAM: &str = "magic 7f454c46";

/// Refuses an image that is made for `images` and cannot run here as any of them.
/// What is not known is not refused.
pub(super) fn check(
    name: &str,
    images: &[&str],
    system: &SystemInfo,
    is_local: bool,
) -> Result<(), ContainerError> {
    let emulates = || !is_local || emulates(Path::new(EMULATORS));
    compare(name, images, system.architecture.as_deref(), emulates)
}

fn compare(
    name: &str,
    images: &[&str],
    host: Option<&str>,
    emulates: impl FnOnce() -> bool,
) -> Result<(), ContainerError> {
    let known: Option<BTreeSet<_>> = images.iter().map(|image| familiar(image)).collect();
    let (Some(known), Some(host)) = (known, host.and_then(familiar)) else {
        return Ok(());
    };
    if known.is_empty() || known.iter().any(|image| runs(host, image)) || emulates() {
        return Ok(());
    }
    let known = Vec::from_iter(known).join(" or ");
    let reason = format!("{name} is made for {known}, and the host's processor is {host}");
    let hint = format!("build the image for linux/{host}, too, or as the only one");
    Err(error(ContainerErrorKind::Request, reason).with_hint(hint))
}

/// The name that images use, of those that are known well; engines tell that of
/// the kernel.
fn familiar(name: &str) -> Option<&'static str> {
    Some(match name {
        "amd64" | "x86_64" => "amd64",
        "386" | "i386" | "i686" => "386",
        "arm64" | "aarch64" => "arm64",
        "arm" | "armv6l" | "armv7l" | "armhf" => "arm",
        "riscv64" => "riscv64",
        "ppc64le" => "ppc64le",
        "s390x" => "s390x",
        _ => return None,
    })
}

/// Whether a processor runs programs of another, if their kinds differ.
fn runs(host: &str, image: &str) -> bool {
    let also = [("amd64", "386"), ("arm64", "arm")];
    host == image || also.contains(&(host, image))
}

/// Whether the kernel was told of a program that runs foreign ones: of which
/// processor, only that program knows. A list that cannot be read may have one.
fn emulates(emulators: &Path) -> bool {
    let Ok(mut listed) = std::fs::read_dir(emulators) else {
        return true;
    };
    let runs_programs = |text: String| {
        text.starts_with("enabled") && text.lines().any(|line| line.starts_with(PROGRAM))
    };
    listed.any(|entry| {
        let text = entry.and_then(|entry| std::fs::read_to_string(entry.path()));
        text.is_ok_and(runs_programs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(images: &[&str], host: Option<&str>) -> Option<ContainerError> {
        compare("shop", images, host, || false).err()
    }

    #[test]
    fn an_image_of_another_processor_is_refused_and_what_is_not_known_is_not() {
        for (image, host) in [
            ("amd64", "x86_64"),
            ("386", "x86_64"),
            ("arm64", "aarch64"),
            ("arm", "aarch64"),
            ("arm", "armv7l"),
            ("riscv64", "riscv64"),
            ("", "x86_64"),
            ("mos6502", "x86_64"),
            ("loong64", "loongarch64"),
        ] {
            assert_eq!(refused(&[image], Some(host)), None, "{image} on {host}");
        }
        assert_eq!(refused(&[], Some("x86_64")), None);
        assert_eq!(refused(&["amd64"], None), None);
        assert_eq!(refused(&["s390x", "amd64"], Some("x86_64")), None);
        assert_eq!(refused(&["s390x", "mos6502"], Some("x86_64")), None);
        let error = refused(&["s390x", "arm", "arm"], Some("x86_64")).unwrap();
        let reason = "shop is made for arm or s390x, and the host's processor is amd64";
        assert_eq!(error.reason, reason);
        let error = refused(&["s390x"], Some("x86_64")).unwrap();
        let reason = "shop is made for s390x, and the host's processor is amd64";
        assert_eq!(error.reason, reason);
        assert_eq!(error.kind, ContainerErrorKind::Request);
        assert!(error.hint.is_some_and(|hint| hint.contains("linux/amd64")));
        let emulated = compare("shop", &["s390x"], Some("x86_64"), || true);
        assert_eq!(emulated, Ok(()));
    }

    #[test]
    fn an_emulator_that_is_switched_on_counts_and_no_other_kind_of_program() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write("status", "enabled\n");
        assert!(!emulates(folder.path()));
        let python = "enabled\ninterpreter /usr/bin/python3.11\nflags:\noffset 0\nmagic a70d0d0a\n";
        write("python3.11", python);
        assert!(!emulates(folder.path()));
        let foreign = "interpreter /usr/bin/box64\nflags: F\noffset 0\nmagic 7f454c460201\n";
        write("box64", &format!("disabled\n{foreign}"));
        assert!(!emulates(folder.path()));
        write("box64", &format!("enabled\n{foreign}"));
        assert!(emulates(folder.path()));
        assert!(emulates(&folder.path().join("none")), "it may have one");
    }
}
