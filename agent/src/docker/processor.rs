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
    let (image, host) = (familiar(image), familiar(host));
    let emulated = !is_local || is_emulated(Path::new(EMULATORS), image);
    if image.is_empty() || runs(host, image) || emulated {
        return Ok(());
    }
    let [image, host] = [image, host].map(|name| printable(name, LONGEST));
    let reason = format!("{name} is made for {image}, and the host's processor is {host}");
    let hint = format!("build the image for linux/{host}, too, or as the only one");
    Err(error(ContainerErrorKind::Request, reason).with_hint(hint))
}

/// The name that images use; engines tell that of the kernel.
fn familiar(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "i386" | "i686" => "386",
        "aarch64" => "arm64",
        "armv6l" | "armv7l" | "armhf" => "arm",
        name => name,
    }
}

/// Whether a processor runs programs of another, if their kinds differ.
fn runs(host: &str, image: &str) -> bool {
    let also = [("amd64", "386"), ("arm64", "arm")];
    host == image || also.contains(&(host, image))
}

/// Whether the kernel was told a program that runs those of this processor.
fn is_emulated(emulators: &Path, image: &str) -> bool {
    let name = match image {
        "amd64" => "x86_64",
        "386" => "i386",
        "arm64" => "aarch64",
        name => name,
    };
    let path = emulators.join(format!("qemu-{name}"));
    std::fs::read_to_string(path).is_ok_and(|text| text.starts_with("enabled"))
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
        ] {
            assert_eq!(refused(Some(image), Some(host)), None, "{image} on {host}");
        }
        assert_eq!(refused(None, Some("x86_64")), None);
        assert_eq!(refused(Some("amd64"), None), None);
        // No kernel has an emulator of this one.
        let error = refused(Some("mos6502"), Some("x86_64")).unwrap();
        let reason = "shop is made for mos6502, and the host's processor is amd64";
        assert_eq!(error.reason, reason);
        assert_eq!(error.kind, ContainerErrorKind::Request);
        assert!(error.hint.is_some_and(|hint| hint.contains("linux/amd64")));
    }

    #[test]
    fn an_emulator_that_is_switched_on_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text| std::fs::write(folder.path().join("qemu-aarch64"), text).unwrap();
        assert!(!is_emulated(folder.path(), "arm64"));
        write("disabled\n");
        assert!(!is_emulated(folder.path(), "arm64"));
        write("enabled\ninterpreter /usr/bin/qemu-aarch64-static\n");
        assert!(is_emulated(folder.path(), "arm64"));
        assert!(!is_emulated(folder.path(), "riscv64"));
    }
}
