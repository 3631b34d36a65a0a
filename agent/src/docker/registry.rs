//! A registry: who asks it, what its refusals mean, and the question before a pull.
//!
//! The question is put by the engine, with the engine's trust and its way out,
//! so that its answer is the one that the pull would get. It refuses what the
//! pull would refuse for sure, and leaves everything else to the pull, which has
//! its tries.

use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::{OciPlatform, SystemInfo};
use cutover_plan::id::{ImageReference, Repository};
use cutover_plan::spec::render_duration;
use cutover_wire::request::RegistryCredentials;
use tokio::time::timeout;

use crate::containers::{ContainerError, ContainerErrorKind};

use super::connection::Connection;
use super::failure::{Fault, WithHint as _};
use super::keyring::{Found, Keyring, Login};
use super::processor;

/// A registry answers within a second or two. One that takes longer is no
/// reason to wait: the pull finds out. It bounds the reading of the host's
/// credentials, too.
const ANSWER: Duration = Duration::from_secs(10);

/// What registries say to whom they do not let in.
const DENIED: [&str; 4] = [
    "unauthorized",
    "denied",
    "no basic auth credentials",
    "authentication required",
];

/// What others say in like words: a door before the engine, and the road.
const NOT_THE_REGISTRY: [&str; 3] = ["denied by plugin", "permission denied", "dial tcp"];

/// What registries say of what they do not have.
const UNKNOWN: [&str; 3] = ["manifest unknown", "name unknown", "name_unknown"];

/// Asks whether the image can be had and runs here, and tells in a few words
/// what was found.
pub(super) async fn ask(
    engine: &Connection,
    system: &SystemInfo,
    keyring: &Keyring,
    image: &ImageReference,
    credentials: Option<&RegistryCredentials>,
) -> Result<String, ContainerError> {
    if has_mirrors(system, &image.repository) {
        return Ok("the registry is not asked, as the engine has mirrors of it".to_owned());
    }
    let asking = answer(engine, keyring, image, credentials);
    let platforms = match timeout(ANSWER, asking).await {
        Ok(Answer::Platforms(platforms)) => platforms,
        Ok(Answer::Refused(error)) => return Err(error),
        Ok(Answer::None(reason)) => return Ok(unasked(&reason)),
        Err(_) => {
            let limit = render_duration(ANSWER);
            return Ok(unasked(&format!("no answer within {limit}")));
        }
    };
    let processors = processors(&platforms);
    processor::check(&image.to_string(), &processors, system, engine.is_local())?;
    Ok("the registry has it".to_owned())
}

fn unasked(reason: &str) -> String {
    format!("the registry could not be asked: {reason}")
}

/// What becomes of the question.
enum Answer {
    /// The image is there, for these.
    Platforms(Vec<OciPlatform>),
    /// The pull would be refused, too.
    Refused(ContainerError),
    /// Nothing that decides, for this reason.
    None(String),
}

async fn answer(
    engine: &Connection,
    keyring: &Keyring,
    image: &ImageReference,
    credentials: Option<&RegistryCredentials>,
) -> Answer {
    let asker = match Asker::find(keyring, image, credentials).await {
        Ok(asker) => asker,
        Err(error) if error.kind == ContainerErrorKind::Unavailable => {
            return Answer::None(error.reason);
        }
        Err(error) => return Answer::Refused(error),
    };
    let name = image.to_string();
    let what = format!("asking the registry for {name}");
    let asked = engine
        .call(what, ANSWER, async |client| {
            let credentials = asker.credentials();
            client.inspect_registry_image(&name, credentials).await
        })
        .await;
    let fault = match asked {
        Ok(answer) => return Answer::Platforms(answer.platforms),
        Err(fault) => asker.conceal(fault),
    };
    // An engine without this question, and a door before it that does not let it
    // pass, say "not found" and "forbidden" as well, but not in these words.
    let is_registrys = fault.says(&DENIED) || fault.says(&UNKNOWN);
    let is_registrys = is_registrys && !fault.says(&NOT_THE_REGISTRY);
    let reason = fault.message.clone();
    match asker.classify(fault) {
        error if is_registrys && error.kind != ContainerErrorKind::Unavailable => {
            Answer::Refused(error)
        }
        _ => Answer::None(reason),
    }
}

