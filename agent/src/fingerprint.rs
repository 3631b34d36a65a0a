//! What makes two releases of one image the same program: a digest of all that
//! a container is given. And the variables of `env_file`, which are part of it.

use std::collections::BTreeMap;
use std::io::Read as _;

use cutover_plan::spec::{DockerHealth, RunSpec};
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
    // Every field by its name: one that is added to the spec is missed here by the compiler.
    let RunSpec {
        port,
        protocol,
        env: _,
        env_file: _,
        volumes,
        tmpfs,
        user,
        read_only,
        command,
        entrypoint,
        labels,
        memory,
        cpus,
        pids,
        ulimits,
        stop_signal,
        stop_grace,
        logging,
        networks,
        extra_hosts,
        docker_health,
    } = run;
    let mut hash = Fingerprint(Sha256::new());
    hash.text(&port.to_string());
    hash.text(protocol.as_str());
    hash.list(environment(run)?, |hash, (name, value)| {
        hash.text(&name);
        hash.text(&value);
    });
    hash.list(volumes, |hash, volume| {
        hash.text(&volume.source);
        hash.text(&volume.target);
        hash.text(if volume.read_only { "ro" } else { "rw" });
    });
    hash.list(tmpfs, |hash, tmpfs| {
        hash.text(&tmpfs.target);
        hash.list(tmpfs.size, |hash, size| hash.text(&size.0.to_string()));
    });
    hash.list(user, |hash, user| hash.text(user));
    hash.text(if *read_only { "ro" } else { "rw" });
    for words in [command, entrypoint] {
        hash.list(words, |hash, words| {
            hash.list(words, |hash, word| hash.text(word))
        });
    }
    hash.list(labels, |hash, (name, value)| {
        hash.text(name);
        hash.text(value);
    });
    hash.text(&format!("{memory:?} {cpus:?} {pids:?}"));
    hash.list(ulimits, |hash, (name, ulimit)| {
        hash.text(name);
        hash.text(&format!("{} {}", ulimit.soft, ulimit.hard));
    });
    hash.list(stop_signal, |hash, signal| hash.text(signal));
    hash.text(&stop_grace.as_millis().to_string());
    hash.text(&format!("{} {}", logging.max_size.0, logging.max_files));
    hash.list(networks, |hash, network| hash.text(network));
    hash.list(extra_hosts, |hash, host| {
        hash.text(&host.name);
        hash.list(host.address, |hash, address| {
            hash.text(&address.to_string())
        });
    });
    hash.text(match docker_health {
        DockerHealth::Ignore => "ignore",
        DockerHealth::Require => "require",
    });
    let digest = hash.0.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A digest to which texts are added one by one.
struct Fingerprint(Sha256);

impl Fingerprint {
    /// The length keeps `a`, `bc` apart from `ab`, `c`.
    fn text(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
    }

    /// The count keeps the end of one list apart from the begin of the next.
    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut add: impl FnMut(&mut Self, T)) {
        let mut count: u64 = 0;
        for item in items {
            add(self, item);
            count += 1;
        }
        self.0.update(count.to_be_bytes());
    }
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
    use std::collections::BTreeSet;
    use std::io::Write as _;
    use std::time::Duration;

    use cutover_plan::spec::{
        Bytes, Environment, ExtraHost, Logging, MilliCpus, Protocol, Tmpfs, Ulimit, Volume,
    };

    use super::*;

    fn run(env: &[(&str, &str)]) -> RunSpec {
        let pair = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        RunSpec {
            port: 80,
            protocol: Protocol::Http1,
            env: Environment(env.iter().map(pair).collect()),
            env_file: None,
            volumes: Vec::new(),
            tmpfs: Vec::new(),
            user: None,
            read_only: false,
            command: None,
            entrypoint: None,
            labels: BTreeMap::new(),
            memory: None,
            cpus: None,
            pids: None,
            ulimits: BTreeMap::new(),
            stop_signal: None,
            stop_grace: Duration::from_secs(10),
            logging: Logging {
                max_size: Bytes(10_000_000),
                max_files: 3,
            },
            networks: BTreeSet::new(),
            extra_hosts: Vec::new(),
            docker_health: DockerHealth::Ignore,
        }
    }

    /// One change of each field; some of the texts are the same, so that one
    /// field that is taken for another is seen.
    const CHANGES: [fn(&mut RunSpec); 29] = [
        |run| run.port = 81,
        |run| run.protocol = Protocol::H2c,
        |run| run.env.0 = [("a".to_owned(), "b".to_owned())].into(),
        |run| run.env.0 = [("ab".to_owned(), String::new())].into(),
        |run| run.volumes = vec![volume("a", true)],
        |run| run.volumes = vec![volume("a", false)],
        |run| run.volumes = vec![volume("a", true), volume("b", true)],
        |run| run.tmpfs = vec![tmpfs("a", None)],
        |run| run.tmpfs = vec![tmpfs("a", Some(Bytes(1)))],
        |run| run.user = Some("a".to_owned()),
        |run| run.read_only = true,
        |run| run.command = Some(vec!["a".to_owned()]),
        |run| run.command = Some(vec!["a".to_owned(), "b".to_owned()]),
        |run| run.entrypoint = Some(vec!["a".to_owned()]),
        |run| run.labels = [("a".to_owned(), "b".to_owned())].into(),
        |run| run.memory = Some(Bytes(1)),
        |run| run.cpus = Some(MilliCpus(1)),
        |run| run.pids = Some(1),
        |run| run.ulimits = [("a".to_owned(), Ulimit { soft: 1, hard: 2 })].into(),
        |run| run.ulimits = [("a".to_owned(), Ulimit { soft: 2, hard: 2 })].into(),
        |run| run.stop_signal = Some("a".to_owned()),
        |run| run.stop_grace = Duration::from_millis(10_001),
        |run| run.logging.max_size = Bytes(1),
        |run| run.logging.max_files = 1,
        |run| run.networks = ["a".to_owned()].into(),
        |run| run.extra_hosts = vec![host("a", None)],
        |run| run.extra_hosts = vec![host("a", Some([1, 2, 3, 4]))],
        |run| run.docker_health = DockerHealth::Require,
        |_| {},
    ];

    fn volume(source: &str, read_only: bool) -> Volume {
        let (source, target) = (source.to_owned(), "/a".to_owned());
        Volume {
            source,
            target,
            read_only,
        }
    }

    fn tmpfs(target: &str, size: Option<Bytes>) -> Tmpfs {
        let target = target.to_owned();
        Tmpfs { target, size }
    }

    fn host(name: &str, address: Option<[u8; 4]>) -> ExtraHost {
        let (name, address) = (name.to_owned(), address.map(Into::into));
        ExtraHost { name, address }
    }

    #[test]
    fn everything_a_container_is_given_changes_the_fingerprint() {
        let mut seen = BTreeMap::new();
        for (index, change) in CHANGES.iter().enumerate() {
            let mut changed = run(&[]);
            change(&mut changed);
            let fingerprint = of(&changed).unwrap();
            assert_eq!(of(&changed).unwrap(), fingerprint);
            if let Some(other) = seen.insert(fingerprint, index) {
                panic!("the changes {other} and {index} are one");
            }
        }
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
