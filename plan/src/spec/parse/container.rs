//! The forms of what a container is given: volumes, users, networks, signals.
//!
//! Each function takes the text of one value and gives it back in the one form
//! that the rest of the program compares, or says why it has none.

use std::net::IpAddr;

use super::forms::absolute_path;
use crate::spec::reader::{Fault, Value};
use crate::spec::{Bytes, ExtraHost, Tmpfs, Volume};

/// The longest name of a user that Linux's own tools make.
const USER: usize = 32;
/// As many words as anyone writes into a file by hand.
const WORDS: usize = 100;
/// A script in one word fits; the kernel's own bound is 128 KiB.
const WORD: usize = 16 * 1024;
/// The longest name of a network that is in use anywhere.
const NETWORK: usize = 128;
/// The longest name that DNS can carry.
const HOST: usize = 253;
/// Longer than any label in use.
const LABEL: usize = 255;
/// A label can carry a small document.
const LABEL_VALUE: usize = 4096;

/// What Docker keeps to itself: its own tools take such a container for theirs.
const DOCKERS: [&str; 3] = ["com.docker.", "io.docker.", "org.dockerproject."];
/// What the agent knows its containers by.
const OURS: &str = "cutover.";

/// What an app can be asked to end with.
const SIGNALS: [&str; 11] = [
    "SIGABRT",
    "SIGALRM",
    "SIGHUP",
    "SIGINT",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMIN+3",
    "SIGTERM",
    "SIGUSR1",
    "SIGUSR2",
    "SIGWINCH",
];

/// `source:target[:ro]`.
pub(super) fn volume(text: &str) -> Result<Volume, Fault> {
    const HINT: &str = "write \"/srv/shop:/data\", \"name:/data\" or \"name:/data:ro\"";
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] => (*source, *target, false),
        [source, target, "ro"] => (*source, *target, true),
        _ => return Err(Fault::new("is not source:target or source:target:ro").hint(HINT)),
    };
    let part = |name: &str, fault: &str| Fault::new(format!("{name} {fault}")).hint(HINT);
    let source = match source.starts_with('/') {
        true => absolute_path(source)
            .map_err(|_| part("its source", "is not a plain path: it contains //, . or .."))?,
        false if is_volume_name(source) => source.to_owned(),
        false => {
            return Err(part(
                "its source",
                "is neither an absolute path nor a volume's name",
            ));
        }
    };
    Ok(Volume {
        source,
        target: target_path(target).map_err(|fault| part("its target", fault))?,
        read_only,
    })
}

/// `target[:size]`.
pub(super) fn tmpfs(text: &str) -> Result<Tmpfs, Fault> {
    const HINT: &str = "write \"/tmp\" or \"/tmp:64MiB\"";
    let (target, size) = match text.split_once(':') {
        Some((target, size)) => (target, Some(size)),
        None => (text, None),
    };
    let size = size.map(Bytes::parse).transpose();
    Ok(Tmpfs {
        target: target_path(target)
            .map_err(|fault| Fault::new(format!("its target {fault}")).hint(HINT))?,
        size: size.map_err(|error| Fault::new(format!("its size {}", error.fault)).hint(HINT))?,
    })
}

fn target_path(text: &str) -> Result<String, &'static str> {
    match absolute_path(text).as_deref() {
        Ok("/") => Err("would hide the whole image"),
        Ok(path) => Ok(path.to_owned()),
        Err(_) => Err("is not an absolute path without //, . and .."),
    }
}

/// Docker Engine's own rule.
fn is_volume_name(text: &str) -> bool {
    (2..=255).contains(&text.len()) && is_object_name(text)
}

/// What volumes and networks may be called.
fn is_object_name(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let begins = text.bytes().next();
    begins.is_some_and(|b| b.is_ascii_alphanumeric()) && text.bytes().all(letter)
}

/// `user[:group]`, by name or number.
pub(super) fn user(text: &str) -> Result<String, Fault> {
    let part = |text: &str| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let number = text.bytes().all(|b| b.is_ascii_digit());
        let sound = match number {
            // The kernel keeps the last number for "nobody at all".
            true => text.parse::<u32>().is_ok_and(|id| id < u32::MAX),
            false => text.bytes().all(letter) && !text.starts_with(['-', '.']),
        };
        (1..=USER).contains(&text.len()) && sound
    };
    let sound = match text.split_once(':') {
        Some((user, group)) => part(user) && part(group),
        None => part(text),
    };
    match sound {
        true => Ok(text.to_owned()),
        false => Err(Fault::new("is not user or user:group")
            .hint("write \"1000:1000\", or names that the image knows")),
    }
}

