"""What is asked of the proxies, with which tool, and what the tool says.

wrk asks over HTTP/1.1, h2load over HTTP/2, and connections that only wait are our own. Each load comes from one thread.
"""

import dataclasses
import os
import re
import resource
import socket
import ssl
import statistics
import subprocess
import time

from peers import DESCRIPTORS, Missing, cores, find, pinned

# What a browser sends, so that heads are as long as in life.
FIELDS = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate",
    "Cookie: session=0123456789abcdef0123456789abcdef",
    "DNT: 1",
    "Cache-Control: max-age=0",
    "Sec-Fetch-Mode: navigate",
]

# OpenSSL of the client: it offers one protocol, one suite and one group, so that all proxies do the same work.
# Caddy, for one, lets nobody choose its suites of TLS 1.3.
SUITE = "TLS_AES_128_GCM_SHA256"
OPENSSL = f"""openssl_conf = init
[init]
ssl_conf = ssl
[ssl]
system_default = client
[client]
MinProtocol = TLSv1.3
Ciphersuites = {SUITE}
Groups = X25519
"""

# How long a tool may take to end after its time.
END_S = 30

SIZES = {"1k": 1024, "100k": 102_400}


@dataclasses.dataclass(frozen=True)
class Load:
    """Requests as fast as they are answered."""

    name: str
    title: str
    connections: int
    path: str = "1k"
    tls: bool = False
    close: bool = False
    # Requests at once on one connection; with it, the load is HTTP/2.
    streams: int = 0


@dataclasses.dataclass(frozen=True)
class Idle:
    """Connections that asked once and wait."""

    name: str
    title: str
    connections: int
    tls: bool = False
    # Who is measured; all by default.
    only: str = ""


WORKLOADS = [
    Load("k64_1k", "64 kept connections, 1 KB", 64),
    Load("k512_1k", "512 kept connections, 1 KB", 512),
    Load("k64_100k", "64 kept connections, 100 KB", 64, path="100k"),
    Load("new_1k", "a connection for each request, 1 KB", 64, close=True),
    Load("tls64_1k", "64 kept connections with TLS 1.3, 1 KB", 64, tls=True),
    Load("h2_1k", "HTTP/2 with TLS 1.3, 16 connections of 32 streams, 1 KB", 16, tls=True, streams=32),
    Idle("idle", "4,000 idle connections", 4_000),
    Idle("idle10k", "10,000 idle connections", 10_000, only="cutover"),
]

# Not part of a whole run: TLS beyond the kept connections.
MORE = [
    Load("tlsnew_1k", "a connection with TLS 1.3 for each request, 1 KB", 64, tls=True, close=True),
    Load("tls64_100k", "64 kept connections with TLS 1.3, 100 KB", 64, path="100k", tls=True),
    Idle("idle_tls", "4,000 idle connections with TLS 1.3", 4_000, tls=True),
]


@dataclasses.dataclass
class Told:
    """What a tool said of a load."""

    requests: int
    rate: float
    p50_ms: float
    p99_ms: float
    errors: int


def address(proxy, load):
    # With a name, because a client tells a server no address: then no certificate would be asked for by name.
    return f"https://localhost:{proxy.tls}" if load.tls else f"http://127.0.0.1:{proxy.plain}"


