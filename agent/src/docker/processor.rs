//! Whether an image is made for the processor of the host. The engine pulls one
//! that is not, with a warning at most, and its container then ends with an
//! error that names no cause.

use std::path::Path;

use bollard::models::SystemInfo;

use crate::containers::{ContainerError, ContainerErrorKind};

use super::failure::{WithHint as _, error, printable};

/// Where the kernel lists the programs that it runs foreign ones with.
const EMULATORS: &str = "/proc/sys/fs/binfmt_misc";

/// The longest name of a processor that is shown.
const LONGEST: usize = 40;

/// Refuses an image that cannot run here. What is not known is not refused.
pub(super) fn check(
    name: &str,
    image: Option<&str>,
    system: &SystemInfo,
    is_local: bool,
) -> Result<(), ContainerError> {
    let (Some(image), Some(host)) = (image, system.architecture.as_deref()) else {
        return Ok(());
    };
    let (Some(image), Some(host)) = (familiar(image), familiar(host)) else {
        return Ok(());
    };
    let may_emulate = !is_local || emulates(Path::new(EMULATORS));
    if runs(host, image) || may_emulate {
        return Ok(());
    }
    let [image, host] = [image, host].map(|name| printable(name, LONGEST));
    let reason = format!("{name} is made for {image}, and the host's processor is {host}");
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

/// Whether the kernel may have been told a program that runs foreign ones: of
/// which processor, only the program knows. A list that cannot be read may be long.
fn emulates(emulators: &Path) -> bool {
    let Ok(listed) = std::fs::read_dir(emulators) else {
        return true;
    };
    let own = ["register", "status"];
    listed
        .flatten()
        .filter(|entry| !own.iter().any(|name| entry.file_name() == *name))
        .any(|entry| {
            let text = std::fs::read_to_string(entry.path());
            text.is_ok_and(|text| text.starts_with("enabled"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(image: Option<&str>, host: Option<&str>) -> Option<ContainerError> {
        let system = SystemInfo {
            architecture: host.map(str::to_owned),
            ..SystemInfo::default()
        };
        check("shop", image, &system, true).err()
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
            assert_eq!(refused(Some(image), Some(host)), None, "{image} on {host}");
        }
        assert_eq!(refused(None, Some("x86_64")), None);
        assert_eq!(refused(Some("amd64"), None), None);
        // A kernel that emulates runs it.
        if let Some(error) = refused(Some("s390x"), Some("x86_64")) {
            let reason = "shop is made for s390x, and the host's processor is amd64";
            assert_eq!(error.reason, reason);
            assert_eq!(error.kind, ContainerErrorKind::Request);
            assert!(error.hint.is_some_and(|hint| hint.contains("linux/amd64")));
        } else {
            assert!(emulates(Path::new(EMULATORS)));
        }
    }

    #[test]
    fn an_emulator_that_is_switched_on_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name, text| std::fs::write(folder.path().join(name), text).unwrap();
        write("status", "enabled\n");
        assert!(!emulates(folder.path()));
        write("box64", "disabled\n");
        assert!(!emulates(folder.path()));
        write("box64", "enabled\ninterpreter /usr/bin/box64\n");
        assert!(emulates(folder.path()));
        assert!(emulates(&folder.path().join("none")), "it may be long");
    }
}
