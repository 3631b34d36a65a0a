//! What a container of the app is given: `port`, `env`, `volumes`, `[limits]`
//! and the rest of its making.

use std::collections::{BTreeMap, BTreeSet};

use super::bounds::{CPUS, LOG_FILES, LOG_SIZE, MEMORY, PIDS, STOP_GRACE, TMPFS, ULIMIT, seconds};
use super::{container, forms};
use crate::spec::reader::{Fault, Table, Value};
use crate::spec::{
    Bytes, DockerHealth, Environment, ExtraHost, Logging, MilliCpus, Protocol, RunSpec, Tmpfs,
    Ulimit, Volume,
};

/// As many volumes as anyone could tell apart; of the other lists, too.
const LISTED: usize = 100;
/// Each is an address of its own for every container.
const NETWORKS: usize = 20;

/// What Linux limits by process, in the names that Docker Engine takes.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads them where they stand: in the root of the file. `docker_health` is
/// none where it was refused already.
pub(super) fn read(root: &mut Table<'_>, docker_health: Option<DockerHealth>) -> Option<RunSpec> {
    let port = root.required("port", "8080", |v| v.integer(1..=u16::MAX));
    let protocol = root.or_default("protocol", Protocol::default(), |v| {
        v.choice(&Protocol::ALL.map(|protocol| (protocol.as_str(), protocol)))
    });
    let env = root.optional("env", |v| v.concealed().table(environment));
    let env_file = root.optional("env_file", |v| v.parse(forms::absolute_path));
    let volumes = root.or_default("volumes", Vec::new(), volumes);
    let taken = volumes.iter().flatten().map(|volume| volume.target.clone());
    let taken: BTreeSet<String> = taken.collect();
    let tmpfs = root.or_default("tmpfs", Vec::new(), |v| tmpfs(v, taken));
    let user = root.optional("user", |v| v.parse(container::user));
    let read_only = root.or_default("read_only", false, Value::boolean);
    let command = root.optional("command", container::command);
    let entrypoint = root.optional("entrypoint", container::command);
    let labels = root.optional("labels", |v| v.table(labels));
    let limits = root.table("limits", limits);
    let stop_signal = root.optional("stop_signal", |v| v.parse(container::signal));
    let stop_grace = root.or_default("stop_grace", seconds(10), |v| v.duration(STOP_GRACE));
    let logging = root.table("logging", logging);
    let networks = root.or_default("networks", BTreeSet::new(), networks);
    let extra_hosts = root.or_default("extra_hosts", Vec::new(), extra_hosts);
    let limits = limits?;
    Some(RunSpec {
        port: port?,
        protocol: protocol?,
        env: env?.unwrap_or_default(),
        env_file: env_file?,
        volumes: volumes?,
        tmpfs: tmpfs?,
        user: user?,
        read_only: read_only?,
        command: command?,
        entrypoint: entrypoint?,
        labels: labels?.unwrap_or_default(),
        memory: limits.memory,
        cpus: limits.cpus,
        pids: limits.pids,
        ulimits: limits.ulimits,
        stop_signal: stop_signal?,
        stop_grace: stop_grace?,
        logging: logging?,
        networks: networks?,
        extra_hosts: extra_hosts?,
        docker_health: docker_health?,
    })
}

fn environment(table: &mut Table<'_>) -> Option<Environment> {
    let variable = |(name, value): (String, Value<'_>)| {
        let name = match forms::variable_name(&name) {
            Ok(()) => Some(name),
            Err(fault) => value.key_fault(fault),
        };
        let value = value.parse(|text| match text.contains('\0') {
            true => Err("must not contain a NUL character"),
            false => Ok(text.to_owned()),
        });
        Some((name?, value?))
    };
    let variables: Vec<Option<_>> = table.rest().into_iter().map(variable).collect();
    variables
        .into_iter()
        .collect::<Option<BTreeMap<_, _>>>()
        .map(Environment)
}

fn volumes(value: &Value<'_>) -> Option<Vec<Volume>> {
    let mut seen = BTreeSet::new();
    value.array(0..=LISTED, |item| {
        let volume = item.parse(container::volume)?;
        match seen.insert(volume.target.clone()) {
            true => Some(volume),
            false => item.fault("has the same target as a volume before it"),
        }
    })
}

