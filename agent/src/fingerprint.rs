//! What makes two releases of one image the same program: a digest of all that
//! a container is given. And the variables of `env_file`, which are part of it.

use std::collections::BTreeMap;
use std::io::Read as _;

use cutover_plan::spec::RunSpec;
use sha2::{Digest as _, Sha256};

/// The largest `env_file`: thousands of variables fit.
const MAX_ENV_FILE: u64 = 1 << 20;

/// Why the variables of a container are not known. It never shows a value.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// The file cannot be read.
    #[error("env_file {path} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// A line is no `NAME=value`.
    #[error("env_file {path}, line {line}: {fault}")]
    Malformed {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        fault: &'static str,
    },
}

/// The digest of all that a container of the app is given but its image.
pub fn of(run: &RunSpec) -> Result<String, EnvFileError> {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        // The length keeps `a`, `bc` apart from `ab`, `c`.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    };
    add(&run.port.to_string());
    for (name, value) in environment(run)? {
        add(&name);
        add(&value);
    }
    for volume in &run.volumes {
        add(&volume.source);
        add(&volume.target);
        add(if volume.read_only { "ro" } else { "rw" });
    }
    add(&format!("{:?} {:?} {:?}", run.memory, run.cpus, run.pids));
    add(&run.stop_grace.as_millis().to_string());
    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The variables of a container: those of `env_file`, and `[env]` over them.
pub fn environment(run: &RunSpec) -> Result<BTreeMap<String, String>, EnvFileError> {
    let mut variables = match &run.env_file {
        Some(path) => env_file(path)?,
        None => BTreeMap::new(),
    };
    variables.extend(run.env.0.clone());
    Ok(variables)
}

fn env_file(path: &str) -> Result<BTreeMap<String, String>, EnvFileError> {
    let unreadable = |reason: String| EnvFileError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut text = String::new();
    let read = file.take(MAX_ENV_FILE + 1).read_to_string(&mut text);
    let length = read.map_err(|error| unreadable(error.to_string()))?;
    if length as u64 > MAX_ENV_FILE {
        return Err(unreadable(format!(
            "it is larger than {MAX_ENV_FILE} bytes"
        )));
    }
    let mut variables = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end_matches('\r');
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let malformed = |fault| EnvFileError::Malformed {
            path: path.to_owned(),
            line: index + 1,
            fault,
        };
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| malformed("it has no '='"))?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(malformed("its name is empty or has white space"));
        }
        if value.contains('\0') {
            return Err(malformed("its value has a NUL"));
        }
        variables.insert(name.to_owned(), value.to_owned());
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use cutover_plan::spec::{Environment, Volume};

    use super::*;

    fn run(env: &[(&str, &str)]) -> RunSpec {
        let pair = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        RunSpec {
            port: 80,
            env: Environment(env.iter().map(pair).collect()),
            env_file: None,
            volumes: Vec::new(),
            memory: None,
            cpus: None,
            pids: None,
            stop_grace: Duration::from_secs(10),
        }
    }

    #[test]
    fn everything_a_container_is_given_changes_the_fingerprint() {
        let same = of(&run(&[("A", "1")])).unwrap();
        assert_eq!(same, of(&run(&[("A", "1")])).unwrap());
        assert_ne!(same, of(&run(&[("A", "2")])).unwrap());
        assert_ne!(same, of(&run(&[("A1", "")])).unwrap());
        let mut other = run(&[("A", "1")]);
        other.volumes.push(Volume {
            source: "/a".into(),
            target: "/b".into(),
            read_only: true,
        });
        assert_ne!(same, of(&other).unwrap());
    }

    #[test]
    fn the_file_is_read_at_each_start_and_env_wins() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"# comment\nA=from file\nB=b=c\n\n")
            .unwrap();
        let mut run = run(&[("A", "from spec")]);
        run.env_file = Some(file.path().to_str().unwrap().to_owned());
        let variables = environment(&run).unwrap();
        assert_eq!(variables["A"], "from spec");
        assert_eq!(variables["B"], "b=c");
    }

    #[test]
    fn a_mistake_names_file_and_line_and_no_value() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"A=1\nhunter2\n").unwrap();
        let mut run = run(&[]);
        run.env_file = Some(file.path().to_str().unwrap().to_owned());
        let error = environment(&run).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
