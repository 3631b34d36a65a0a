//! A road to the test host's registry that a test closes: an engine that pulls
//! over it gets no answers until it is open again.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::host::host;

/// See the module. Dropped, nobody comes over it any more.
#[derive(Debug)]
pub struct Road {
    address: SocketAddr,
    open: watch::Sender<bool>,
    waiting: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Road {
    /// Makes one, which is open.
    ///
    /// # Errors
    ///
    /// It finds no port.
    pub async fn make() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (open, opened) = watch::channel(true);
        let (waits, waiting) = watch::channel(0);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (opened, waits) = (opened.clone(), waits.clone());
                // An error is the end of a connection, which either side may want.
                tokio::spawn(async move {
                    let _ = carry(client, opened, waits).await;
                });
            }
        });
        Ok(Self {
            address,
            open,
            waiting,
            task,
        })
    }

    /// The registry, as it stands in the name of an image that comes over it.
    #[must_use]
    pub fn registry(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// Lets no answer of the registry come any more.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Lets all go on.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until an answer waits.
    ///
    /// # Errors
    ///
    /// None does within the deadline.
    pub async fn is_waited_for(&mut self, deadline: Duration) -> anyhow::Result<()> {
        let waits = self.waiting.wait_for(|waiting| *waiting > 0);
        let waits = tokio::time::timeout(deadline, waits).await;
        waits.context("nobody asks the registry")??;
        Ok(())
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    client: TcpStream,
    mut opened: watch::Receiver<bool>,
    waits: watch::Sender<usize>,
) -> anyhow::Result<()> {
    let registry = TcpStream::connect(&host().registry).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_registry, mut to_registry) = registry.into_split();
    let there = async { copy(&mut from_client, &mut to_registry).await.map(drop) };
    let back = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = from_registry.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            if !*opened.borrow() {
                waits.send_modify(|waiting| *waiting += 1);
                let open = opened.wait_for(|open| *open).await.is_ok();
                waits.send_modify(|waiting| *waiting -= 1);
                if !open {
                    return Ok(());
                }
            }
            to_client.write_all(&buffer[..count]).await?;
        }
    };
    // Whoever of the two ends first ends the other.
    tokio::select! {
        ended = there => ended,
        ended = back => ended,
    }?;
    Ok(())
}