def check(proxy, load):
    """Whether the proxy answers one such request as it should; Missing says what it did instead."""
    command = ["curl", "-sSk", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code} %{http_version} %{size_download}"]
    command += ["--http2" if load.streams else "--http1.1", f"{address(proxy, load)}/{load.path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wanted = f"200 {'2' if load.streams else '1.1'} {SIZES[load.path]}"
    if done.returncode != 0 or done.stdout != wanted:
        raise Missing(done.stderr.strip() or f"it answered {done.stdout!r}, not {wanted!r} (status, version, bytes)")


def run(proxy, load, seconds, folder):
    """Puts the load on the proxy; what the tool says of it."""
    tool = h2load if load.streams else wrk
    return tool(load, f"{address(proxy, load)}/{load.path}", seconds, folder)


def ask(command, seconds, folder):
    config = folder / "openssl.cnf"
    config.write_text(OPENSSL)
    environment = {**os.environ, "OPENSSL_CONF": str(config)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, preexec_fn=pinned(cores()[1]),
            timeout=seconds + END_S)  # fmt: skip
    except subprocess.TimeoutExpired as late:
        raise Missing(f"{command[0]} did not end") from late
    if done.returncode != 0:
        raise Missing(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[:200]}")
    return done.stdout


def ask_exactly(proxy, load, requests):
    """Puts so many requests on the proxy, as slow as it may be."""
    command = [find("h2load"), "-t1", f"-c{load.connections}", f"-m{load.streams or 1}", f"-n{requests}"]
    command += ([] if load.streams else ["--h1"]) + ["-H", "Connection: close"] * load.close
    command += [f"--tls13-ciphers={SUITE}", "--groups=X25519", *(word for field in FIELDS for word in ("-H", field))]
    done = subprocess.run(
        [*command, f"{address(proxy, load)}/{load.path}"], capture_output=True, text=True, check=False)  # fmt: skip
    if f" {requests} succeeded" not in done.stdout:
        raise Missing(f"h2load did not get {requests} answers: {(done.stderr or done.stdout).strip()[-200:]}")


def number(pattern, text):
    found = re.search(pattern, text, re.M)
    return float(found[1]) if found else 0.0


def wrk(load, url, seconds, folder):
    fields = FIELDS + (["Connection: close"] if load.close else [])
    command = [find("wrk"), "--latency", "-t1", f"-c{load.connections}", f"-d{seconds}s"]
    told = ask([*command, *(word for field in fields for word in ("-H", field)), url], seconds, folder)
    errors = [int(count) for line in re.findall(r"Socket errors:.*", told) for count in re.findall(r"\d+", line)]

    def latency(percent):
        value, unit = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s)$", told, re.M).groups()
        return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]

    return Told(
        requests=int(number(r"(\d+) requests in", told)),
        rate=number(r"^Requests/sec:\s+([\d.]+)", told),
        p50_ms=latency(50),
        p99_ms=latency(99),
        errors=sum(errors) + int(number(r"Non-2xx or 3xx responses: (\d+)", told)),
    )


def h2load(load, url, seconds, folder):
    log = folder / "requests.tsv"
    log.unlink(missing_ok=True)
    command = [find("h2load"), "-t1", f"-c{load.connections}", f"-m{load.streams}", f"-D{seconds}", f"--log-file={log}"]
    command += [f"--tls13-ciphers={SUITE}", "--groups=X25519", *(word for field in FIELDS for word in ("-H", field))]
    told = ask([*command, url], seconds, folder)
    # It prints no percentiles; its log has a line for each request: when, status, microseconds.
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    took_ms = sorted(int(row[2]) / 1e3 for row in rows if row[1] == "200")
    if not took_ms:
        raise Missing("h2load got no answer")
    failed = sum(int(number(rf"(\d+) {word}", told)) for word in ("failed", "errored", "timeout", "4xx", "5xx"))
    return Told(
        requests=len(took_ms),
        rate=len(took_ms) / seconds,
        p50_ms=statistics.median(took_ms),
        p99_ms=took_ms[int(len(took_ms) * 0.99)],
        errors=failed,
    )


def open_one(proxy, idle, context):
    """A connection that got one answer of 1 KB."""
    connection = socket.create_connection(("127.0.0.1", proxy.tls if idle.tls else proxy.plain), 10)
    if idle.tls:
        connection = context.wrap_socket(connection, server_hostname="localhost")
    head = "\r\n".join(["GET /1k HTTP/1.1", "Host: localhost", *FIELDS, "", ""])
    connection.sendall(head.encode())
    answer = b""
    while len(answer.partition(b"\r\n\r\n")[2]) < SIZES["1k"]:
        piece = connection.recv(16_384)
        if not piece:
            raise Missing(f"a connection ended: {answer[:80]!r}")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200"):
        raise Missing(f"it answered {answer[:40]!r}")
    return connection


def idle_kb(proxy, idle):
    """The memory of the proxy for each connection that waits, after a second in which it may give some back."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard) if hard > 0 else DESCRIPTORS, hard))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # What the first request makes it allocate is no part of a connection.
    open_one(proxy, idle, context).close()
    time.sleep(0.2)
    before = proxy.memory_kb()
    waiting = [open_one(proxy, idle, context) for _ in range(idle.connections)]
    time.sleep(1)
    after = proxy.memory_kb()
    for connection in waiting:
        connection.close()
    return (after - before) / idle.connections, after / 1024
