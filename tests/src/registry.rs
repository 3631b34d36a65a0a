//! Registries that give what the test host's own has, but not to everybody or
//! not at once: one with a password, and a door that limits or cuts.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener as PortListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::host::host;
use crate::image::Image;
use crate::process::Process;
use crate::request::{Answer, get, send};
use crate::wait::eventually;

const START: Duration = Duration::from_secs(20);

/// The longest head of a request that the door reads.
const LARGEST_HEAD: usize = 16 * 1024;

/// What is sent of a blob before the connection is cut.
const BEFORE_CUT: usize = 64 * 1024;

/// A user of a [`PrivateRegistry`].
pub const USER: &str = "robot";
/// The password at first.
pub const PASSWORD: &str = "hunter2";
/// Another one.
pub const OTHER_PASSWORD: &str = "hunter3";

/// As `htpasswd -B` writes them, at its least cost.
const LINES: [(&str, &str); 2] = [
    (
        PASSWORD,
        "robot:$2b$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n",
    ),
    (
        OTHER_PASSWORD,
        "robot:$2b$05$abcdefghijklmnopqrstuu1cSQmXltMZdCm6kweO057j1TtIrg35W\n",
    ),
];

/// The same image where another registry has it.
fn elsewhere(image: &Image, registry: &str) -> anyhow::Result<Image> {
    let (_, name) = image.repository.split_once('/').context("a repository")?;
    Ok(Image {
        repository: format!("{registry}/{name}"),
        digest: image.digest.clone(),
    })
}

/// A real registry that asks for a password, over the files of the host's own.
#[derive(Debug)]
pub struct PrivateRegistry {
    /// As it stands in an image's name.
    pub name: String,
    passwords: PathBuf,
    _process: Process,
}

impl PrivateRegistry {
    /// Starts one with its files in `folder`.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let address = PortListener::bind("127.0.0.1:0")?.local_addr()?;
        let passwords = folder.join("htpasswd");
        let store = host().folder.parent().context("a host")?.join("store");
        ensure!(store.is_dir(), "{} is no store", store.display());
        // The host's registry makes it with the first image.
        let store = store.join("registry");
        let config = folder.join("registry.yml");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {address}\nauth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            store.display(),
            passwords.display()
        );
        fs::write(&config, text)?;
        fs::write(&passwords, "")?;
        let mut command = std::process::Command::new("docker-registry");
        command.arg("serve").arg(&config);
        let registry = Self {
            name: format!("localhost:{}", address.port()),
            passwords,
            _process: Process::spawn(command)?,
        };
        registry.take(PASSWORD)?;
        eventually("the registry answers", START, async || {
            let answer = get(address, "/v2/").await?;
            ensure!(answer.status == StatusCode::UNAUTHORIZED, "{answer:?}");
            anyhow::Ok(())
        })
        .await?;
        Ok(registry)
    }

    /// From now on it takes this password and no other.
    ///
    /// # Errors
    ///
    /// It is none of the two, or the file cannot be written.
    pub fn take(&self, password: &str) -> anyhow::Result<()> {
        let line = LINES.iter().find(|(known, _)| *known == password);
        let (_, line) = line.context("a password that is known")?;
        // The registry looks at the file's time before each request.
        fs::write(&self.passwords, line)?;
        Ok(())
    }

    /// An image of the host's registry, as this one has it.
    ///
    /// # Errors
    ///
    /// It is of no registry.
    pub fn image(&self, image: &Image) -> anyhow::Result<Image> {
        elsewhere(image, &self.name)
    }
}

/// What a door does to requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It passes them on.
    Fair,
    /// It answers so many requests for manifests with 429.
    Limits(usize),
    /// It cuts so many answers with more than a little of a blob.
    Cuts(usize),
}

/// A door before the host's registry.
#[derive(Debug)]
pub struct Door {
    /// As it stands in an image's name.
    pub name: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    mood: Mood,
    /// How many requests it has spoilt.
    spoilt: usize,
}

impl Door {
    /// Opens one that is fair.
    ///
    /// # Errors
    ///
    /// There is no port for it.
    pub async fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (mood, spoilt) = (Mood::Fair, 0);
        let state = Arc::new(Mutex::new(State { mood, spoilt }));
        let own = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // What goes wrong with a connection its client sees.
                tokio::spawn(serve(stream, Arc::clone(&own)));
            }
        });
        let name = format!("localhost:{port}");
        Ok(Self { name, state })
    }

    /// Has it do this from now on, and counts anew.
    pub fn turn(&self, mood: Mood) {
        *locked(&self.state) = State { mood, spoilt: 0 };
    }

    /// How many requests it has spoilt since it was turned.
    #[must_use]
    pub fn spoilt(&self) -> usize {
        locked(&self.state).spoilt
    }

    /// An image of the host's registry, as it is behind this door.
    ///
    /// # Errors
    ///
    /// It is of no registry.
    pub fn image(&self, image: &Image) -> anyhow::Result<Image> {
        elsewhere(image, &self.name)
    }
}

fn locked(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one request and closes.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) -> anyhow::Result<()> {
    let head = read_head(&mut stream).await?;
    let (method, path) = {
        let mut words = head.split_whitespace();
        (words.next().unwrap_or(""), words.next().unwrap_or(""))
    };
    let mut request = Request::builder().method(method).uri(path);
    for line in head.lines().skip(1) {
        if let Some((name, value)) = line.split_once(':') {
            request = request.header(name, value.trim());
        }
    }
    let port = host().registry.rsplit(':').next().unwrap_or("5000");
    let registry = SocketAddr::from(([127, 0, 0, 1], port.parse()?));
    if spoils_manifest(&state, path) {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}"#;
        let size = body.len();
        let text = format!(
            "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n\
             content-length: {size}\r\nconnection: close\r\n\r\n{body}"
        );
        return Ok(stream.write_all(text.as_bytes()).await?);
    }
    let answer = send(registry, request.body(Bytes::new())?).await?;
    stream.write_all(head_of(&answer).as_bytes()).await?;
    let is_blob = path.contains("/blobs/");
    let sent = match is_blob && answer.body.len() > BEFORE_CUT && spoils_blob(&state) {
        true => &answer.body[..BEFORE_CUT],
        false => &answer.body[..],
    };
    Ok(stream.write_all(sent).await?)
}

/// Engines try TLS first, which has no such head.
async fn read_head(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await?;
        head.push(byte);
        let is_http = head[0].is_ascii_uppercase() && head.len() < LARGEST_HEAD;
        ensure!(is_http, "this is no request");
    }
    Ok(String::from_utf8(head)?)
}

fn head_of(answer: &Answer) -> String {
    let mut text = format!("HTTP/1.1 {}\r\nconnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    text
}

fn spoils_manifest(state: &Mutex<State>, path: &str) -> bool {
    let mut state = locked(state);
    let spoils = match state.mood {
        Mood::Limits(times) => path.contains("/manifests/") && state.spoilt < times,
        Mood::Fair | Mood::Cuts(_) => false,
    };
    state.spoilt += usize::from(spoils);
    spoils
}

fn spoils_blob(state: &Mutex<State>) -> bool {
    let mut state = locked(state);
    let spoils = match state.mood {
        Mood::Cuts(times) => state.spoilt < times,
        Mood::Fair | Mood::Limits(_) => false,
    };
    state.spoilt += usize::from(spoils);
    spoils
}
