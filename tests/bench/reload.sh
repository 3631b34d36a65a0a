#!/usr/bin/env bash
# What users lose while a proxy is told something new; see reload.rs. Inside a
# test host: `make bench`.
#
#   tests/bench/reload.sh [--users N] [--switches N] [--takeovers N] [--interval-ms N] [--seed N]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec "$root/target/release/cutover-bench-reload" "$@"
