//! What Cutover signs in with: a token, or the key of a GitHub App.
//!
//! Files are read anew when they are needed, so a replaced credential is taken
//! up by the next attempt. What was read lives as long as one delivery; an
//! App's installation token, which GitHub takes back after an hour, in memory.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use http::StatusCode;
use jiff::Timestamp;
use octocrab::auth::create_jwt;
use octocrab::models::AppId;
use octocrab::secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::client::Client;
use super::failure::{Failure, Missing};
use super::lock;
use super::recent::Recent;
use super::repository::Repository;
use super::text::chain;

/// Where the credential is found. It is the place, not the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A token: fine-grained with `Deployments: write`, or classic with
    /// `repo_deployment`.
    Token {
        /// The file that has it on its only line.
        file: PathBuf,
    },
    /// A GitHub App that is installed on the repositories. Tokens are minted
    /// for one repository and with `deployments: write` alone.
    App {
        /// Its id.
        id: u64,
        /// The file with its private key, as GitHub gave it (PEM).
        key_file: PathBuf,
    },
}

/// Longer than any token or key of GitHub's.
const LONGEST_SECRET: u64 = 16 << 10;

/// A token that would expire in the middle of a delivery is not used for it.
const RENEW_BEFORE_SECONDS: i64 = 120;

/// Repositories whose tokens are kept: more than one host has apps.
const REMEMBERED: usize = 64;

/// Opens credentials, and keeps the tokens of installations while they last.
pub(super) struct Wallet {
    credentials: Credentials,
    minted: Mutex<Recent<String, Minted>>,
}

#[derive(Clone)]
struct Minted {
    token: SecretString,
    expires_at: i64,
}

#[derive(Deserialize)]
struct Installation {
    id: u64,
}

#[derive(Deserialize)]
struct InstallationToken {
    token: String,
    expires_at: Timestamp,
}

impl Wallet {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            minted: Mutex::new(Recent::new(REMEMBERED)),
        }
    }

    /// The token for calls about a repository.
    pub(super) async fn open(
        &self,
        client: &Client,
        repository: &Repository,
    ) -> Result<SecretString, Failure> {
        let (id, key_file) = match &self.credentials {
            Credentials::Token { file } => return token(file).await,
            Credentials::App { id, key_file } => (*id, key_file),
        };
        let key = repository.to_string();
        let known = lock(&self.minted).find(&key).cloned();
        if let Some(minted) = known
            && minted.expires_at > client.now() + RENEW_BEFORE_SECONDS
        {
            return Ok(minted.token);
        }
        let app = sign(id, key_file).await?;
        let minted = mint(client, &app, repository).await?;
        lock(&self.minted).insert(key, minted.clone());
        Ok(minted.token)
    }

    /// Forgets a token that GitHub did not accept.
    pub(super) fn discard(&self, repository: &Repository) {
        lock(&self.minted).remove(&repository.to_string());
    }
}

/// The App's own token: it is good for finding the installation and minting.
async fn sign(id: u64, key_file: &Path) -> Result<SecretString, Failure> {
    let pem = read(key_file).await?;
    let path = key_file.display();
    let key = octocrab::EncodingKey::from_rsa_pem(pem.as_bytes())
        .map_err(|_| Failure::Unauthorized(format!("{path} has no RSA private key in PEM")))?;
    let signed = create_jwt(AppId(id), &key).map_err(|error| {
        Failure::Unauthorized(format!("{path} does not sign: {}", chain(&error)))
    })?;
    Ok(SecretString::from(signed))
}

/// A token for one repository that can do nothing but report deployments.
async fn mint(
    client: &Client,
    app: &SecretString,
    repository: &Repository,
) -> Result<Minted, Failure> {
    let what = format!("the installation of the App on {repository}");
    let found = client
        .get(app, &format!("/repos/{repository}/installation"))
        .await?;
    if found.status != StatusCode::OK {
        return Err(repairable(client.refusal(&found, &what, Missing::Access)));
    }
    let Installation { id } = found.read(&what)?;

    let what = format!("a token of the App for {repository}");
    let scope = json!({
        "repositories": [repository.name()],
        "permissions": { "deployments": "write" },
    });
    let path = format!("/app/installations/{id}/access_tokens");
    let made = client.post(app, &path, &scope).await?;
    if made.status != StatusCode::CREATED {
        return Err(repairable(client.refusal(&made, &what, Missing::Access)));
    }
    let InstallationToken { token, expires_at } = made.read(&what)?;
    Ok(Minted {
        token: SecretString::from(token),
        expires_at: expires_at.as_second(),
    })
}

/// Whatever is refused about an App, its owner can grant.
fn repairable(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(reason) | Failure::Gone(reason) => Failure::Forbidden(reason),
        other => other,
    }
}

async fn token(file: &Path) -> Result<SecretString, Failure> {
    let text = read(file).await?;
    let token = text.trim();
    // It becomes a header: what cannot stand in one would end the program.
    let good = !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic());
    if !good {
        let path = file.display();
        return Err(Failure::Unauthorized(format!(
            "{path} does not hold a token on its only line"
        )));
    }
    Ok(SecretString::from(token))
}

/// Reads a secret's file; the error names the file, never what is in it.
async fn read(file: &Path) -> Result<String, Failure> {
    let path = file.display();
    let unread =
        |error: std::io::Error| Failure::Unauthorized(format!("{path} cannot be read: {error}"));
    let length = tokio::fs::metadata(file).await.map_err(unread)?.len();
    if length > LONGEST_SECRET {
        return Err(Failure::Unauthorized(format!(
            "{path} is too long to be a credential"
        )));
    }
    tokio::fs::read_to_string(file).await.map_err(unread)
}