/// `taken` are the targets of volumes.
fn tmpfs(value: &Value<'_>, mut taken: BTreeSet<String>) -> Option<Vec<Tmpfs>> {
    value.array(0..=LISTED, |item| {
        let tmpfs = item.parse(container::tmpfs)?;
        if tmpfs.size.is_some_and(|size| !TMPFS.contains(&size)) {
            let (least, most) = (TMPFS.start(), TMPFS.end());
            return item.fault(Fault::new(format!(
                "its size must be from {least} to {most}"
            )));
        }
        match taken.insert(tmpfs.target.clone()) {
            true => Some(tmpfs),
            false => item.fault("has the same target as a volume or tmpfs before it"),
        }
    })
}

fn labels(table: &mut Table<'_>) -> Option<BTreeMap<String, String>> {
    let rest = table.rest();
    if rest.len() > LISTED {
        return table.fault(
            "labels",
            Fault::new(format!("must have at most {LISTED} keys")),
        );
    }
    let label = |(name, value): (String, Value<'_>)| {
        let name = match container::label_name(&name, value.is_table()) {
            Ok(()) => Some(name),
            Err(fault) => value.key_fault(fault),
        };
        let name = name?;
        Some((name, value.parse(container::label_value)?))
    };
    let labels: Vec<Option<_>> = rest.into_iter().map(label).collect();
    labels.into_iter().collect()
}

struct Limits {
    memory: Option<Bytes>,
    cpus: Option<MilliCpus>,
    pids: Option<u32>,
    ulimits: BTreeMap<String, Ulimit>,
}

fn limits(table: &mut Table<'_>) -> Option<Limits> {
    let memory = table.optional("memory", |v| v.bytes(MEMORY));
    let cpus = table.optional("cpus", |v| v.number(cpus));
    let pids = table.optional("pids", |v| v.integer(PIDS));
    let ulimits = table.table("ulimits", ulimits);
    Some(Limits {
        memory: memory?,
        cpus: cpus?,
        pids: pids?,
        ulimits: ulimits?,
    })
}

fn cpus(digits: &str) -> Result<MilliCpus, Fault> {
    let cpus = MilliCpus::parse(digits)?;
    match CPUS.contains(&cpus) {
        true => Ok(cpus),
        false => Err(Fault::new(format!(
            "must be from {} to {}",
            CPUS.start(),
            CPUS.end()
        ))),
    }
}

fn ulimits(table: &mut Table<'_>) -> Option<BTreeMap<String, Ulimit>> {
    let read = ULIMITS.map(|name| (name, table.optional(name, ulimit)));
    let mut ulimits = BTreeMap::new();
    for (name, ulimit) in read {
        if let Some(ulimit) = ulimit? {
            ulimits.insert(name.to_owned(), ulimit);
        }
    }
    Some(ulimits)
}

/// One number for both, or each of them.
fn ulimit(value: &Value<'_>) -> Option<Ulimit> {
    if !value.is_table() {
        let both = limit(value)?;
        let (soft, hard) = (both, both);
        return Some(Ulimit { soft, hard });
    }
    value.table(|table| {
        let soft = table.required("soft", "1024", limit);
        let hard = table.required("hard", "65536", limit);
        let (soft, hard) = (soft?, hard?);
        match soft <= hard {
            true => Some(Ulimit { soft, hard }),
            false => table.fault("soft", Fault::new("is above hard, which it can never pass")),
        }
    })
}

fn limit(value: &Value<'_>) -> Option<u64> {
    match value.is_text() {
        true => value.choice(&[("unlimited", Ulimit::UNLIMITED)]),
        false => value.integer(ULIMIT),
    }
}

fn logging(table: &mut Table<'_>) -> Option<Logging> {
    let max_size = table.or_default("max_size", Bytes(10_000_000), |v| v.bytes(LOG_SIZE));
    let max_files = table.or_default("max_files", 3, |v| v.integer(LOG_FILES));
    Some(Logging {
        max_size: max_size?,
        max_files: max_files?,
    })
}

fn networks(value: &Value<'_>) -> Option<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    value.array(0..=NETWORKS, |item| {
        let network = item.parse(container::network)?;
        match seen.insert(network) {
            true => Some(()),
            false => item.fault("is listed twice"),
        }
    })?;
    Some(seen)
}

fn extra_hosts(value: &Value<'_>) -> Option<Vec<ExtraHost>> {
    let mut seen = Vec::new();
    value.array(0..=LISTED, |item| {
        let host = item.parse(container::extra_host)?;
        // A name may have several addresses, but each of them once.
        if seen.contains(&host) {
            return item.fault("is listed twice");
        }
        seen.push(host.clone());
        Some(host)
    })
}
