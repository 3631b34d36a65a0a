//! What users lose while the proxy is told something new: nginx and haproxy by
//! a reload, ours by a table and by a new process in its place.
//!
//! The same users for each: sixty that keep their connection, think for 1 to
//! 7 ms, and never ask twice. A user loses a request when no connection is to
//! be had, when the answer does not come whole, or when the connection that was
//! to carry it is closed without notice.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use cutover_tests::chance::Chance;
use cutover_tests::front::{self, Front};
use cutover_tests::load::{Kind, Load, Outcome, Phase, Report, RunningLoad};
use cutover_tests::process::{Process, Signal};
use cutover_tests::request::get;
use cutover_tests::target::{Habits, Target};
use cutover_tests::wait::eventually;
use cutover_wire::table::{Pool, Route, Split, Table};

const DEADLINE: Duration = Duration::from_secs(20);

/// The pools that are switched between.
const NAMES: [&str; 2] = ["v1", "v2"];

#[derive(Parser)]
struct Arguments {
    /// Users at once.
    #[arg(long, default_value_t = 60)]
    users: usize,
    /// Reloads of the others, and switches of ours.
    #[arg(long, default_value_t = 20)]
    switches: usize,
    /// New processes in the place of ours.
    #[arg(long, default_value_t = 5)]
    takeovers: usize,
    /// Milliseconds from one switch to the next.
    #[arg(long, default_value_t = 500)]
    interval_ms: u64,
    /// What the users choose by.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One row of the result.
struct Row {
    name: &'static str,
    what: String,
    report: Report,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let takeovers = if front::help()?.contains("--takeover") {
        arguments.takeovers
    } else {
        0
    };
    // Shown when every program has ended, and said what it had to say.
    let rows = measure(&arguments, takeovers).await?;
    show(&rows)?;
    let lost = rows.last().map_or(0, |row| row.report.failed().count());
    Ok(if lost == 0 && takeovers == arguments.takeovers {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn measure(arguments: &Arguments, takeovers: usize) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let targets = [
        Target::start(folder, NAMES[0], "v1-0", Habits::default()).await?,
        Target::start(folder, NAMES[1], "v2-0", Habits::default()).await?,
    ];
    let addresses = [targets[0].entry().address, targets[1].entry().address];
    let switches = arguments.switches;
    let mut rows = vec![
        Row {
            name: "nginx",
            what: "left alone".to_owned(),
            report: nginx(arguments, folder, addresses, 0).await?,
        },
        Row {
            name: "nginx",
            what: format!("{switches} × nginx -s reload"),
            report: nginx(arguments, folder, addresses, switches).await?,
        },
        Row {
            name: "haproxy",
            what: format!("{switches} × SIGUSR2 to haproxy -W"),
            report: haproxy(arguments, folder, addresses).await?,
        },
    ];
    rows.push(Row {
        name: "cutover",
        what: format!("{switches} × a table, {takeovers} × --takeover"),
        report: ours(arguments, folder, &targets, takeovers).await?,
    });
    Ok(rows)
}

fn show(rows: &[Row]) -> anyhow::Result<()> {
    let mut output = std::io::stdout();
    writeln!(
        output,
        "{:<8} {:<36} {:>9} {:>6} {:>8} {:>10}",
        "proxy", "told anew", "requests", "lost", "refused", "p99"
    )?;
    for row in rows {
        let refused = row.report.failed().filter(|record| {
            let connect = Phase::Connect;
            matches!(&record.outcome, Outcome::Failed { phase, .. } if *phase == connect)
        });
        writeln!(
            output,
            "{:<8} {:<36} {:>9} {:>6} {:>8} {:>10.1?}",
            row.name,
            row.what,
            row.report.records.len(),
            row.report.failed().count(),
            refused.count(),
            row.report.summary(&[]).p99
        )?;
    }
    for row in rows {
        for (reason, count) in row.report.summary(&[]).failed {
            writeln!(output, "{:<8} {count} × {reason}", row.name)?;
        }
    }
    Ok(())
}

fn load(arguments: &Arguments, address: SocketAddr) -> anyhow::Result<RunningLoad> {
    let (least, most) = (Duration::from_millis(1), Duration::from_millis(7));
    Load::new(address, "shop.test")?
        .users(Kind::KeepAlive, arguments.users)
        .thinks(least, most, &Chance::new(arguments.seed))
        .timeout(Duration::from_secs(5))
        .idle_closes_fail()
        .start()
}

async fn interval(arguments: &Arguments) {
    tokio::time::sleep(Duration::from_millis(arguments.interval_ms)).await;
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn answers(address: SocketAddr) -> anyhow::Result<()> {
    eventually("the proxy answers", DEADLINE, async || {
        let answer = get(address, "/").await?;
        ensure!(answer.status == 200, "with {}", answer.status);
        anyhow::Ok(())
    })
    .await
}

fn nginx_config(folder: &Path, listen: SocketAddr, target: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 2; pid {folder}/nginx.pid;\n\
         error_log stderr error; events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_timeout 75s; keepalive_requests 100000000;\n\
         client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxied;\n\
         fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n\
         scgi_temp_path {folder}/scgi;\n\
         upstream app {{ server {target}; keepalive 512; }}\n\
         server {{ listen {listen}; location / {{ proxy_pass http://app;\n\
         proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header Host $host; }} }} }}\n"
    )
}

async fn nginx(
    arguments: &Arguments,
    folder: &Path,
    targets: [SocketAddr; 2],
    reloads: usize,
) -> anyhow::Result<Report> {
    let listen = free_address()?;
    let config = folder.join("nginx.conf");
    fs::write(&config, nginx_config(folder, listen, targets[0]))?;
    let command = || {
        // Where it is no program of everybody's path.
        let program = Path::new("/usr/sbin/nginx");
        let name = if program.exists() {
            program
        } else {
            Path::new("nginx")
        };
        let mut command = Command::new(name);
        command.arg("-p").arg(folder).arg("-c").arg(&config);
        command
    };
    let nginx = Process::spawn(command())?;
    answers(listen).await?;
    let load = load(arguments, listen)?;
    for turn in 1..=arguments.switches {
        interval(arguments).await;
        if turn <= reloads {
            fs::write(&config, nginx_config(folder, listen, targets[turn % 2]))?;
            let told = command().args(["-s", "reload"]).output()?;
            ensure!(told.status.success(), "nginx -s reload: {told:?}");
        }
    }
    interval(arguments).await;
    let report = load.stop().await?;
    nginx.signal(Signal::QUIT)?;
    nginx.ended(DEADLINE).await?;
    Ok(report)
}

fn haproxy_config(folder: &Path, listen: SocketAddr, target: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "global\n  maxconn 4096\n  hard-stop-after 10s\n\
         \x20 stats socket {folder}/haproxy.sock mode 600 level admin expose-fd listeners\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 75s\n\
         \x20 timeout server 75s\n  timeout http-keep-alive 75s\n\
         frontend front\n  bind {listen}\n  default_backend app\n\
         backend app\n  server target {target}\n"
    )
}

