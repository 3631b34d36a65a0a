//! The secret that signs calls: from a file or the environment, never from the
//! command line, where every process of the machine could read it.

use std::path::Path;
use std::{env, fs};

use cutover_wire::signature::{Secret, SecretError};

use crate::failure::Failure;

/// The variable that holds the secret.
pub(crate) const VARIABLE: &str = "CUTOVER_SECRET";
/// The variable that holds the user of the registry.
pub(crate) const REGISTRY_USERNAME: &str = "CUTOVER_REGISTRY_USERNAME";
/// The variable that holds the password of the registry.
pub(crate) const REGISTRY_PASSWORD: &str = "CUTOVER_REGISTRY_PASSWORD";

/// A file with a secret is small; a larger one is another file by mistake.
const MAX_FILE: u64 = 4096;

/// Reads the secret: the file if one is named, else the environment.
pub(crate) fn read(file: Option<&Path>) -> Result<Secret, Failure> {
    let (text, place) = match file {
        Some(path) => (read_file(path)?, path.display().to_string()),
        None => (
            from_environment(VARIABLE).unwrap_or_default(),
            VARIABLE.to_owned(),
        ),
    };
    if text.trim().is_empty() {
        return Err(missing(file));
    }
    Secret::parse(&text).map_err(|error| {
        let hint = match error {
            SecretError::Base64 => "copy the whole secret, from whsec_ to its end".to_owned(),
            SecretError::Short(_) | SecretError::Long(_) => format!(
                "make one with: echo \"whsec_$(head -c 32 /dev/urandom | base64)\", and put the same text into {place} and into the agent's configuration"
            ),
        };
        Failure::usage(format!("{place} holds no secret that signs"))
            .because(&error)
            .hint(hint)
    })
}

/// A variable that is set and not empty; a workflow passes inputs that were
/// not given as empty texts.
pub(crate) fn from_environment(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.trim().is_empty())
}

fn read_file(path: &Path) -> Result<String, Failure> {
    let cannot = || Failure::usage(format!("the secret file {} cannot be read", path.display()));
    let length = fs::metadata(path).map_err(|error| {
        cannot()
            .because(&error)
            .hint("name a file that this user can read, with the secret alone in it")
    })?;
    if length.len() > MAX_FILE {
        let fault = format!(
            "it has {} bytes, a secret has fewer than {MAX_FILE}",
            length.len()
        );
        return Err(cannot().hint(fault));
    }
    fs::read_to_string(path).map_err(|error| {
        cannot()
            .because(&error)
            .hint("name a file that this user can read, with the secret alone in it")
    })
}

fn missing(file: Option<&Path>) -> Failure {
    match file {
        Some(path) => Failure::usage(format!("the secret file {} is empty", path.display()))
            .hint("put the agent's secret into it, alone"),
        None => Failure::usage("no secret signs this call").hint(format!(
            "set {VARIABLE} (in a workflow: the secret input, from ${{{{ secrets.{VARIABLE} }}}}), or use --secret-file; a workflow of a fork gets no secrets"
        )),
    }
}
