//! Durations as a person types and reads them: `90s`, `30m`, `1m 12s`.

use std::time::Duration;

/// The longest wait: a job of a hosted runner ends after six hours, a
/// self-hosted one after a day.
const MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads a number and a unit: `500ms`, `90s`, `30m` or `2h`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let right = "write a number and a unit, for example 90s, 30m or 2h";
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or(right)?;
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().map_err(|_| right)?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(right.to_owned()),
    };
    let duration = Duration::from_millis(millis.ok_or(right)?);
    if duration.is_zero() || duration > MAX {
        return Err("must be more than nothing and at most 24h".to_owned());
    }
    Ok(duration)
}

/// Writes it as a person reads it: tenths below ten seconds, then seconds,
/// then minutes.
pub(crate) fn render(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_read() {
        let check = |text: &str, seconds: Option<f64>| {
            let read = parse(text).ok().map(|d| d.as_secs_f64());
            assert_eq!(read, seconds, "{text:?}");
        };
        check("90s", Some(90.0));
        check("30m", Some(1_800.0));
        check("24h", Some(86_400.0));
        check("250ms", Some(0.25));
        check("25h", None);
        check("0s", None);
        check("30", None);
        check("m", None);
        check("1d", None);
        check("-1s", None);
        check("99999999999999999999s", None);
        check("18446744073709551615h", None);
    }

    #[test]
    fn durations_read_well() {
        let check = |millis: u64, expected: &str| {
            assert_eq!(render(Duration::from_millis(millis)), expected);
        };
        check(0, "0.0s");
        check(3_240, "3.2s");
        check(42_900, "42s");
        check(72_000, "1m 12s");
        check(3_660_000, "1h 01m");
    }
}
