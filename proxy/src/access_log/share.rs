//! The share of requests that the access log tells of.

use std::str::FromStr;

/// Of how many requests a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// A request is drawn when its random number is below this.
    below: u64,
}

/// Why a text is no share.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no share of requests: write 1/N, or a number from 0 to 1 such as 0.01")]
pub struct NoShare(String);

impl Share {
    /// Every request.
    pub const ALL: Self = Self { below: u64::MAX };

    /// Whether a request with this random number is drawn.
    pub(crate) fn draws(self, random: u64) -> bool {
        random < self.below || self == Self::ALL
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromStr for Share {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Self, NoShare> {
        let wrong = || NoShare(text.to_owned());
        if let Some(count) = text.strip_prefix("1/") {
            let count: u64 = count.parse().map_err(|_| wrong())?;
            let below = u64::MAX.checked_div(count).ok_or_else(wrong)?;
            return Ok(Self { below });
        }
        let share: f64 = text.parse().map_err(|_| wrong())?;
        if !(0.0..=1.0).contains(&share) {
            return Err(wrong());
        }
        // A conversion to an integer stops at its bounds.
        let below = (share * u64::MAX as f64) as u64;
        Ok(Self { below })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<f64>) {
        let share = text.parse::<Share>().ok();
        let drawn = share.map(|share| share.below as f64 / u64::MAX as f64);
        match (drawn, expected) {
            (Some(drawn), Some(expected)) => assert!((drawn - expected).abs() < 1e-9, "{text}"),
            (drawn, expected) => assert_eq!(drawn, expected, "{text}"),
        }
    }

    #[test]
    fn a_share_is_one_of_so_many_or_a_number_up_to_one() {
        check("1/1", Some(1.0));
        check("1/100", Some(0.01));
        check("0.01", Some(0.01));
        check("1", Some(1.0));
        check("0", Some(0.0));
        for wrong in [
            "", "2", "-0.1", "1/0", "1/-5", "1/", "5/100", "1%", "NaN", "inf",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn all_and_none_have_no_exception() {
        assert!(Share::ALL.draws(u64::MAX) && Share::ALL.draws(0));
        let none: Share = "0".parse().unwrap();
        assert!(!none.draws(0) && !none.draws(u64::MAX));
        assert_eq!("1/1".parse::<Share>().unwrap(), Share::ALL);
        assert_eq!("1".parse::<Share>().unwrap(), Share::ALL);
    }
}
