//! Who may call: tokens, and GitHub Apps with their keys.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

/// GitHub lets an App's own token live this long.
const LONGEST_APP_TOKEN: u64 = 600;

/// The key of a GitHub App, made for one test.
pub struct AppKey {
    /// The App's id.
    pub app: u64,
    /// The private key as a file holds it.
    pub pem: String,
    public: Vec<u8>,
}

impl AppKey {
    /// Makes a key.
    pub fn generate(app: u64) -> Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("no RSA key"))?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| anyhow!("no PKCS #8"))?;
        let text = BASE64_STANDARD.encode(der.as_ref());
        let lines: Vec<&str> = (0..text.len())
            .step_by(64)
            .map(|at| &text[at..text.len().min(at + 64)])
            .collect();
        let label = "PRIVATE KEY";
        Ok(Self {
            app,
            pem: format!(
                "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
                lines.join("\n")
            ),
            public: pair.public_key().as_ref().to_vec(),
        })
    }
}

/// Who may call.
#[derive(Default)]
pub(super) struct Signins {
    tokens: BTreeSet<String>,
    apps: BTreeMap<u64, App>,
    minted: BTreeMap<String, Minted>,
}

struct App {
    public: Vec<u8>,
    permissions: BTreeMap<String, String>,
}

/// A token of an installation.
struct Minted {
    repositories: Vec<String>,
    permissions: BTreeMap<String, String>,
}

/// What a credential was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// It may report deployments of the repository.
    Reporter,
    /// It is known, and may not.
    Stranger,
    /// It is an App itself.
    App(u64),
}

impl Signins {
    pub(super) fn accept(&mut self, token: &str) {
        self.tokens.insert(token.to_owned());
    }

    pub(super) fn refuse(&mut self, token: &str) {
        self.tokens.remove(token);
    }

    pub(super) fn install(&mut self, key: &AppKey, permissions: &[(&str, &str)]) {
        let owned = |(name, level): &(&str, &str)| ((*name).to_owned(), (*level).to_owned());
        let app = App {
            public: key.public.clone(),
            permissions: permissions.iter().map(owned).collect(),
        };
        self.apps.insert(key.app, app);
    }

    /// Who a bearer token stands for; none when it is not known.
    pub(super) fn caller(&self, bearer: &str, repository: Option<&str>) -> Option<Caller> {
        if self.tokens.contains(bearer) {
            return Some(Caller::Reporter);
        }
        if let Some(minted) = self.minted.get(bearer) {
            let name = repository
                .and_then(|full| full.split('/').nth(1))
                .unwrap_or_default();
            let here = minted.repositories.iter().any(|one| one == name);
            let may = minted
                .permissions
                .get("deployments")
                .is_some_and(|level| level == "write");
            return Some(if here && may {
                Caller::Reporter
            } else {
                Caller::Stranger
            });
        }
        self.app(bearer).ok().map(Caller::App)
    }

    /// Mints a token for an App, or says why not.
    pub(super) fn mint(&mut self, app: u64, scope: &Value, number: u64) -> Result<String, String> {
        let granted = self
            .apps
            .get(&app)
            .map(|app| app.permissions.clone())
            .unwrap_or_default();
        let wanted: BTreeMap<String, String> =
            serde_json::from_value(scope["permissions"].clone()).unwrap_or_default();
        let beyond = |(name, level): (&String, &String)| granted.get(name) != Some(level);
        if wanted.iter().any(beyond) {
            return Err(
                "The permissions requested are not granted to this installation.".to_owned(),
            );
        }
        let token = format!("ghs_minted_{number}");
        let minted = Minted {
            repositories: serde_json::from_value(scope["repositories"].clone()).unwrap_or_default(),
            permissions: wanted,
        };
        self.minted.insert(token.clone(), minted);
        Ok(token)
    }

    /// Takes back every token that was minted.
    pub(super) fn revoke_minted(&mut self) {
        self.minted.clear();
    }

    /// The App whose key signed a JSON Web Token that is good now.
    fn app(&self, jwt: &str) -> Result<u64> {
        let parts: Vec<&str> = jwt.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(anyhow!("no JSON Web Token"));
        };
        let json = |part: &str| -> Result<Value> {
            Ok(serde_json::from_slice(
                &BASE64_URL_SAFE_NO_PAD.decode(part)?,
            )?)
        };
        anyhow::ensure!(json(header)?["alg"] == "RS256", "the algorithm");
        let claims_read = json(claims)?;
        let issuer = &claims_read["iss"];
        let id = issuer
            .as_u64()
            .or_else(|| issuer.as_str()?.parse().ok())
            .context("the issuer")?;
        let app = self.apps.get(&id).context("the App")?;
        let signed = format!("{header}.{claims}");
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &app.public)
            .verify(
                signed.as_bytes(),
                &BASE64_URL_SAFE_NO_PAD.decode(signature)?,
            )
            .map_err(|_| anyhow!("the signature"))?;
        let now = unix_now().as_secs();
        let issued = claims_read["iat"].as_u64().context("iat")?;
        let expires = claims_read["exp"].as_u64().context("exp")?;
        anyhow::ensure!(
            issued <= now && now < expires && expires <= now + LONGEST_APP_TOKEN,
            "the times"
        );
        Ok(id)
    }
}

/// The time since 1970.
pub(super) fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
