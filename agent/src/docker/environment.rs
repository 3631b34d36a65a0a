//! The variables a container gets: those of `env_file`, then those of `[env]`.
//!
//! A line of the file is `NAME=value`; the value is taken as it stands, quotes
//! and all, as the engine's own `--env-file` does. Blank lines and lines that
//! begin with `#` are nothing. No error ever repeats a value.

use std::collections::BTreeMap;

use cutover_plan::spec::RunSpec;
use tokio::io::AsyncReadExt as _;

use crate::containers::{ContainerError, ContainerErrorKind};

use super::failure::{WithHint as _, error};

/// The largest file: the kernel bounds what a program may be given at about 2 MiB.
const LARGEST: u64 = 1024 * 1024;

/// The variables of `run` as `NAME=value`.
pub(super) async fn of(run: &RunSpec) -> Result<Vec<String>, ContainerError> {
    let mut variables = match &run.env_file {
        Some(path) => {
            let content = read(path).await?;
            parse(path, &content).map_err(|reason| {
                error(ContainerErrorKind::Host, reason)
                    .with_hint("each line of an env_file is NAME=value, or begins with #")
            })?
        }
        None => BTreeMap::new(),
    };
    variables.extend(run.env.0.clone());
    Ok(variables
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect())
}

async fn read(path: &str) -> Result<Vec<u8>, ContainerError> {
    let refuse = |cause: &std::io::Error| {
        let reason = format!("env_file {path} cannot be read: {cause}");
        error(ContainerErrorKind::Host, reason)
            .with_hint("it must be a file that the agent's user may read")
    };
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|cause| refuse(&cause))?;
    let mut content = Vec::new();
    // One byte more than allowed tells a file that is too large.
    let mut bounded = file.take(LARGEST + 1);
    bounded
        .read_to_end(&mut content)
        .await
        .map_err(|cause| refuse(&cause))?;
    if content.len() as u64 > LARGEST {
        let reason = format!("env_file {path} is larger than 1 MiB");
        return Err(error(ContainerErrorKind::Host, reason));
    }
    Ok(content)
}

fn parse(path: &str, content: &[u8]) -> Result<BTreeMap<String, String>, String> {
    // Editors of other systems begin a file with a mark and end lines with \r\n.
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut variables = BTreeMap::new();
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let wrong = |fault: &str| Err(format!("env_file {path}, line {}: {fault}", index + 1));
        let Ok(line) = std::str::from_utf8(line) else {
            return wrong("is not UTF-8");
        };
        let line = line.strip_suffix('\r').unwrap_or(line);
        let begin = line.trim_start();
        if begin.is_empty() || begin.starts_with('#') {
            continue;
        }
        let Some((name, value)) = begin.split_once('=') else {
            return wrong("has no '='");
        };
        if name.is_empty() {
            return wrong("has no name before '='");
        }
        if !name.chars().all(|c| c.is_ascii_graphic()) {
            // `export NAME=…` of shell files comes here.
            return wrong("has a name with a space or a character that is not ASCII");
        }
        if value.contains('\0') {
            return wrong("has a zero byte");
        }
        variables.insert(name.to_owned(), value.to_owned());
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &[u8], expected: Result<&[(&str, &str)], &str>) {
        let found = parse("/etc/cutover/shop.env", content);
        let expected = match expected {
            Ok(pairs) => Ok(pairs
                .iter()
                .map(|(n, v)| ((*n).into(), (*v).into()))
                .collect()),
            Err(fault) => Err(format!("env_file /etc/cutover/shop.env, {fault}")),
        };
        assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(content));
    }

    #[test]
    fn a_value_is_taken_as_it_stands() {
        check(b"", Ok(&[]));
        check(b"A=1\nB=\n", Ok(&[("A", "1"), ("B", "")]));
        check(b"A=\"1 #2\" ", Ok(&[("A", "\"1 #2\" ")]));
        check(
            b"URL=postgres://u:p@h/d?a=b",
            Ok(&[("URL", "postgres://u:p@h/d?a=b")]),
        );
        check(b"\xef\xbb\xbf  # begin\r\n\r\n  A=1\r\n", Ok(&[("A", "1")]));
        check(b"A=1\nA=2", Ok(&[("A", "2")]));
    }

    #[test]
    fn a_mistake_is_named_by_its_line_and_never_by_its_value() {
        check(b"A=1\n\nhunter2\n", Err("line 3: has no '='"));
        check(b"=hunter2", Err("line 1: has no name before '='"));
        check(
            b"export A=hunter2",
            Err("line 1: has a name with a space or a character that is not ASCII"),
        );
        check(b"A=1\nB=\xff", Err("line 2: is not UTF-8"));
        check(b"A=hunter\0", Err("line 1: has a zero byte"));
    }
}
