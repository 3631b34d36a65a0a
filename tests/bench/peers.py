"""The proxies that are compared and the target behind them: how they are started, and what they use.

Every program has a core to itself or shares the load generator's, and writes only into a folder that is removed.
"""

import contextlib
import functools
import os
import pathlib
import re
import resource
import shutil
import socket
import subprocess
import time

from put_table import Refused, put_table

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROGRAM = os.environ.get("CUTOVER_PROXY", str(ROOT / "target/release/cutover-proxy"))

# The order in which they take their turns; ratios are to the first.
NAMES = ["nginx", "haproxy", "caddy", "cutover"]

# How long a program may take until its port answers; under valgrind that is seconds.
START_S = 30

# How long it may take to end; valgrind writes its counts then.
END_S = 60

# Descriptors of each program: 10,000 clients, as many connections to the target at worst.
DESCRIPTORS = 20_000


class Missing(Exception):
    """A program is not here, or does not do what a row needs."""


@functools.cache
def cores():
    """The core of the proxy, and that of the load generator and the target."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Missing("two cores are needed: one for the proxy, one for the load")
    return allowed[0], allowed[1]


def pinned(core):
    """What a child does before it becomes its program."""

    def prepare():
        os.sched_setaffinity(0, {core})
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))

    return prepare


def find(program):
    """The path of a program; Debian keeps servers where a user's PATH does not look."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise Missing(f"{program} is not installed; tests/host/install bench brings it")
    return found


def version(name):
    """What a program says of its version."""
    asked = {"nginx": ["-v"], "haproxy": ["-v"], "caddy": ["version"], "cutover": ["--version"]}[name]
    command = [PROGRAM if name == "cutover" else find(name), *asked]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (told.stdout + told.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def prepare(folder):
    """Makes a folder ready: one certificate for all in it, ECDSA P-256, as public authorities give it."""
    # nginx gives its rights away when it was started by root, and must still find its files.
    folder.chmod(0o755)
    folder = folder / "certificate"
    folder.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", folder / "key.pem", "-out", folder / "chain.pem"],
        check=True, capture_output=True)  # fmt: skip
    both = (folder / "chain.pem").read_bytes() + (folder / "key.pem").read_bytes()
    (folder / "both.pem").write_bytes(both)


def written(folder, name, **values):
    """The path of a configuration in peers/, its places filled in."""
    text = (HERE / "peers" / f"{name}.conf").read_text()
    values["DIR"] = folder
    text = re.sub("@([A-Z]+)@", lambda place: str(values[place[1]]), text)
    path = folder / f"{name}.conf"
    path.write_text(text)
    return path


@contextlib.contextmanager
def running(command, folder, core, port, environment=None):
    """A program until the block ends; its port answers when the block begins."""
    log = folder / "log"
    with open(log, "wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
            preexec_fn=pinned(core), env={**os.environ, **(environment or {})})  # fmt: skip
    try:
        await_port(process, port, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_port(process, port, log):
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            wrong = [line for line in said if re.search("error|alert|emerg|panic", line, re.I)]
            raise Missing((wrong or said or ["it does not start"])[0])
        time.sleep(0.02)


@contextlib.contextmanager
def target(folder):
    """The address of a target that answers /1k and /100k."""
    folder = folder / "target"
    folder.mkdir(exist_ok=True)
    (folder / "100k").write_bytes(b"x" * 102_400)
    port = free_port()
    path = written(folder, "backend", PORT=port, BODY="x" * 1024)
    with running([find("nginx"), "-p", folder, "-c", path], folder, cores()[1], port):
        yield port


class Proxy:
    """A proxy that runs."""

    def __init__(self, name, pid, plain, tls):
        self.name, self.pid, self.plain, self.tls = name, pid, plain, tls

    def processes(self):
        """It and its children; nginx works in a child."""
        found = [self.pid]
        for pid in found:
            for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in children.read_text().split()]
        return found

    def cpu_us(self):
        """User and system time of all its processes and threads until now."""
        user = system = 0
        for pid in self.processes():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user, system = user + int(fields[11]), system + int(fields[12])
        tick = 1e6 / os.sysconf("SC_CLK_TCK")
        return user * tick, system * tick

    def memory_kb(self):
        """The proportional share of memory of all its processes; the kernel's buffers of sockets are not in it."""
        total = 0
        for pid in self.processes():
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1])
        return total


@contextlib.contextmanager
def proxy(name, folder, backend, tls, under=()):
    """A fresh proxy in front of the target; `tls` says whether it must listen with TLS as well, `under` is what runs it."""
    core = cores()[0]
    folder = pathlib.Path(folder) / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(folder.parent / "certificate", folder)
    plain, secure = free_port(), free_port()
    environment = {}
    if name == "cutover":
        if not os.path.exists(PROGRAM):
            raise Missing(f"{PROGRAM} is not there; build it with --release or say where it is in CUTOVER_PROXY")
        listeners = ["--listen", f"127.0.0.1:{plain}"]
        if tls:
            listeners += ["--listen", f"https=127.0.0.1:{secure}"]
        environment["CUTOVER_LOG"] = "error"
        command = [PROGRAM, *listeners, "--workers", "1", "--control", folder / "socket", "--state", folder / "state"]
    else:
        path = written(folder, name, PLAIN=plain, TLS=secure, BACKEND=backend)
        command = {
            "nginx": [find(name), "-p", folder, "-c", path],
            "haproxy": [find(name), "-db", "-f", path],
            "caddy": [find(name), "run", "--adapter", "caddyfile", "--config", path],
        }[name]
        if name == "nginx" and under:
            # Valgrind follows one process.
            command += ["-g", "master_process off;"]
        # Caddy is of Go, which starts as many threads at once as it is told; the folders are where it keeps files.
        environment.update(GOMAXPROCS="1", XDG_CONFIG_HOME=str(folder), XDG_DATA_HOME=str(folder))
    with running([*under, *command], folder, core, plain, environment) as pid:
        if name == "cutover":
            certificate = (str(folder / "chain.pem"), str(folder / "key.pem")) if tls else None
            try:
                put_table(str(folder / "socket"), f"127.0.0.1:{backend}", certificate)
            except Refused as refused:
                raise Missing(str(refused)) from refused
        yield Proxy(name, pid, plain, secure)
