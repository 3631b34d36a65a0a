//! The file: `auths`, `credHelpers` and `credsStore` of a `config.json`, and
//! which of them is for a registry, by the rules of Docker's own client.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::Login;

/// The name under which Docker's client keeps the login of its own registry.
const HUB: &str = "https://index.docker.io/v1/";

/// What a program is called after `docker-credential-`; the longest in use has
/// a dozen letters.
const LONGEST_NAME: usize = 64;

/// What the file says, as far as it matters here. Passwords are read when they
/// are needed.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct File {
    auths: Map<String, Value>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

impl File {
    /// Reads the text. A mistake is told with its place and never shows a value.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            // Its own words may repeat what stands there.
            let (line, column) = (error.line(), error.column());
            format!("line {line}, column {column}: is no JSON (hint: docker login writes this file; log in anew)")
        })?;
        let Value::Object(mut root) = value else {
            return Err("is no JSON object (hint: begin it with {\"auths\": {)".to_owned());
        };
        let mut file = Self::default();
        if let Some(auths) = root.remove("auths") {
            file.auths = object(auths, "auths")?;
        }
        if let Some(helpers) = root.remove("credHelpers") {
            for (registry, name) in object(helpers, "credHelpers")? {
                let name = name_of(name, &format!("credHelpers.{registry:?}"))?;
                file.helpers.insert(registry, name);
            }
        }
        if let Some(store) = root.remove("credsStore") {
            file.store = Some(name_of(store, "credsStore")?).filter(|name| !name.is_empty());
        }
        Ok(file)
    }

    /// What is wrong with the logins that stand in it.
    pub(super) fn mistakes(&self) -> Vec<String> {
        let all = self.auths.iter();
        all.filter_map(|(key, entry)| read(key, entry).err())
            .collect()
    }

    /// The programs that it names.
    pub(super) fn helpers(&self) -> impl Iterator<Item = &str> {
        let named = self.helpers.values().chain(&self.store);
        named.map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The program for a registry. An empty name means that there is none.
    pub(super) fn helper(&self, registry: &str) -> Option<&str> {
        let own = matching(&self.helpers, registry);
        let name = own.or(self.store.as_ref())?;
        Some(name.as_str()).filter(|name| !name.is_empty())
    }

    /// The login that stands in it for a registry.
    pub(super) fn login(&self, registry: &str) -> Result<Option<Login>, String> {
        let exact = self.auths.get_key_value(address(registry));
        let found = exact.or_else(|| {
            let mut others = self.auths.iter();
            others.find(|(key, _)| host(key) == host(registry))
        });
        match found {
            Some((key, entry)) => read(key, entry),
            None => Ok(None),
        }
    }
}

fn matching<'a>(named: &'a BTreeMap<String, String>, registry: &str) -> Option<&'a String> {
    let exact = named.get(address(registry));
    exact.or_else(|| {
        let mut others = named.iter();
        let found = others.find(|(key, _)| host(key) == host(registry));
        found.map(|(_, value)| value)
    })
}

/// What Docker's client calls a registry.
pub(super) fn address(registry: &str) -> &str {
    match host(registry).as_str() {
        "docker.io" => HUB,
        _ => registry,
    }
}

/// The host and port in the name of a registry, whichever way it is written.
fn host(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| name.strip_prefix(scheme));
    let rest = rest.unwrap_or(&name);
    let host = rest.split('/').next().unwrap_or(rest);
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

fn object(value: Value, key: &str) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(object) => Ok(object),
        Value::Null => Ok(Map::new()),
        _ => Err(format!("{key} is no JSON object")),
    }
}

/// The name of a program, of which nothing but a file in our folders can be made.
fn name_of(value: Value, key: &str) -> Result<String, String> {
    let hint = "hint: it is what stands behind docker-credential- in the program's name";
    let Value::String(name) = value else {
        return Err(format!("{key} is no text ({hint})"));
    };
    let sane = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.len() > LONGEST_NAME || !name.chars().all(sane) {
        return Err(format!(
            "{key} has more than letters, digits, '.', '_' and '-', or more than {LONGEST_NAME} of them ({hint})"
        ));
    }
    Ok(name)
}