/// A pull goes from a mirror to the registry itself; this question ends at the
/// mirror, which need not have what only those with a password get. Engines have
/// mirrors of Docker Hub alone.
fn has_mirrors(system: &SystemInfo, repository: &Repository) -> bool {
    let is_hub = ["docker.io", "index.docker.io"].contains(&host(repository));
    let registries = system.registry_config.as_ref();
    let mirrors = registries.and_then(|registries| registries.mirrors.as_ref());
    is_hub && mirrors.is_some_and(|mirrors| !mirrors.is_empty())
}

/// The processors for which an image is made. What a builder adds about an image
/// stands beside it as made for an unknown system.
fn processors(platforms: &[OciPlatform]) -> Vec<&str> {
    let may_be_linux = |platform: &&OciPlatform| {
        let os = platform.os.as_deref().unwrap_or_default();
        os.is_empty() || os == "linux"
    };
    let ours = platforms.iter().filter(may_be_linux);
    ours.map(|platform| platform.architecture.as_deref().unwrap_or_default())
        .collect()
}

fn host(repository: &Repository) -> &str {
    let text = repository.as_str();
    text.split_once('/').map_or(text, |(host, _)| host)
}

/// Who asks a registry for an image.
pub(super) struct Asker<'a> {
    registry: &'a str,
    keyring: &'a Keyring,
    found: Option<Found>,
}

impl<'a> Asker<'a> {
    /// The credentials of the call go before those that the host knows.
    pub(super) async fn find(
        keyring: &'a Keyring,
        image: &'a ImageReference,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<Self, ContainerError> {
        let registry = host(&image.repository);
        let found = match credentials {
            Some(given) => Some(Found {
                login: Login::from(given),
                from: "the call".to_owned(),
            }),
            None => keyring.find(registry).await?,
        };
        Ok(Self {
            registry,
            keyring,
            found,
        })
    }

    /// As the engine takes them.
    pub(super) fn credentials(&self) -> Option<DockerCredentials> {
        let found = self.found.as_ref()?;
        Some(found.login.credentials(self.registry))
    }

    /// Takes the credentials out of a text in which they should never be.
    fn conceal(&self, mut fault: Fault) -> Fault {
        if let Some(found) = &self.found {
            fault.message = found.login.conceal(&fault.message);
        }
        fault
    }

