//! Names of things, parsed once at the edge and never checked again.
//!
//! A value of these types is well-formed by construction: there is no other
//! way to make one than its `parse` (or `FromStr`, or serde, which call it).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not the name it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} {fault}")]
pub struct ParseIdError {
    /// What was being read, for example `app name`.
    pub what: &'static str,
    /// The text as it was given, cut to a printable length.
    pub text: String,
    /// What is wrong with it, and what would be right.
    pub fault: &'static str,
}

/// The longest part of a refused text that an error repeats.
const SHOWN: usize = 120;

fn refuse(what: &'static str, text: &str, fault: &'static str) -> ParseIdError {
    let text = text.chars().take(SHOWN).collect();
    ParseIdError { what, text, fault }
}

/// Gives a string newtype its parsing, printing and serde, all through `parse`.
macro_rules! text_id {
    ($name:ident) => {
        impl $name {
            /// The text of it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, ParseIdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

/// The name of an app: the file name of its configuration, part of container names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

text_id!(AppName);

impl AppName {
    /// Room for a slot and a number in a container's name and in a DNS label.
    pub const MAX: usize = 40;

    /// Reads a name of lower-case letters, digits and inner hyphens.
    pub fn parse(text: &str) -> Result<Self, ParseIdError> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() || text.len() > Self::MAX {
            return Err(refuse("app name", text, "must have 1 to 40 characters"));
        }
        if !text.chars().all(inner) || text.starts_with('-') || text.ends_with('-') {
            let fault = "must be lower-case letters, digits and inner hyphens";
            return Err(refuse("app name", text, fault));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The identity of one deploy: 26 characters that sort by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeployId(String);

text_id!(DeployId);

/// Crockford's alphabet: no letter that is read as a digit.
const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl DeployId {
    const LENGTH: usize = 26;

    /// Makes an id of a time in milliseconds and 80 bits of chance, both given.
    pub fn new(unix_millis: u64, chance: [u8; 10]) -> Self {
        let mut bits = u128::from(unix_millis & ((1 << 48) - 1));
        for byte in chance {
            bits = (bits << 8) | u128::from(byte);
        }
        let letter = |i: usize| {
            let index = (bits >> (5 * (Self::LENGTH - 1 - i))) & 31;
            char::from(CROCKFORD[usize::try_from(index).unwrap_or(0)])
        };
        Self((0..Self::LENGTH).map(letter).collect())
    }

    /// Reads an id that [`DeployId::new`] made.
    pub fn parse(text: &str) -> Result<Self, ParseIdError> {
        if text.len() != Self::LENGTH || !text.bytes().all(|b| CROCKFORD.contains(&b)) {
            let fault = "must be 26 characters of 0-9 and a-z without i, l, o and u";
            return Err(refuse("deploy id", text, fault));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The content address of an image: `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

text_id!(Digest);

impl Digest {
    const HEX: usize = 64;

    /// Reads a digest; other algorithms and upper case are refused.
    pub fn parse(text: &str) -> Result<Self, ParseIdError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.strip_prefix("sha256:") {
            Some(rest) if rest.len() == Self::HEX && rest.bytes().all(hex) => {
                Ok(Self(text.to_owned()))
            }
            _ => {
                let fault = "must be sha256: and 64 lower-case hexadecimal digits";
                Err(refuse("digest", text, fault))
            }
        }
    }

    /// The first twelve digits, as people compare them.
    pub fn short(&self) -> &str {
        &self.0["sha256:".len().."sha256:".len() + 12]
    }
}

/// Where an app's images come from: a registry host and a path, without tag or digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository(String);

text_id!(Repository);

impl Repository {
    /// The engine's own bound on a name.
    pub const MAX: usize = 255;

    /// Reads `host[:port]/path`; the host is required, so that nothing is guessed.
    pub fn parse(text: &str) -> Result<Self, ParseIdError> {
        let bad = |fault| Err(refuse("image repository", text, fault));
        if text.len() > Self::MAX {
            return bad("must have at most 255 characters");
        }
        if text.contains('@') {
            return bad("must not carry a digest: the request brings it");
        }
        let Some((host, path)) = text.split_once('/') else {
            return bad("must name its registry, for example ghcr.io/acme/shop");
        };
        let (name, port) = host.split_once(':').unwrap_or((host, "0"));
        let host_letter = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        let named = name == "localhost" || name.contains('.') || host.contains(':');
        if !named || name.is_empty() || !name.chars().all(host_letter) {
            return bad("must begin with a registry host, for example ghcr.io/acme/shop");
        }
        if port.parse::<u16>().is_err() {
            return bad("has a port that is not a number below 65536");
        }
        if path.contains(':') {
            return bad("must not carry a tag: the request brings a digest");
        }
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let part = |p: &str| {
            let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            p.chars().all(letter) && edge(p.chars().next()) && edge(p.chars().last())
        };
        if !path.split('/').all(part) {
            return bad("has a path that is not lower-case letters, digits, '.', '_' and '-'");
        }
        Ok(Self(text.to_owned()))
    }
}

/// An image that can be nothing else: a repository and a digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    /// Where it comes from.
    pub repository: Repository,
    /// What it is.
    pub digest: Digest,
}

impl ImageReference {
    /// Reads `repository@sha256:…`; a tag alone is refused, because it can move.
    pub fn parse(text: &str) -> Result<Self, ParseIdError> {
        let Some((repository, digest)) = text.split_once('@') else {
            let fault = "must be pinned by digest: repository@sha256:…";
            return Err(refuse("image", text, fault));
        };
        // Build tools print name:tag@digest; the tag adds nothing to the digest.
        let slash = repository.rfind('/').unwrap_or(0);
        let untagged = match repository[slash..].find(':') {
            Some(colon) if slash > 0 => &repository[..slash + colon],
            _ => repository,
        };
        Ok(Self {
            repository: Repository::parse(untagged)?,
            digest: Digest::parse(digest)?,
        })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

impl FromStr for ImageReference {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ImageReference {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        Self::parse(&text)
    }
}

impl From<ImageReference> for String {
    fn from(image: ImageReference) -> String {
        image.to_string()
    }
}

/// The number of a release of one app: 1, 2, 3, …, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseNumber(pub u32);

impl ReleaseNumber {
    /// The number after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl From<u32> for ReleaseNumber {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for ReleaseNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// One of the containers of a release: 0, 1, 2, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Replica(pub u16);

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One of the two places of an app; a release keeps its slot for life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The first release of an app goes here.
    Blue,
    /// The place beside it.
    Green,
}

impl Slot {
    /// The other place.
    pub fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// Its name, as it stands in container names and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr<Err = ParseIdError>>(text: &str, expected: Result<(), &str>) {
        match (text.parse::<T>(), expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{text:?}: {error}");
            }
            (Ok(_), Err(part)) => panic!("{text:?} was taken, expected: {part}"),
            (Err(error), Ok(())) => panic!("{text:?} was refused: {error}"),
        }
    }

    #[test]
    fn app_names() {
        check::<AppName>("shop", Ok(()));
        check::<AppName>("shop-2", Ok(()));
        check::<AppName>("", Err("1 to 40"));
        check::<AppName>("Shop", Err("lower-case"));
        check::<AppName>("-shop", Err("inner hyphens"));
        check::<AppName>("a/../b", Err("lower-case"));
        check::<AppName>(&"a".repeat(41), Err("1 to 40"));
    }

    #[test]
    fn repositories_name_their_registry_and_nothing_else() {
        check::<Repository>("ghcr.io/acme/shop", Ok(()));
        check::<Repository>("localhost:5000/shop", Ok(()));
        check::<Repository>("registry:5000/shop", Ok(()));
        check::<Repository>("shop", Err("registry"));
        check::<Repository>("acme/shop", Err("registry host"));
        check::<Repository>("ghcr.io/acme/shop:latest", Err("tag"));
        check::<Repository>("ghcr.io/acme/shop@sha256:0", Err("digest"));
        check::<Repository>("ghcr.io/Acme/shop", Err("path"));
        check::<Repository>("ghcr.io/acme/", Err("path"));
        check::<Repository>("localhost:99999/shop", Err("port"));
    }

    #[test]
    fn images_are_pinned() {
        let hex = "0123456789abcdef".repeat(4);
        check::<ImageReference>(&format!("ghcr.io/acme/shop@sha256:{hex}"), Ok(()));
        check::<ImageReference>("ghcr.io/acme/shop:v1", Err("pinned by digest"));
        check::<ImageReference>("ghcr.io/acme/shop@sha256:12", Err("64 lower-case"));
        check::<ImageReference>(&format!("ghcr.io/acme/shop@sha512:{hex}"), Err("sha256"));
        let tagged = format!("localhost:5000/shop:v1@sha256:{hex}");
        let image = ImageReference::parse(&tagged).unwrap();
        assert_eq!(image.repository.as_str(), "localhost:5000/shop");
    }

    #[test]
    fn deploy_ids_sort_by_time_and_read_back() {
        let early = DeployId::new(1_000, [255; 10]);
        let late = DeployId::new(1_001, [0; 10]);
        assert!(early < late);
        assert_eq!(DeployId::parse(early.as_str()).unwrap(), early);
        check::<DeployId>("short", Err("26 characters"));
    }
}
