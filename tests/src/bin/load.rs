//! Puts a load on a local address and prints what became of it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use cutover_tests::load::{Journal, Kind, Load};

/// Puts a load on a local address and counts every request that was not
/// answered, wholly and rightly. Exit status 1 if there was one.
#[derive(Parser)]
struct Arguments {
    /// Where to, as IP:PORT, on this machine.
    address: SocketAddr,
    /// The host name to ask for.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// The path of GET requests.
    #[arg(long, default_value = "/")]
    path: String,
    /// End after so many seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// End after so many requests.
    #[arg(long)]
    requests: Option<u64>,
    /// Users that GET over one connection.
    #[arg(long, default_value_t = 2)]
    keep_alive: usize,
    /// Users that GET over a new connection each time.
    #[arg(long, default_value_t = 1)]
    fresh: usize,
    /// Users that POST a body and check its echo.
    #[arg(long, default_value_t = 1)]
    post: usize,
    /// Users of a WebSocket.
    #[arg(long, default_value_t = 1)]
    websocket: usize,
    /// Users that read event streams.
    #[arg(long, default_value_t = 1)]
    events: usize,
    /// Milliseconds between the requests of one user.
    #[arg(long, default_value_t = 5)]
    pause: u64,
    /// Ask these instances for their journals afterwards.
    #[arg(long, value_name = "ADDRESS")]
    journal: Vec<SocketAddr>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut load = Load::new(arguments.address, &arguments.host)?
        .path(&arguments.path)
        .duration(Duration::try_from_secs_f64(arguments.seconds)?)
        .pause(Duration::from_millis(arguments.pause))
        .users(Kind::KeepAlive, arguments.keep_alive)
        .users(Kind::Fresh, arguments.fresh)
        .users(Kind::Post, arguments.post)
        .users(Kind::WebSocket, arguments.websocket)
        .users(Kind::Events, arguments.events);
    if let Some(count) = arguments.requests {
        load = load.requests(count);
    }
    let report = load.start()?.finished().await?;
    let mut journals = Vec::new();
    for address in arguments.journal {
        journals.push(Journal::of(address).await?);
    }
    let summary = report.summary(&journals);
    writeln!(std::io::stdout(), "{summary}")?;
    let good = summary.ok == summary.sent
        && summary.sent > 0
        && summary.lost.is_empty()
        && summary.duplicated.is_empty();
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