    /// What it means that the registry, or the engine on its behalf, did not do it.
    pub(super) fn classify(&self, fault: Fault) -> ContainerError {
        use ContainerErrorKind::{Denied, Host, Request, Unavailable};
        let fault = self.conceal(fault);
        if fault.status.is_none() || fault.says(&["no space left on device", "disk quota exceeded"])
        {
            return fault.into();
        }
        if fault.says(&["toomanyrequests", "too many requests", "rate limit"]) {
            let hint = "the registry limits pulls; with credentials it usually allows more";
            return fault.into_error(Unavailable).with_hint(hint);
        }
        if fault.says(&[
            "no matching manifest",
            "does not match the specified platform",
        ]) {
            let hint = "build the image for the host's processor, too";
            return fault.into_error(Request).with_hint(hint);
        }
        if fault.says(&["x509:", "server gave http response to https client"]) {
            let hint = "the engine must trust the registry's certificate, see insecure-registries and certs.d in its manual";
            return fault.into_error(Host).with_hint(hint);
        }
        if fault.says(&DENIED) || fault.says(&["403 forbidden"]) {
            let hint = match &self.found {
                Some(found) => format!(
                    "the registry does not take the credentials of {} for this repository: see that they are still valid and may read it",
                    found.from
                ),
                None => format!(
                    "the registry wants credentials: pass them with the call, or keep them in {}",
                    self.keyring.place().display()
                ),
            };
            return fault.into_error(Denied).with_hint(hint);
        }
        if fault.says(&UNKNOWN) || fault.says(&["not found"]) {
            let hint = "see that this digest was pushed to this repository, and not deleted since";
            return fault.into_error(Request).with_hint(hint);
        }
        fault.into_error(Unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(message: &str, given: RegistryCredentials) -> ContainerError {
        let asker = Asker {
            registry: "localhost:5000",
            keyring: &Keyring::default(),
            found: Some(Found {
                login: Login::from(&given),
                from: "the call".to_owned(),
            }),
        };
        let (what, message) = ("pulling x".to_owned(), message.to_owned());
        asker.classify(Fault {
            what,
            status: Some(500),
            message,
        })
    }

    fn given(password: &str) -> RegistryCredentials {
        RegistryCredentials {
            username: "u".into(),
            password: password.into(),
        }
    }

    fn check(message: &str, expected: ContainerErrorKind) {
        let error = classified(message, given("hunter2"));
        assert_eq!(error.kind, expected, "{message}");
    }

    #[test]
    fn a_pull_that_may_do_better_later_is_told_from_one_that_will_not() {
        use ContainerErrorKind::{Denied, Host, Request, Unavailable};
        check(
            "manifest for localhost:5000/x@sha256:1 not found: manifest unknown",
            Request,
        );
        check(
            "repository name not known to registry: name unknown",
            Request,
        );
        check("Head \"https://ghcr.io/v2/acme/shop\": denied", Denied);
        check(
            "Get \"http://localhost:5001/v2/x\": no basic auth credentials",
            Denied,
        );
        check("unauthorized: authentication required", Denied);
        check(
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
            Request,
        );
        check(
            "toomanyrequests: You have reached your unauthenticated pull rate limit. denied",
            Unavailable,
        );
        check(
            "dial tcp: lookup ghcr.io on 127.0.0.53:53: no such host",
            Unavailable,
        );
        check(
            "dial tcp 127.0.0.1:5999: connect: connection refused",
            Unavailable,
        );
        check(
            "received unexpected HTTP status: 502 Bad Gateway",
            Unavailable,
        );
        check("net/http: TLS handshake timeout", Unavailable);
        check(
            "failed to register layer: write /app: no space left on device",
            Host,
        );
        check("x509: certificate signed by unknown authority", Host);
    }

    #[test]
    fn a_password_is_taken_out_of_an_error() {
        let error = classified("denied for u:hunter2", given("hunter2"));
        assert_eq!(error.reason, "pulling x: denied for u:…");
    }

    #[test]
    fn what_stands_beside_an_image_and_other_systems_are_no_processor_it_is_made_for() {
        let check = |platforms: serde_json::Value, expected: &[&str]| {
            let platforms: Vec<OciPlatform> = serde_json::from_value(platforms).unwrap();
            assert_eq!(processors(&platforms), expected);
        };
        let one = |os: &str, architecture: &str| serde_json::json!({ "os": os, "architecture": architecture });
        let attested = [
            one("linux", "amd64"),
            one("linux", "arm64"),
            one("unknown", "unknown"),
        ];
        check(attested.to_vec().into(), &["amd64", "arm64"]);
        check(serde_json::json!([one("windows", "amd64")]), &[]);
        check(serde_json::json!([{}]), &[""]);
        check(serde_json::json!([]), &[]);
    }

    #[test]
    fn only_docker_hub_has_mirrors() {
        let check = |mirrors: serde_json::Value, repository: &str, expected| {
            let system = serde_json::json!({ "RegistryConfig": { "Mirrors": mirrors } });
            let system: SystemInfo = serde_json::from_value(system).unwrap();
            let repository = Repository::parse(repository).unwrap();
            assert_eq!(has_mirrors(&system, &repository), expected, "{mirrors}");
        };
        let mirrors = serde_json::json!(["https://mirror.example.com/"]);
        check(mirrors.clone(), "docker.io/acme/shop", true);
        check(mirrors, "ghcr.io/acme/shop", false);
        check(serde_json::json!([]), "docker.io/acme/shop", false);
        check(serde_json::Value::Null, "docker.io/acme/shop", false);
    }
}