/// One login. Docker leaves an empty one where a program has it.
fn read(key: &str, entry: &Value) -> Result<Option<Login>, String> {
    let place = format!("auths.{key:?}");
    let Value::Object(entry) = entry else {
        return Err(format!("{place} is no JSON object"));
    };
    let text = |name: &str| match entry.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(format!("{place}.{name} is no text")),
    };
    let mut login = Login {
        identity_token: text("identitytoken")?,
        ..Login::default()
    };
    if let Some(encoded) = text("auth")? {
        let hint =
            "hint: it is printf USER:PASSWORD | base64 -w0; or log in anew with docker login";
        let wrong =
            || format!("{place}.auth is no base64 of a user, a colon and a password ({hint})");
        let pair = STANDARD.decode(encoded.trim()).map_err(|_| wrong())?;
        let pair = String::from_utf8(pair).map_err(|_| wrong())?;
        // Docker's client ends it with a zero byte on some systems.
        let (username, password) = pair
            .trim_end_matches('\0')
            .split_once(':')
            .ok_or_else(wrong)?;
        login.username = Some(username.to_owned());
        login.password = Some(password.to_owned()).filter(|password| !password.is_empty());
    }
    Ok(Some(login).filter(|login| *login != Login::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, password: &str) -> Login {
        Login {
            username: Some(user.to_owned()),
            password: Some(password.to_owned()),
            identity_token: None,
        }
    }

    fn entry(user: &str, password: &str) -> Value {
        let auth = STANDARD.encode(format!("{user}:{password}"));
        serde_json::json!({ "auth": auth })
    }

    fn parse(value: Value) -> File {
        File::parse(&value.to_string()).unwrap()
    }

    #[test]
    fn a_registry_is_found_however_its_name_is_written() {
        for (key, registry) in [
            ("ghcr.io", "ghcr.io"),
            ("https://ghcr.io", "ghcr.io"),
            ("http://ghcr.io/v1/", "ghcr.io"),
            ("GHCR.io", "ghcr.io"),
            ("localhost:5000", "localhost:5000"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("https://index.docker.io/v1/", "index.docker.io"),
            ("docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
        ] {
            let file = parse(serde_json::json!({ "auths": { key: entry("u", "p:q") } }));
            let found = file.login(registry).unwrap();
            assert!(found == Some(login("u", "p:q")), "{key} is for {registry}");
            let file = parse(serde_json::json!({ "credHelpers": { key: "ecr-login" } }));
            assert_eq!(file.helper(registry), Some("ecr-login"), "{key}");
        }
        for (key, registry) in [
            ("ghcr.io", "docker.io"),
            ("ghcr.io.example.com", "ghcr.io"),
            ("localhost:5000", "localhost:5001"),
            ("localhost", "localhost:5000"),
        ] {
            let file = parse(serde_json::json!({ "auths": { key: entry("u", "p") } }));
            assert!(file.login(registry).unwrap().is_none(), "{key}");
        }
        let both = serde_json::json!({
            "auths": { "https://ghcr.io": entry("other", "p"), "ghcr.io": entry("exact", "p") },
        });
        assert!(parse(both).login("ghcr.io").unwrap() == Some(login("exact", "p")));
    }

    #[test]
    fn a_program_of_the_registry_goes_before_that_of_all() {
        let file = parse(serde_json::json!({
            "credsStore": "pass", "credHelpers": { "ghcr.io": "gh", "quay.io": "" },
        }));
        assert_eq!(file.helper("ghcr.io"), Some("gh"));
        assert_eq!(file.helper("docker.io"), Some("pass"));
        assert_eq!(file.helper("quay.io"), None, "empty is none");
        assert_eq!(file.helpers().collect::<Vec<_>>(), ["gh", "pass"]);
        assert_eq!(
            address("docker.io"),
            HUB,
            "the programs know it by this name"
        );
    }

    #[test]
    fn tokens_are_taken_and_empty_logins_are_none() {
        let file = parse(serde_json::json!({ "auths": {
            "a": { "auth": "MDA6", "identitytoken": "secret" }, "b": {}, "c": { "auth": "" },
        }, "HttpHeaders": { "User-Agent": "x" } }));
        let token = Login {
            username: Some("00".to_owned()),
            password: None,
            identity_token: Some("secret".to_owned()),
        };
        assert!(file.login("a").unwrap() == Some(token));
        assert!(file.login("b").unwrap().is_none());
        assert!(file.login("c").unwrap().is_none());
        assert_eq!(file.mistakes(), [""; 0]);
        assert!(parse(serde_json::json!({})) == File::default());
    }

    #[test]
    fn a_mistake_names_its_place_and_shows_no_value() {
        let check = |text: &str, place: &str| {
            let mistakes = match File::parse(text) {
                Ok(file) => file.mistakes(),
                Err(mistake) => vec![mistake],
            };
            let [mistake] = mistakes.as_slice() else {
                panic!("{text}: {mistakes:?}");
            };
            assert!(mistake.contains(place), "{text}: {mistake}");
            assert!(!mistake.contains("hunter"), "{mistake}");
        };
        check("{\n  \"auths\": hunter2\n}", "line 2, column");
        check("", "line 1, column 0");
        check("\"hunter2\"", "is no JSON object");
        check(r#"{"auths": "hunter2"}"#, "auths is no JSON object");
        check(r#"{"auths": {"ghcr.io": "hunter2"}}"#, "auths.\"ghcr.io\"");
        check(
            r#"{"auths": {"ghcr.io": {"auth": 7}}}"#,
            "auths.\"ghcr.io\".auth is no text",
        );
        check(
            r#"{"auths": {"ghcr.io": {"auth": "hunter2"}}}"#,
            "is no base64",
        );
        // A text without a colon: "hunter2".
        check(
            r#"{"auths": {"ghcr.io": {"auth": "aHVudGVyMg=="}}}"#,
            "a colon",
        );
        check(r#"{"credsStore": "../hunter"}"#, "credsStore has more");
        check(r#"{"credsStore": ["hunter"]}"#, "credsStore is no text");
        check(
            r#"{"credHelpers": {"ghcr.io": "a b; hunter"}}"#,
            "credHelpers.\"ghcr.io\"",
        );
    }
}
