#!/usr/bin/env bash
# What a deploy takes beside a bare `docker run`, and what the agent costs; see
# deploy.rs and agent/examples/bench-agent.rs. Inside a test host:
# `make bench-deploy`, or `make bench`.
#
#   tests/bench/deploy.sh [--rounds N] [--successes N] [--interval-ms N] [--at-most RATIO]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
"$root/target/release/cutover-bench-deploy" "$@"
"$root/target/release/examples/bench-agent"