/// A program and its arguments, or arguments alone. No shell reads them.
pub(super) fn command(value: &Value<'_>) -> Option<Vec<String>> {
    if value.is_text() {
        let fault = Fault::new("expected an array, found a string");
        return value.fault(fault.hint("write each word by itself: [\"./app\", \"--verbose\"]"));
    }
    value.array(1..=WORDS, |item| {
        item.parse(|word| match word {
            "" => Err(Fault::new("must not be empty")),
            word if word.contains('\0') => Err(Fault::new("must not contain a NUL character")),
            word if word.len() > WORD => Err(Fault::new(format!("must have at most {WORD} bytes"))),
            word => Ok(word.to_owned()),
        })
    })
}

/// A signal that an app can answer.
pub(super) fn signal(text: &str) -> Result<String, Fault> {
    if SIGNALS.contains(&text) {
        return Ok(text.to_owned());
    }
    let upper = text.to_ascii_uppercase();
    let long = format!("SIG{}", upper.strip_prefix("SIG").unwrap_or(&upper));
    if ["SIGKILL", "SIGSTOP"].contains(&long.as_str()) {
        let fault = Fault::new("is a signal that no app can answer");
        return Err(fault.hint("to end it without asking, write stop_grace = \"0s\""));
    }
    let fault = Fault::not_one_of(text, &SIGNALS);
    Err(match SIGNALS.contains(&long.as_str()) {
        true => fault.hint(format!("write \"{long}\"")),
        false => fault,
    })
}

/// The name of a label; `is_table` is whether dots made tables of it.
pub(super) fn label_name(text: &str, is_table: bool) -> Result<(), Fault> {
    if is_table {
        let fault = Fault::new("expected a string, found a table");
        return Err(fault.hint("put a name with dots in quotes: \"com.example.team\" = \"web\""));
    }
    if text.starts_with(OURS) {
        let fault = Fault::new("begins as the labels do by which Cutover knows its containers");
        return Err(fault.hint("choose another prefix"));
    }
    if let Some(prefix) = DOCKERS.iter().find(|prefix| text.starts_with(**prefix)) {
        let fault = format!("begins with {prefix}, which Docker keeps for its own tools");
        return Err(Fault::new(fault).hint("choose another prefix"));
    }
    let graphic = text.bytes().all(|b| b.is_ascii_graphic() && b != b'=');
    match (1..=LABEL).contains(&text.len()) && graphic {
        true => Ok(()),
        false => Err(Fault::new(format!(
            "is not the name of a label: 1 to {LABEL} characters of ASCII without spaces and ="
        ))),
    }
}

pub(super) fn label_value(text: &str) -> Result<String, Fault> {
    match text.len() <= LABEL_VALUE && !text.contains('\0') {
        true => Ok(text.to_owned()),
        false => Err(Fault::new(format!(
            "must have at most {LABEL_VALUE} bytes and no NUL character"
        ))),
    }
}

/// A network of the engine that a container can join.
pub(super) fn network(text: &str) -> Result<String, Fault> {
    let fault = |fault: &str, hint: &str| Err(Fault::new(fault).hint(hint));
    let own = "make one with docker network create NAME, and write NAME";
    match text {
        "host" => fault(
            "would take the network of the host: two releases could not listen on one port",
            "reach the host with extra_hosts = [\"host:host-gateway\"]",
        ),
        "none" => fault(
            "would leave the app without a network",
            "the proxy reaches it through one: leave it out",
        ),
        "bridge" | "default" => fault("has no names for its containers", own),
        "cutover" => fault("is joined anyway", "leave it out"),
        text if text.starts_with("container:") => fault(
            "would tie the app to one container, which does not outlive a deploy",
            own,
        ),
        text if text.len() <= NETWORK && is_object_name(text) => Ok(text.to_owned()),
        _ => fault("is not the name of a network", own),
    }
}

/// `name:address`, where the address may be `host-gateway`.
pub(super) fn extra_host(text: &str) -> Result<ExtraHost, Fault> {
    let fault = |fault: &str| {
        Fault::new(fault).hint("write \"db:10.0.0.5\", or \"host:host-gateway\" for this host")
    };
    let Some((name, address)) = text.split_once(':') else {
        return Err(fault("is not name:address"));
    };
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if !(1..=HOST).contains(&name.len()) || !name.bytes().all(letter) {
        return Err(fault("its name is not one of a host"));
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
    let address = match bare.unwrap_or(address) {
        "host-gateway" => None,
        address => Some(
            address
                .parse::<IpAddr>()
                .map_err(|_| fault("its address is not one of IP, nor host-gateway"))?,
        ),
    };
    let name = name.to_owned();
    Ok(ExtraHost { name, address })
}
