#!/usr/bin/env bash
# CPU time per request of cutover-proxy against nginx, in one run, in turns.
#
# Each proxy has one worker on core 0; wrk and the target (nginx) share core 1.
# CPU time is what the kernel accounts to the proxy's processes, so a client
# that is the bottleneck does not falsify it. Everything is on the loopback.
#
#   tests/bench/proxy.sh [PAIRS] [SECONDS] [CONNECTIONS]
#
# Needs bash, nginx, wrk, taskset and python3.
set -euo pipefail

pairs=${1:-5}
seconds=${2:-5}
connections=${3:-64}
root=$(cd "$(dirname "$0")/../.." && pwd)
program=${CUTOVER_PROXY:-$root/target/release/cutover-proxy}
dir=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap finish EXIT

backend=18081
reference=18082
own=18083

body=$(head -c 1024 /dev/zero | tr '\0' x)
common="daemon off; worker_processes 1; error_log stderr error; events { worker_connections 4096; }"
http="access_log off; keepalive_timeout 75s; keepalive_requests 100000000; tcp_nodelay on;
client_body_temp_path $dir/body; proxy_temp_path $dir/proxy; fastcgi_temp_path $dir/fastcgi;
uwsgi_temp_path $dir/uwsgi; scgi_temp_path $dir/scgi;"
cat >"$dir/backend.conf" <<CONF
$common pid $dir/backend.pid;
http { $http
  server { listen 127.0.0.1:$backend; location / {
    default_type text/plain;
    add_header Cache-Control no-store; add_header X-Content-Type-Options nosniff;
    add_header X-Frame-Options DENY; add_header Vary Accept-Encoding;
    return 200 "$body"; } } }
CONF
# The same fields that cutover-proxy sets, and kept connections to the target.
cat >"$dir/reference.conf" <<CONF
$common pid $dir/reference.pid;
http { $http
  upstream app { server 127.0.0.1:$backend; keepalive 512; keepalive_requests 100000000; }
  server { listen 127.0.0.1:$reference; location / {
    proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header Host \$host; proxy_set_header X-Forwarded-For \$remote_addr;
    proxy_set_header X-Forwarded-Proto \$scheme; proxy_set_header X-Forwarded-Host \$host;
    proxy_set_header X-Request-Id \$request_id; } } }
CONF

nginx=$(command -v nginx || echo /usr/sbin/nginx)
taskset -c 1 "$nginx" -p "$dir" -c "$dir/backend.conf" 2>>"$dir/log" & pids+=($!)
taskset -c 0 "$nginx" -p "$dir" -c "$dir/reference.conf" 2>>"$dir/log" & reference_pid=$! pids+=($!)
CUTOVER_LOG=warn taskset -c 0 "$program" --listen 127.0.0.1:$own --workers 1 \
    --control "$dir/proxy.sock" --state "$dir/state" 2>>"$dir/log" & own_pid=$! pids+=($!)

python3 "$root/tests/bench/put_table.py" "$dir/proxy.sock" "127.0.0.1:$backend"

reachable() { # port
    for _ in $(seq 200); do
        if curl -fsS -o /dev/null "http://127.0.0.1:$1/" 2>/dev/null; then return; fi
        sleep 0.02
    done
    echo "nothing answers on port $1" >&2
    cat "$dir/log" >&2
    exit 1
}
reachable $backend
reachable $reference
reachable $own

ticks() { # pid: user and system time of it and its children, in clock ticks
    local sum=0 one
    for one in "$1" $(cat "/proc/$1/task/$1/children"); do
        sum=$((sum + $(sed 's/.*) //' "/proc/$one/stat" | awk '{print $12 + $13}')))
    done
    echo "$sum"
}

hertz=$(getconf CLK_TCK)
measure() { # port pid: microseconds per request, requests per second, errors
    local before after
    before=$(ticks "$2")
    taskset -c 1 wrk -t1 -c"$connections" -d"${seconds}s" \
        -H 'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0' \
        -H 'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' \
        -H 'Accept-Language: en-US,en;q=0.5' -H 'Accept-Encoding: gzip, deflate' \
        -H 'Cookie: session=0123456789abcdef0123456789abcdef' -H 'DNT: 1' \
        -H 'Cache-Control: max-age=0' -H 'Sec-Fetch-Mode: navigate' \
        "http://127.0.0.1:$1/" >"$dir/wrk"
    after=$(ticks "$2")
    awk -v ticks=$((after - before)) -v hertz="$hertz" '
        / requests in / { done = $1 }
        /^Requests\/sec/ { rate = $2 }
        /Socket errors|Non-2xx/ { errors = $0 }
        END { printf "%.2f %d %s\n", ticks * 1e6 / hertz / done, rate, errors }' "$dir/wrk"
}

# Warm both up once, so that the first pair is like the others.
full=$seconds seconds=1
measure $reference $reference_pid >/dev/null
measure $own $own_pid >/dev/null
seconds=$full

printf '%-6s %14s %14s %8s %12s %12s\n' pair 'nginx us/req' 'cutover us/req' ratio 'nginx req/s' 'cutover req/s'
for pair in $(seq "$pairs"); do
    read -r a a_rate a_errors < <(measure $reference $reference_pid) || true
    read -r b b_rate b_errors < <(measure $own $own_pid) || true
    ratio=$(awk -v a="$a" -v b="$b" 'BEGIN { printf "%.3f", b / a }')
    printf '%-6s %14s %14s %8s %12s %12s %s\n' "$pair" "$a" "$b" "$ratio" "$a_rate" "$b_rate" "$a_errors$b_errors"
    echo "$a $b $ratio" >>"$dir/pairs"
done
median() { sort -n -k"$1","$1" "$dir/pairs" | awk -v c="$1" '{ v[NR] = $c } END { print (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2 }'; }
printf '%-6s %14s %14s %8s\n' median "$(median 1)" "$(median 2)" "$(median 3)"
