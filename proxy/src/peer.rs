//! Who may talk on the control socket.
//!
//! The kernel tells the user, group and process of a peer. Root, our own user,
//! the users that were named, and members of the socket's group may talk.

use std::fs;

use tokio::net::unix::UCred;

/// Why the group of the control socket is not known.
#[derive(Debug, thiserror::Error)]
#[error("there is no group {0:?}")]
pub struct UnknownGroup(String);

/// Who is let in besides root.
#[derive(Debug, Clone)]
pub(crate) struct Allowed {
    own: u32,
    users: Vec<u32>,
    group: Option<u32>,
}

impl Allowed {
    /// `group` is a number or a name of `/etc/group`.
    pub(crate) fn new(users: Vec<u32>, group: Option<&str>) -> Result<Self, UnknownGroup> {
        Ok(Self {
            own: rustix::process::geteuid().as_raw(),
            users,
            group: group.map(group_number).transpose()?,
        })
    }

    /// The group that owns the socket.
    pub(crate) fn group(&self) -> Option<u32> {
        self.group
    }

    /// Whether a peer may talk.
    pub(crate) fn admits(&self, peer: &UCred) -> bool {
        let user = peer.uid();
        user == 0
            || user == self.own
            || self.users.contains(&user)
            || self.group.is_some_and(|group| {
                peer.gid() == group || peer.pid().is_some_and(|pid| is_member(pid, group))
            })
    }
}

/// The further groups of a process. The process may have ended and its number
/// be taken by another of the same moment; the socket's mode is the first lock.
fn is_member(pid: i32, group: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    let mut groups = groups.unwrap_or_default().split_ascii_whitespace();
    groups.any(|number| number.parse() == Ok(group))
}

fn group_number(group: &str) -> Result<u32, UnknownGroup> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let fields = groups.lines().map(|line| line.split(':').collect());
    fields
        .filter_map(|fields: Vec<&str>| match fields.as_slice() {
            [name, _, number, ..] if *name == group => number.parse().ok(),
            _ => None,
        })
        .next()
        .ok_or_else(|| UnknownGroup(group.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_known_by_number_and_name() {
        assert_eq!(group_number("4242").unwrap(), 4242);
        assert_eq!(group_number("root").unwrap(), 0);
        assert!(group_number("no such group").is_err());
    }
}
