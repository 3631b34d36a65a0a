//! The repository a status goes to, as part of a path.

use std::fmt;

use super::failure::Failure;

/// `owner/name`, safe to be put into a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    full: String,
    slash: usize,
}

impl Repository {
    /// Reads `owner/name`. Whatever else stands there must not become another path.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let good = |part: &str| {
            !part.is_empty()
                && part.len() <= 100
                && part.chars().all(allowed)
                && !matches!(part, "." | "..")
        };
        match text.split_once('/') {
            Some((owner, name)) if good(owner) && good(name) => Ok(Self {
                full: text.to_owned(),
                slash: owner.len(),
            }),
            _ => {
                let shown = super::text::line(text);
                Err(Failure::Refused(format!("{shown:?} is not owner/name")))
            }
        }
    }

    /// The name without its owner.
    pub(super) fn name(&self) -> &str {
        &self.full[self.slash + 1..]
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_owner_and_name_reaches_a_path() {
        assert_eq!(
            Repository::parse("acme/shop.web").unwrap().name(),
            "shop.web"
        );
        for bad in [
            "",
            "acme",
            "acme/",
            "/shop",
            "acme/../x",
            "acme/..",
            "acme/shop/x",
            "acme/shop?x",
            "a b/c",
        ] {
            assert!(Repository::parse(bad).is_err(), "{bad:?}");
        }
    }
}
