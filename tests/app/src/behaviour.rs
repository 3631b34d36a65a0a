//! How the app behaves, read once from its environment.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// What the environment asks of the app.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviour {
    /// `VERSION`: named in every answer.
    pub version: String,
    /// `ADDRESS`, by default every address of the machine.
    pub address: IpAddr,
    /// `PORT`, by default 8080; with 0 the system chooses, and the log tells.
    pub port: u16,
    /// `DELAY_MS`: each answer waits this long; `/healthz` does not.
    pub delay: Duration,
    /// `ERROR_RATE`: the share of answers that are 500, from 0 to 1.
    pub error_rate: f64,
    /// `ERRORS_AFTER_S`: errors begin this long after start; alone it means all.
    pub errors_after: Duration,
    /// `CRASH_AFTER_S`: ends with exit code 1 this long after start.
    pub crash_after: Option<Duration>,
    /// `CRASH_IN_USE_S`: the same, this long after the first request that is not
    /// about its health.
    pub crash_in_use: Option<Duration>,
    /// `EXIT_AT_START`: prints this error and exits with code 1.
    pub exit_at_start: Option<String>,
    /// `MEMORY_MB`: memory to take and touch.
    pub memory_megabytes: usize,
    /// `MEMORY_AFTER_S`: when to take it.
    pub memory_after: Duration,
    /// `SLOW_START_S`: the port opens only after this long.
    pub slow_start: Duration,
    /// `UNHEALTHY`: `/healthz` answers 503 with this reason.
    pub unhealthy: Option<String>,
    /// `UNHEALTHY_AFTER_S`: when it begins to; alone it means `asked to be`.
    pub unhealthy_after: Duration,
    /// `FIRST_IN=/FILE`: whoever makes the file is healthy, all others, which find
    /// it made, are not: one of several containers that is of another mind.
    pub first_in: Option<PathBuf>,
    /// `STOP_DELAY_S`: a graceful stop takes at least this long.
    pub stop_delay: Duration,
    /// `IGNORE_SIGTERM`: only a kill ends it.
    pub ignores_sigterm: bool,
    /// `JOURNAL=stdout`: each id is also printed, as `served ID`.
    pub prints_journal: bool,
    /// `JOURNAL=/FILE`: each id is also added to the file, one a line, when it
    /// is asked for and not when it is answered, so that a kill hides none.
    pub journal_file: Option<PathBuf>,
    /// `KEEP_ALIVE_MS`: closes a connection that is idle for so long.
    pub keep_alive: Option<Duration>,
    /// `H2C`: speaks HTTP/2 without being asked, and nothing else.
    pub speaks_http2: bool,
    /// `LEAVES_AFTER`: closes a connection a millisecond after so many answers on
    /// it, without a word and whatever else is open there.
    pub leaves_after: Option<usize>,
}

impl Behaviour {
    /// Reads the behaviour with `variable`, which looks up an environment
    /// variable by name. An empty variable counts as absent.
    ///
    /// # Errors
    ///
    /// Names the first variable whose value has no meaning.
    pub fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let text = |name: &str| variable(name).filter(|value| !value.is_empty());
        let number = |name: &str| -> Result<Option<f64>, String> {
            let Some(value) = text(name) else {
                return Ok(None);
            };
            match value.parse::<f64>() {
                Ok(number) if (0.0..1e9).contains(&number) => Ok(Some(number)),
                _ => Err(format!("{name}={value} is not a number of at least 0")),
            }
        };
        let seconds = |name: &str| -> Result<Option<Duration>, String> {
            Ok(number(name)?.map(Duration::from_secs_f64))
        };
        let switch = |name: &str| text(name).is_some_and(|value| value != "0");
        let reason = |name: &str, default: &str| {
            text(name).filter(|value| value != "0").map(|value| {
                if value == "1" {
                    default.to_owned()
                } else {
                    value
                }
            })
        };

