//! What the host itself knows to say to registries: a `config.json` as
//! `docker login` writes it, and the programs that it names.
//!
//! It is read anew each time a registry is asked, so a new password counts from
//! the next time on. Nothing of it is kept, logged or shown: an error names the file and the
//! place in it, never what stands there.

mod file;
mod helper;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use cutover_plan::spec::render_duration;
use cutover_wire::request::RegistryCredentials;

use crate::config;
use crate::containers::{ContainerError, ContainerErrorKind};

use super::failure::{WithHint as _, error};
use file::File;

/// Where the file is, unless `agent.toml` says otherwise: what
/// `docker --config /etc/cutover/docker login` writes.
const DEFAULT_FILE: &str = "/etc/cutover/docker/config.json";

/// Where programs for credentials are looked for, unless `agent.toml` says otherwise.
const DEFAULT_FOLDERS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// A file that cannot be read in this time is on a disk that stands still.
const READ: Duration = Duration::from_secs(10);

/// What is said to a registry. It cannot be printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    username: Option<String>,
    password: Option<String>,
    /// Instead of a password: what the registry's token server gives tokens for.
    identity_token: Option<String>,
}

impl From<&RegistryCredentials> for Login {
    fn from(given: &RegistryCredentials) -> Self {
        Self {
            username: Some(given.username.clone()),
            password: Some(given.password.clone()),
            identity_token: None,
        }
    }
}

impl Login {
    /// As the engine takes it.
    pub(super) fn credentials(&self, registry: &str) -> DockerCredentials {
        DockerCredentials {
            username: self.username.clone(),
            password: self.password.clone(),
            identitytoken: self.identity_token.clone(),
            serveraddress: Some(registry.to_owned()),
            ..DockerCredentials::default()
        }
    }

    /// Takes what is secret out of a text in which it should never be.
    pub(super) fn conceal(&self, text: &str) -> String {
        let secrets = [&self.password, &self.identity_token];
        let secrets = secrets.into_iter().flatten().filter(|s| !s.is_empty());
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }
}

/// A login, and where it came from.
pub(super) struct Found {
    pub(super) login: Login,
    /// For a person whose registry does not take it.
    pub(super) from: String,
}

/// The registries that the host has credentials for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// The file.
    pub file: PathBuf,
    /// Whether it must be there.
    pub is_required: bool,
    /// Where the programs are that it names.
    pub folders: Vec<PathBuf>,
}

impl Default for Keyring {
    fn default() -> Self {
        Self {
            file: DEFAULT_FILE.into(),
            is_required: false,
            folders: DEFAULT_FOLDERS.map(PathBuf::from).into(),
        }
    }
}

impl Keyring {
    /// Reads the file, and tells every mistake in it; no program is run.
    pub fn check(&self) -> Vec<String> {
        let file = match self.read() {
            Ok(Some(file)) => file,
            Ok(None) => return Vec::new(),
            Err(mistake) => return vec![mistake],
        };
        let mut mistakes = file.mistakes();
        for name in file.helpers() {
            mistakes.extend(helper::locate(name, &self.folders).err());
        }
        let path = self.file.display();
        mistakes
            .into_iter()
            .map(|mistake| format!("{path}: {mistake}"))
            .collect()
    }

    fn read(&self) -> Result<Option<File>, String> {
        let path = &self.file;
        // Only a file that is surely not there may be missed.
        let missing = path.try_exists().is_ok_and(|is_there| !is_there);
        if missing && !self.is_required {
            return Ok(None);
        }
        let text = config::read_text(path)?;
        let file = File::parse(&text).map_err(|mistake| format!("{}: {mistake}", path.display()));
        file.map(Some)
    }

    /// What is to be said to `registry`, if the host knows: by a program for
    /// it, else by the file.
    pub(super) async fn find(&self, registry: &str) -> Result<Option<Found>, ContainerError> {
        let Some(file) = self.read_in_time().await? else {
            return Ok(None);
        };
        let path = self.file.display();
        if let Some(name) = file.helper(registry) {
            let program = helper::locate(name, &self.folders)
                .map_err(|mistake| self.broken(&format!("{path}: {mistake}")))?;
            let said = helper::ask(&program, file::address(registry), helper::LIMIT).await;
            let said = said.map_err(|fault| {
                let reason = format!("asking {} for {registry}: {fault}", program.display());
                error(fault.kind(), reason).with_hint(helper::HINT)
            })?;
            if let Some(login) = said {
                let from = format!("docker-credential-{name}");
                return Ok(Some(Found { login, from }));
            }
        }
        let login = file
            .login(registry)
            .map_err(|mistake| self.broken(&format!("{path}: {mistake}")))?;
        let from = path.to_string();
        Ok(login.map(|login| Found { login, from }))
    }

    async fn read_in_time(&self) -> Result<Option<File>, ContainerError> {
        let keyring = self.clone();
        let reading = tokio::task::spawn_blocking(move || keyring.read());
        match tokio::time::timeout(READ, reading).await {
            Ok(Ok(read)) => read.map_err(|mistake| self.broken(&mistake)),
            Ok(Err(_)) => Err(self.broken("reading the file of credentials broke off")),
            Err(_) => {
                let (path, limit) = (self.file.display(), render_duration(READ));
                Err(self.broken(&format!("{path}: could not be read within {limit}")))
            }
        }
    }

    fn broken(&self, mistake: &str) -> ContainerError {
        error(
            ContainerErrorKind::Host,
            format!("the host's credentials for registries: {mistake}"),
        )
        .with_hint("put it right and deploy again; cutover-agent check shows whether it is")
    }

    /// Where a person writes credentials.
    pub(super) fn place(&self) -> &Path {
        &self.file
    }
}
