//! Quantities as people write them: bytes, cores, rates, durations.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a text is not the quantity it was meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct ParseQuantityError {
    /// What is wrong with it.
    pub fault: &'static str,
    /// What would be right.
    pub hint: &'static str,
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Reads a number with its unit, of which a broken byte is cut off: `512MiB`, `1.5 GiB`, `500MB`.
    pub fn parse(text: &str) -> Result<Self, ParseQuantityError> {
        const UNITS: [(&str, u64); 9] = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
            ("KB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("TB", 1_000_000_000_000),
            // The last, because the others end in it.
            ("B", 1),
        ];
        let read = |(unit, size): (&str, u64)| {
            let number = text.strip_suffix(unit)?;
            let number = thousandths(number.strip_suffix(' ').unwrap_or(number))?;
            u64::try_from(u128::from(number) * u128::from(size) / 1000).ok()
        };
        UNITS.into_iter().find_map(read).map(Self).ok_or({
            ParseQuantityError {
                fault: "is not a number of bytes with its unit",
                hint: "write \"512MiB\" or \"1GiB\"",
            }
        })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        for (unit, size) in UNITS {
            if self.0 >= size {
                let tenths = self.0 / (size / 10).max(1);
                return match tenths % 10 {
                    0 => write!(f, "{} {unit}", tenths / 10),
                    tenth => write!(f, "{}.{tenth} {unit}", tenths / 10),
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// Thousandths of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MilliCpus(pub u32);

impl MilliCpus {
    /// Reads a decimal number of cores: `2`, `1.5`.
    pub fn parse(text: &str) -> Result<Self, ParseQuantityError> {
        let thousandths = thousandths(text).and_then(|n| u32::try_from(n).ok());
        thousandths.map(Self).ok_or(ParseQuantityError {
            fault: "is not a number of cores with at most three decimals",
            hint: "write 2 or 1.5",
        })
    }
}

impl fmt::Display for MilliCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_thousandths(f, self.0)
    }
}

/// A share from 0 to 1 in hundred-thousandths, so that it compares exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(pub u32);

impl Rate {
    /// The rate 1.
    pub const ONE: u32 = 100_000;

    /// Reads a share with a percent sign, from `0%` to `100%`.
    pub fn parse(text: &str) -> Result<Self, ParseQuantityError> {
        const HINT: &str = "write \"1%\" or \"0.5%\"";
        let refuse = |fault| ParseQuantityError { fault, hint: HINT };
        let number = text.strip_suffix('%');
        let number = number.ok_or(refuse("is not a share with a percent sign"))?;
        let number = thousandths(number);
        let number = number.ok_or(refuse("is not a percentage with at most three decimals"))?;
        match u32::try_from(number) {
            Ok(rate) if rate <= Self::ONE => Ok(Self(rate)),
            _ => Err(refuse("is more than 100%")),
        }
    }

    /// The share of `part` in `whole`, rounded to the nearest; none of nothing.
    pub fn of(part: u64, whole: u64) -> Option<Self> {
        let (part, whole) = (u128::from(part.min(whole)), u128::from(whole));
        let rate = (part * u128::from(Self::ONE) + whole / 2).checked_div(whole)?;
        u32::try_from(rate).ok().map(Self)
    }

    /// Whether `part` of `whole` is more than this rate.
    pub fn is_exceeded_by(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(Self::ONE) > u128::from(whole) * u128::from(self.0)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_thousandths(f, self.0)?;
        f.write_str("%")
    }
}

/// A share of an app's clients in ten-thousandths: what the proxy splits by.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Weight(pub u16);

impl Weight {
    /// All clients.
    pub const FULL: Self = Self(10_000);

    /// Reads a percentage without its sign, in steps of a hundredth: `5`, `0.25`, `100`.
    pub fn parse(text: &str) -> Result<Self, ParseQuantityError> {
        let refuse = |fault| ParseQuantityError {
            fault,
            hint: "write 5 or 0.25, in percent",
        };
        let number = thousandths(text).filter(|number| number % 10 == 0);
        let number = number.ok_or(refuse("is not a percentage with at most two decimals"))?;
        match u16::try_from(number / 10) {
            Ok(weight) if weight <= Self::FULL.0 => Ok(Self(weight)),
            _ => Err(refuse("is more than 100")),
        }
    }

    /// What is left beside it.
    pub fn rest(self) -> Self {
        Self(Self::FULL.0.saturating_sub(self.0))
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_thousandths(f, u32::from(self.0) * 10)?;
        f.write_str("%")
    }
}

/// Reads a plain decimal number without sign or exponent, exactly.
fn thousandths(text: &str) -> Option<u64> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let part = format!("{part:0<3}").parse::<u64>().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(part)
}

/// Writes what [`thousandths`] reads, without closing zeros.
fn write_thousandths(f: &mut fmt::Formatter<'_>, number: u32) -> fmt::Result {
    let (whole, part) = (number / 1000, number % 1000);
    let part = format!("{part:03}");
    match part.trim_end_matches('0') {
        "" => write!(f, "{whole}"),
        digits => write!(f, "{whole}.{digits}"),
    }
}

/// The units of a duration in milliseconds, in the order in which they are written.
const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads what [`render_duration`] writes; the spaces may be left out: `1m30s`.
pub fn parse_duration(text: &str) -> Result<Duration, ParseQuantityError> {
    const REFUSED: ParseQuantityError = ParseQuantityError {
        fault: "is not a duration",
        hint: "write \"90s\", \"1m 30s\" or \"200ms\", in whole numbers",
    };
    let (mut rest, mut units, mut millis) = (text, TIME_UNITS.as_slice(), 0_u64);
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (name, tail) = tail.split_at(letters);
        // Each unit stands at most once and after the larger ones.
        let unit = units.iter().position(|(unit, _)| *unit == name);
        let unit = unit.ok_or(REFUSED)?;
        let number: u64 = number.parse().map_err(|_| REFUSED)?;
        let part = number.checked_mul(units[unit].1);
        millis = part
            .and_then(|part| millis.checked_add(part))
            .ok_or(REFUSED)?;
        if tail.is_empty() {
            return Ok(Duration::from_millis(millis));
        }
        units = &units[unit + 1..];
        rest = tail.strip_prefix(' ').unwrap_or(tail);
    }
}

