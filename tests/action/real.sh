#!/usr/bin/env bash
# Runs act.sh against a real agent and proxy, after `make build`: tests/host/run tests/action/real.sh
# Needs act on PATH (go install github.com/nektos/act@latest), and no network.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)

# The rig starts this script again, and prints the log of its programs at the end.
if [ -z "${RIG_AGENT:-}" ]; then
  : "${CUTOVER_TEST_DIR:?runs inside tests/host/run}"
  rig=$root/target/debug/cutover-rig
  [ -x "$rig" ] || { echo "$rig is missing: make build" >&2; exit 1; }
  log=$CUTOVER_TEST_DIR/programs.log
  "$rig" --app shop "$0" >"$log" || { cat "$log"; exit 1; }
  secret=$(<"$CUTOVER_TEST_DIR/rig-shop/secret")
  ! grep --fixed-strings -- "${secret#whsec_}" "$log" || { echo 'FAULT: the secret is in that line' >&2; exit 1; }
  grep --quiet 'a call was refused' "$log" || { echo 'FAULT: the agent did not log that it refused' >&2; exit 1; }
  echo 'ok: no secret in the log of the agent and the proxy'
  exit
fi
exec >&2

act() { "$root/tests/action/act.sh" "$CUTOVER_URL" "$RIG_APP" "$RIG_GOOD" "$RIG_APP" "$RIG_BAD"; }

CASES='good bad-image wrong-secret' act
kill -KILL "$RIG_AGENT"
address=${CUTOVER_URL#http://}
for ((end = SECONDS + 10; SECONDS < end;)); do
  (exec 3<>"/dev/tcp/${address/://}") 2>/dev/null || break
done
CASES=agent-down DOWN_URL=$CUTOVER_URL act

# Users never saw anything but the good image, and see it without the agent, too.
exec 3<>"/dev/tcp/${RIG_FRONT/://}"
printf 'GET / HTTP/1.1\r\nhost: %s.test\r\nconnection: close\r\n\r\n' "$RIG_APP" >&3
answer=$(tr -d '\r' <&3)
grep --quiet --ignore-case '^x-app-version: 1$' <<<"$answer" ||
  { echo "FAULT: version 1 does not serve: $answer"; exit 1; }
containers=$(docker ps --all --filter "label=cutover.app=$RIG_APP" --format '{{.Names}}')
[ "$containers" = "cutover-$RIG_APP-v1-0" ] || { echo "FAULT: containers are left: $containers"; exit 1; }
echo 'ok: version 1 serves, and nothing is left of the bad image'
