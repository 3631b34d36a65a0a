# What a person types. Each target installs and starts what it needs on a fresh
# Debian or Ubuntu machine; only the Rust toolchain must be there.

.PHONY: help demo test lint bench bench-proxy bench-deploy bench-judge build programs app conformance toolchain
.DEFAULT_GOAL := help

MUSL := x86_64-unknown-linux-musl

help:
	@echo 'make demo          watch a deploy go right, and one go wrong and come back'
	@echo 'make test          every test, end to end ones on a throw-away host'
	@echo 'make lint          format, lints, licences, workflows, scripts'
	@echo 'make bench         the proxy and the deploy, measured'
	@echo 'make bench-proxy   the proxy alone beside nginx, haproxy and Caddy; WORKLOADS=... for some of it'
	@echo 'make bench-deploy  a deploy beside docker run, a rollback, and what the agent costs'
	@echo 'make bench-judge   how often the canary judge is wrong, and how soon it is right'

demo: programs
	tests/host/run tests/demo/run

# Nothing reaches a network from inside the test host, so all is built before.
# Most tests wait for most of their time, so more run at once than there are cores.
test: export RUST_TEST_THREADS ?= 5
test: build conformance
	tests/host/install podman
	$(if $(TESTS),tests/host/run cargo test --workspace --offline --locked $(TESTS),tests/run)

lint: toolchain
	.github/lint

# One package at a time: together, some are built with more than they ship with.
bench: app
	tests/host/install bench
	cargo build --release --package cutover-proxy --bins --locked
	cargo build --release --package cutover-agent --bins --example bench-agent --locked
	cargo build --release --package cutover --bins --locked
	cargo build --release --package cutover-demo-app --bins --locked
	cargo build --release --package cutover-tests --bin cutover-bench-deploy --bin cutover-bench-reload --locked
	tests/host/run tests/bench/run

# Needs no host: it talks to itself over the loopback. tests/bench/proxy --list names the workloads.
bench-proxy: toolchain
	tests/host/install bench
	cargo build --release --package cutover-proxy --bins --locked
	tests/bench/proxy $(WORKLOADS)

bench-deploy: app
	cargo build --release --package cutover-proxy --bins --locked
	cargo build --release --package cutover-agent --bins --example bench-agent --locked
	cargo build --release --package cutover --bins --locked
	cargo build --release --package cutover-demo-app --bins --locked
	cargo build --release --package cutover-tests --bin cutover-bench-deploy --locked
	tests/host/run tests/bench/deploy.sh $(DEPLOY)

# Pure computing: no host, no root; RUNS=500 is quicker than the 10000 of the documents.
bench-judge: toolchain
	cargo run --release --package cutover-plan --example bench-judge --locked -- $(RUNS)

build: app
	cargo build --workspace --all-targets --locked

programs: app
	cargo build --workspace --bins --locked

app: toolchain
	cargo build --package cutover-demo-app --profile app --target $(MUSL) --locked

# Existing tests of HTTP/2, which a test of the proxy runs.
conformance:
	@tests/conformance/install >/dev/null

# rust-toolchain.toml names the toolchain; rustup fetches it when told to.
# Some crates compile C.
toolchain:
	@command -v cargo >/dev/null || { \
	    echo 'cargo is missing: install rustup, the Rust toolchain installer, with' >&2; \
	    echo '    sudo apt-get install -y rustup' >&2; \
	    echo 'or, where apt has no such package, as its own site says; then run make again' >&2; \
	    exit 1; }
	@! command -v rustup >/dev/null || rustup show active-toolchain >/dev/null 2>&1 || rustup toolchain install
	@! command -v rustup >/dev/null || rustup target list --installed | grep -qx $(MUSL) || rustup target add $(MUSL)
	@tests/host/install compiler