/// A duration as the configuration writes it: `90s`, `1m 30s`, `200ms`.
pub fn render_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut rest = millis;
    let mut parts = Vec::new();
    for (unit, size) in TIME_UNITS {
        let size = u128::from(size);
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_people_write_them() {
        assert_eq!(Bytes(512 << 20).to_string(), "512 MiB");
        assert_eq!(Bytes(1_610_612_736).to_string(), "1.5 GiB");
        assert_eq!(Bytes(7).to_string(), "7 B");
        assert_eq!(Rate(1_000).to_string(), "1%");
        assert_eq!(Rate(500).to_string(), "0.5%");
        assert_eq!(
            render_duration(Duration::from_millis(90_200)),
            "1m 30s 200ms"
        );
    }

    fn seconds(text: &str) -> Option<f64> {
        parse_duration(text).ok().map(|d| d.as_secs_f64())
    }

    #[test]
    fn durations_name_their_units() {
        let taken = [
            ("90s", 90.0),
            ("1m30s", 90.0),
            ("1m 30s", 90.0),
            ("200ms", 0.2),
            ("2h", 7200.0),
        ];
        for (text, expected) in taken {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        let refused = [
            "",
            " ",
            "90",
            "s",
            "1.5s",
            "-1s",
            "1 s",
            "1s ",
            " 1s",
            "1s  2ms",
            "1s1m",
            "1s1s",
            "1d",
            "1S",
            "1µs",
            "99999999999999999h",
            "18446744073709551615ms 1ms",
        ];
        for text in refused {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_rates_and_cores_read_exactly() {
        let bytes = |text| Bytes::parse(text).ok().map(|b| b.0);
        assert_eq!(bytes("512MiB"), Some(512 << 20));
        assert_eq!(bytes("512MB"), Some(512_000_000));
        assert_eq!(bytes("1.5 GiB"), Some(1_610_612_736));
        assert_eq!(bytes("7B"), Some(7));
        for text in [
            "",
            "512",
            "512m",
            "512mib",
            "MiB",
            ".5MiB",
            "1.MiB",
            "-1B",
            "1e3B",
            "99999999TiB",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
        let rate = |text| Rate::parse(text).ok().map(|r| r.0);
        assert_eq!(rate("1%"), Some(1_000));
        assert_eq!(rate("0.5%"), Some(500));
        assert_eq!(rate("100%"), Some(Rate::ONE));
        for text in [
            "", "%", "1", "0.01", "100.001%", "0.0001%", "-1%", "1 %", "+1%",
        ] {
            assert_eq!(rate(text), None, "{text}");
        }
        assert_eq!(MilliCpus::parse("1.5"), Ok(MilliCpus(1_500)));
        assert_eq!(MilliCpus(1_500).to_string(), "1.5");
        assert!(MilliCpus::parse("inf").is_err());
        assert!(MilliCpus::parse("4294968").is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(millis: u32, rate in 0..=Rate::ONE) {
            let duration = Duration::from_millis(u64::from(millis));
            assert_eq!(parse_duration(&render_duration(duration)), Ok(duration));
            assert_eq!(Rate::parse(&Rate(rate).to_string()), Ok(Rate(rate)));
        }

        #[test]
        fn no_text_is_too_strange_to_refuse(text in ".{0,20}|[0-9.]{1,25}[a-zA-Z% ]{0,3}") {
            let _ = (parse_duration(&text), Bytes::parse(&text), Rate::parse(&text), MilliCpus::parse(&text));
        }
    }

    #[test]
    fn a_rate_is_exceeded_only_above_it() {
        assert!(!Rate(1_000).is_exceeded_by(1, 100));
        assert!(Rate(1_000).is_exceeded_by(2, 100));
        assert!(!Rate(1_000).is_exceeded_by(0, 0));
        assert!(Rate(0).is_exceeded_by(1, 1_000_000));
        assert_eq!(Rate::of(31, 812), Some(Rate(3_818)));
        assert_eq!(Rate::of(0, 0), None);
    }
}
