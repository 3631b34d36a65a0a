#!/usr/bin/env bash
# What a deploy takes beside a bare `docker run`; see deploy.rs. Inside a test
# host: `make bench`.
#
#   tests/bench/deploy.sh [--rounds N] [--successes N] [--interval-ms N] [--at-most RATIO]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec "$root/target/release/cutover-bench-deploy" "$@"