        let errors_after = seconds("ERRORS_AFTER_S")?;
        let error_rate = match (number("ERROR_RATE")?, errors_after) {
            (Some(rate), _) if rate <= 1.0 => rate,
            (Some(rate), _) => return Err(format!("ERROR_RATE={rate} is more than 1")),
            (None, Some(_)) => 1.0,
            (None, None) => 0.0,
        };
        let unhealthy_after = seconds("UNHEALTHY_AFTER_S")?;
        let unhealthy = reason("UNHEALTHY", "asked to be")
            .or_else(|| unhealthy_after.map(|_| "asked to be".to_owned()));
        let port = match text("PORT") {
            None => 8080,
            Some(value) => value
                .parse()
                .map_err(|_| format!("PORT={value} is not a port"))?,
        };
        let address = match text("ADDRESS") {
            None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Some(value) => value
                .parse()
                .map_err(|_| format!("ADDRESS={value} is not an address"))?,
        };
        let journal = text("JOURNAL");
        let keep_alive = number("KEEP_ALIVE_MS")?;
        let leaves_after = match text("LEAVES_AFTER").map(|value| (value.parse(), value)) {
            None => None,
            Some((Ok(count), _)) if count > 0 => Some(count),
            Some((_, value)) => return Err(format!("LEAVES_AFTER={value} is not a count")),
        };
        let megabytes = number("MEMORY_MB")?.unwrap_or(0.0);
        Ok(Self {
            version: text("VERSION").unwrap_or_else(|| "unnamed".to_owned()),
            address,
            port,
            delay: Duration::from_secs_f64(number("DELAY_MS")?.unwrap_or(0.0) / 1000.0),
            error_rate,
            errors_after: errors_after.unwrap_or_default(),
            crash_after: seconds("CRASH_AFTER_S")?,
            crash_in_use: seconds("CRASH_IN_USE_S")?,
            exit_at_start: reason("EXIT_AT_START", "this release cannot start"),
            memory_megabytes: Duration::from_secs_f64(megabytes).as_secs() as usize,
            memory_after: seconds("MEMORY_AFTER_S")?.unwrap_or_default(),
            slow_start: seconds("SLOW_START_S")?.unwrap_or_default(),
            unhealthy,
            unhealthy_after: unhealthy_after.unwrap_or_default(),
            first_in: text("FIRST_IN").map(PathBuf::from),
            stop_delay: seconds("STOP_DELAY_S")?.unwrap_or_default(),
            ignores_sigterm: switch("IGNORE_SIGTERM"),
            prints_journal: journal.as_deref() == Some("stdout"),
            journal_file: journal
                .filter(|place| place.starts_with('/'))
                .map(PathBuf::from),
            keep_alive: keep_alive.map(|millis| Duration::from_secs_f64(millis / 1000.0)),
            speaks_http2: switch("H2C"),
            leaves_after,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Behaviour, String> {
        Behaviour::parse(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_empty_environment_behaves() {
        let behaviour = of(&[("ERROR_RATE", "")]).unwrap();
        assert_eq!(behaviour.port, 8080);
        assert_eq!(behaviour.error_rate, 0.0);
        assert_eq!(behaviour.unhealthy, None);
        assert_eq!(behaviour.crash_after, None);
        assert_eq!(behaviour.journal_file, None);
        assert_eq!(behaviour.keep_alive, None);
        assert_eq!(behaviour.leaves_after, None);
        assert!(!behaviour.speaks_http2);
    }

    #[test]
    fn a_time_alone_means_the_whole_misbehaviour() {
        let behaviour = of(&[("ERRORS_AFTER_S", "2.5"), ("UNHEALTHY_AFTER_S", "1")]).unwrap();
        assert_eq!(behaviour.error_rate, 1.0);
        assert_eq!(behaviour.errors_after, Duration::from_millis(2500));
        assert_eq!(behaviour.unhealthy.as_deref(), Some("asked to be"));
    }

    #[test]
    fn a_value_without_meaning_is_named() {
        for (name, value) in [
            ("DELAY_MS", "soon"),
            ("ERROR_RATE", "1.5"),
            ("PORT", "70000"),
            ("ADDRESS", "here"),
            ("CRASH_AFTER_S", "-1"),
            ("MEMORY_MB", "NaN"),
            ("LEAVES_AFTER", "0"),
        ] {
            let error = of(&[(name, value)]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }
}
