//! The forms of single values: hosts, paths, variables, names at GitHub.
//!
//! Each function takes the text of one value and gives it back in the one
//! form that the rest of the program compares, or says why it has none.

use crate::spec::reader::Fault;

/// The longest name that DNS can carry.
const HOST: usize = 253;
/// The longest label that DNS can carry.
const LABEL: usize = 63;
/// `PATH_MAX` of Linux.
const PATH: usize = 4096;
/// The longest request path and URL that every server and browser carries.
const URL: usize = 2048;
/// GitHub's bound on the name of an environment.
const ENVIRONMENT: usize = 255;
/// GitHub's bound on the name of a repository.
const REPOSITORY: usize = 100;
/// GitHub's bound on the name of an account.
const OWNER: usize = 39;

/// `*`, or one host exactly as browsers send it, without port.
pub(super) fn host(text: &str) -> Result<String, Fault> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let fault = |fault: &str, hint: &str| Err(Fault::new(fault).hint(hint));
    if text.contains("://") || text.contains('/') {
        return fault("must be a host alone", "leave out the scheme and the path");
    }
    if text.contains(':') {
        return fault(
            "must be a host without port",
            "the proxy's ports are the agent's to set",
        );
    }
    if text.contains('*') {
        return fault(
            "must be an exact host",
            "list each host, or \"*\" for all that are left",
        );
    }
    if !text.is_ascii() {
        return fault(
            "must be in ASCII",
            "write it as DNS does, beginning with xn--",
        );
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        let hint = format!("write \"{}\"", text.to_ascii_lowercase());
        return fault("must be in lower case", &hint);
    }
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |label: &str| {
        let hyphen = label.starts_with('-') || label.ends_with('-');
        (1..=LABEL).contains(&label.len()) && label.bytes().all(letter) && !hyphen
    };
    match text.len() <= HOST && text.split('.').all(label) {
        true => Ok(text.to_owned()),
        false => fault("is not a host", "write it like \"shop.example.com\""),
    }
}

/// `/`, or the beginning of paths that ends in a whole segment.
pub(super) fn prefix(text: &str) -> Result<String, Fault> {
    let path = request_path(text)?;
    if path == "/" {
        return Ok(path);
    }
    if path.contains(['?', '%']) {
        return Err(Fault::new("must be a path without query and escapes"));
    }
    if let Some(trimmed) = path.strip_suffix('/') {
        return Err(Fault::new("must not end with /").hint(format!("write \"{trimmed}\"")));
    }
    let clear = |part: &str| !matches!(part, "" | "." | "..");
    match path.split('/').skip(1).all(clear) {
        true => Ok(path),
        false => Err(Fault::new("must not contain //, /./ or /../")),
    }
}

/// What stands in the first line of a request.
pub(super) fn request_path(text: &str) -> Result<String, Fault> {
    if !text.starts_with('/') {
        return Err(Fault::new("must begin with /"));
    }
    if text.len() > URL {
        return Err(Fault::new(format!("must have at most {URL} characters")));
    }
    match text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        true => Ok(text.to_owned()),
        false => Err(
            Fault::new("must not contain #, spaces or characters beyond ASCII")
                .hint("escape them with %"),
        ),
    }
}

/// A path of the host or of the container that means the same to everyone who reads it.
pub(super) fn absolute_path(text: &str) -> Result<String, Fault> {
    if !text.starts_with('/') {
        return Err(Fault::new("must be an absolute path").hint("begin with /"));
    }
    if text.len() > PATH || text.chars().any(char::is_control) {
        let fault = format!("must have at most {PATH} bytes and no control characters");
        return Err(Fault::new(fault));
    }
    if text == "/" {
        return Ok(text.to_owned());
    }
    let path = text.strip_suffix('/').unwrap_or(text);
    match path
        .split('/')
        .skip(1)
        .all(|part| !matches!(part, "" | "." | ".."))
    {
        true => Ok(path.to_owned()),
        false => Err(Fault::new("must not contain //, /./ or /../")),
    }
}

/// The name of a variable; dots and hyphens too, since images are found that read such names.
pub(super) fn variable_name(text: &str) -> Result<(), Fault> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let begins = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    match begins && text.len() <= 255 && text.bytes().all(letter) {
        true => Ok(()),
        false => Err(Fault::new("is not the name of a variable")
            .hint("write letters, digits and _, not beginning with a digit")),
    }
}

/// `owner/name` at GitHub.
pub(super) fn github_repository(text: &str) -> Result<String, Fault> {
    let part = |text: &str, max: usize, marks: &[u8]| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || marks.contains(&b);
        (1..=max).contains(&text.len()) && text.bytes().all(letter) && text != "." && text != ".."
    };
    match text.split_once('/') {
        // An underscore stands in the names of accounts that a company manages.
        Some((owner, name)) if part(owner, OWNER, b"-_") && part(name, REPOSITORY, b"-_.") => {
            Ok(text.to_owned())
        }
        _ => Err(Fault::new("is not owner/name").hint("write it like \"acme/shop\"")),
    }
}

/// The name of an environment at GitHub.
pub(super) fn github_environment(text: &str) -> Result<String, Fault> {
    let length = (1..=ENVIRONMENT).contains(&text.chars().count());
    match length && !text.chars().any(char::is_control) && text.trim() == text {
        true => Ok(text.to_owned()),
        false => Err(Fault::new(format!(
            "must have 1 to {ENVIRONMENT} characters, none of them a control character, no space at the ends"
        ))),
    }
}

/// A link that a person can follow.
pub(super) fn url(text: &str) -> Result<String, Fault> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else {
        let fault = Fault::new("is not a web address");
        return Err(fault.hint("begin with https:// or http://").concealed());
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(Fault::new("must not carry a user or a password").concealed());
    }
    let graphic = text
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"\"<>\\".contains(&b));
    match !authority.is_empty() && text.len() <= URL && graphic {
        true => Ok(text.to_owned()),
        false => {
            Err(Fault::new("is not a web address")
                .hint("write it like \"https://shop.example.com\""))
        }
    }
}
