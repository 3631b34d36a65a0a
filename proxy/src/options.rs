//! What the program is told on its command line.
//!
//! Routes are no options: they come through the control socket only.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::access_log::Share;
use crate::door::Door;

/// The options of `cutover-proxy`.
#[derive(Debug, Clone, Parser)]
#[command(name = "cutover-proxy", version, about)]
pub struct Options {
    /// An address to serve users on, and what is spoken there: `http` (the default) or
    /// `https`, with `+proxy` where each connection begins with the PROXY protocol, and
    /// `+h2c` where HTTP/2 may begin without asking; repeatable. Sockets from systemd are
    /// served too, and their names are the same words.
    #[arg(long, value_name = "[KIND=]ADDRESS")]
    pub listen: Vec<Door>,

    /// The control socket of a running instance whose users this one takes over. Its
    /// listeners are taken along where --listen names them, or where there is no --listen
    /// and no socket from systemd. Where no instance runs, this one starts plainly.
    #[arg(long, value_name = "SOCKET")]
    pub takeover: Option<PathBuf>,

    /// The Unix socket on which the agent talks.
    #[arg(long, value_name = "PATH", default_value = "/run/cutover/proxy.sock")]
    pub control: PathBuf,

    /// The directory that keeps the table over a restart.
    #[arg(long, value_name = "PATH", default_value = "/var/lib/cutover-proxy")]
    pub state: PathBuf,

    /// The group that owns the control socket and may use it, by number or name.
    #[arg(long, value_name = "GROUP")]
    pub control_group: Option<String>,

    /// A user id that may use the control socket, besides root and our own; repeatable.
    #[arg(long, value_name = "UID")]
    pub control_uid: Vec<u32>,

    /// Worker threads; one for each processor by default.
    #[arg(long, value_name = "COUNT")]
    pub workers: Option<usize>,

    /// Client connections at most; further ones wait in the kernel.
    #[arg(long, value_name = "COUNT", default_value_t = 20_000)]
    pub max_connections: usize,

    /// How long a client may take for the head of a request.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub head_timeout: Duration,

    /// How long a client connection may be idle between requests.
    #[arg(long, value_name = "DURATION", default_value = "75s", value_parser = duration)]
    pub idle_timeout: Duration,

    /// Bytes in a second that a body must move while its client holds it up, once the
    /// patience is used up; 0 waits as long as the app's idle timeout allows.
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub min_rate: u64,

    /// How long a client may hold a body up, beyond what its bytes earn by the lowest
    /// rate. Half a minute is what a phone needs that changes its network.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub patience: Duration,

    /// How long open requests may take to end after SIGTERM.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub grace: Duration,

    /// How long an idle client connection is still listened to after SIGTERM, so that a
    /// request already on its way gets an answer.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub linger: Duration,

    /// How long what is open may go on after another instance took over. Half an hour
    /// lets long downloads end and most tunnels be made anew by their clients, and does
    /// not keep an old program for a day.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    pub max_drain: Duration,
    /// An address for monitors: GET /metrics for Prometheus, GET /healthz. Whoever reaches
    /// it may ask, so it should be of the loopback, such as 127.0.0.1:9180.
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,

    /// A file that gets a line of JSON for each request, or `-` for the standard output.
    /// SIGHUP opens it anew. A query is never written: it may carry secrets.
    #[arg(long, value_name = "PATH")]
    pub access_log: Option<PathBuf>,

    /// Of how many requests a line is written, drawn by chance: 1/N, or a number from 0 to
    /// 1. What the proxy itself answers with 500 or above is always written.
    #[arg(
        long,
        value_name = "SHARE",
        default_value = "1/1",
        requires = "access_log"
    )]
    pub access_log_sample: Share,
}

/// A duration as a whole number with its unit: `ms`, `s` or `m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} does not begin with a whole number"))?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => return Err(format!("{text:?} must end with ms, s or m")),
    };
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<u64>) {
        let told = duration(text).ok();
        assert_eq!(told, expected.map(Duration::from_millis), "{text}");
    }

    #[test]
    fn durations_need_a_number_and_a_unit() {
        check("250ms", Some(250));
        check("10s", Some(10_000));
        check("2m", Some(120_000));
        check("10", None);
        check("s", None);
        check("1.5s", None);
        check("99999999999999999999s", None);
        check("18446744073709551615m", None);
    }
}