async fn haproxy(
    arguments: &Arguments,
    folder: &Path,
    targets: [SocketAddr; 2],
) -> anyhow::Result<Report> {
    let listen = free_address()?;
    let config = folder.join("haproxy.cfg");
    fs::write(&config, haproxy_config(folder, listen, targets[0]))?;
    let program = Path::new("/usr/sbin/haproxy");
    let name = if program.exists() {
        program
    } else {
        Path::new("haproxy")
    };
    let mut command = Command::new(name);
    command.args(["-W", "-db", "-f"]).arg(&config);
    let haproxy = Process::spawn(command)?;
    answers(listen).await?;
    let load = load(arguments, listen)?;
    for turn in 1..=arguments.switches {
        interval(arguments).await;
        fs::write(&config, haproxy_config(folder, listen, targets[turn % 2]))?;
        haproxy.signal(Signal::USR2)?;
    }
    interval(arguments).await;
    let report = load.stop().await?;
    // The master ends its workers.
    haproxy.signal(Signal::TERM)?;
    haproxy.ended(DEADLINE).await?;
    Ok(report)
}

async fn ours(
    arguments: &Arguments,
    folder: &Path,
    targets: &[Target; 2],
    takeovers: usize,
) -> anyhow::Result<Report> {
    let options = ["--listen", "127.0.0.1:0"];
    let mut front = Front::start(&folder.join("cutover"), &options).await?;
    let pools = NAMES.iter().zip(targets);
    let pools = pools.map(|(name, target)| ((*name).to_owned(), Pool::of(vec![target.entry()])));
    let hosts = vec!["*".to_owned()];
    let route = Route::new(hosts, "/", Split::all_to(NAMES[0]), pools.collect());
    let put = |table: &mut Table| {
        table.apps.insert("shop".to_owned(), route);
    };
    front.change(put).await?;
    answers(front.address).await?;
    let load = load(arguments, front.address)?;
    let mut old = Vec::new();
    for turn in 1..=arguments.switches {
        interval(arguments).await;
        let serving = Split::all_to(NAMES[turn % 2]);
        let switch = |table: &mut Table| {
            if let Some(route) = table.apps.get_mut("shop") {
                route.serving = serving;
            }
        };
        front.change(switch).await?;
        // Spread evenly over the switches.
        let done = turn * takeovers / arguments.switches;
        if old.len() < done {
            old.push(front.take_over(&[]).await.context("a take-over")?);
        }
    }
    interval(arguments).await;
    load.stop().await
}
