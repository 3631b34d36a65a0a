#!/usr/bin/env bash
# Runs the action with act, a runner that others wrote: a good deploy, a bad image, a wrong secret, no agent.
#
#   CUTOVER_SECRET=… tests/action/act.sh URL [GOOD_APP IMAGE [BAD_APP BAD_IMAGE]]
#
# Without apps it expects the stand-in agent: cargo run -p cutover --example stand_in. real.sh runs it with a real one.
# Needs act on PATH (go install github.com/nektos/act@latest), git, and cutover in target/debug or in CUTOVER_PATH.
# CASES says which of the four to run, DOWN_URL where nobody answers. What act does not see: it hands on the outputs of
# the step inside an action even where action.yml does not name them; tests/e2e/action.rs sees to that.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
url=${1:?the URL of an agent}
: "${CUTOVER_SECRET:?the secret of that agent}"
digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
good=${2:-shop}
image=${3:-ghcr.io/acme/shop@$digest}
bad=${4:-bad-image}
bad_image=${5:-$image}
cases=${CASES:-good bad-image wrong-secret agent-down}
# Port 1 is reserved, and nothing listens there.
down=${DOWN_URL:-http://127.0.0.1:1}
wrong=another-secret-of-twenty-four
program=${CUTOVER_PATH:-$root/target/debug/cutover}
command -v act >/dev/null || { echo "act is missing: go install github.com/nektos/act@latest" >&2; exit 1; }
[ -x "$program" ] || { echo "$program is missing: cargo build -p cutover" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/shop/.github/workflows"
cp "$root/action.yml" "$work/shop/"

# Where act can give a step a terminal it drops the last lines of one that fails. Without one it takes pipes, as the
# runner of GitHub does.
pipes=(unshare --mount)
[ "$(id -u)" = 0 ] || pipes+=(--map-root-user)
# shellcheck disable=SC2016 # the inner bash expands it
pipes+=(-- bash -c 'mount --bind /dev/null /dev/ptmx && exec "$@"' bash)

# job NAME URL SECRET APP IMAGE: a job that is as red or green as the action, and prints its outputs either way.
job() {
  cat <<YAML
  $1:
    runs-on: ubuntu-latest
    steps:
      # act copies the repository and downloads nothing for this.
      - uses: actions/checkout@v6
      - id: cutover
        uses: ./
        with:
          url: $2
          secret: $3
          app: $4
          image: $5
          cutover-path: $program
      - name: Outputs
        if: always()
        shell: bash
        env:
          STEP: \${{ steps.cutover.outcome }}
          OUTPUTS: \${{ toJSON(steps.cutover.outputs) }}
        run: |
          echo "result: step=\$STEP"
          sed -n 's/^ *"\(.*\)": "\(.*\)",\{0,1\}$/result: \1=\2/p' <<<"\$OUTPUTS"
YAML
}

{
  printf 'name: action\non: push\njobs:\n'
  # shellcheck disable=SC2016 # the runner puts the secret in
  secret='${{ secrets.CUTOVER_SECRET }}'
  job good "$url" "$secret" "$good" "$image"
  job bad-image "$url" "$secret" "$bad" "$bad_image"
  job wrong-secret "$url" "$wrong" "$good" "$image"
  job agent-down "$down" "$secret" "$good" "$image"
} >"$work/shop/.github/workflows/action.yml"

cd "$work/shop"
git init --quiet
# act reads the name of the repository from here.
git remote add origin https://github.com/acme/shop.git
git add .
git -c user.name=test -c user.email=test@localhost commit --quiet --message test
# What act keeps for itself goes with the rest.
export CUTOVER_SECRET XDG_CONFIG_HOME="$work/config" XDG_CACHE_HOME="$work/cache"

fault() {
  cat "$log"
  echo "FAULT: $name: $*" >&2
  exit 1
}

# output NAME: an output of the action, as the next step of the job saw it.
output() { sed -n "s/^.*| result: $1=//p" "$log"; }

# expect KEY VALUE: an output is so.
expect() { [ "$(output "$1")" = "$2" ] || fault "$1 is '$(output "$1")', not '$2'"; }

# says TEXT: the log has this line, or a line with this part.
says() { grep --quiet --fixed-strings -- "$1" "$log" || fault "nothing says: $1"; }

# check NAME STATUS OUTCOME IMAGE TEXT: cutover ended with STATUS, and the summary has TEXT.
check() {
  local name=$1 log=$work/$1.log status=0 step=success mark=✅ id=26 red=0 summary
  # The secrets are not hidden, to see that nobody prints them.
  "${pipes[@]}" act push --job "$name" --platform ubuntu-latest=-self-hosted --no-cache-server \
    --insecure-secrets --secret CUTOVER_SECRET --env CUTOVER_RETRY_FOR=2s >"$log" 2>&1 || status=$?
  [ "$2" = 0 ] || { step=failure mark=❌ red=1; says "exit status $2"; says '::error title='; }
  [ "$status" = "$red" ] || fault "act ended with $status, not $red"
  expect step "$step"
  expect outcome "$3"
  expect digest "${4##*@}"
  case $3 in refused | unreachable) id=0 ;; esac
  [ "$(output deploy-id | tr -d '\n' | wc -c)" = "$id" ] || fault "deploy-id is '$(output deploy-id)'"
  [[ $(output duration) =~ ^[0-9]+$ ]] || fault "duration is '$(output duration)'"
  says "Summary - ### $mark"
  says "| outcome | $3 |"
  summary=$(sed -n '/Summary - /,/\[action/p' "$log")
  [[ $summary == *"$5"* ]] || fault "the summary does not say: $5"
  ! grep --quiet --fixed-strings -e "${CUTOVER_SECRET#whsec_}" -e "$wrong" "$log" || fault 'a secret is in the log'
  echo "ok: $name: the job is $([ "$red" = 0 ] && echo green || echo red), cutover ended with $2, no secret in the log"
  sed -n 's/^.*| result: /    /p' "$log"
  sed -n '0,/Summary - /s/^.*Summary - ### /    summary: /p' "$log"
}

for case in $cases; do
  case $case in
    good) check good 0 promoted "$image" 'serving' ;;
    bad-image) check bad-image 1 failed "$bad_image" 'serving' ;;
    wrong-secret) check wrong-secret 4 refused "$image" 'nothing was started' ;;
    agent-down) check agent-down 5 unreachable "$image" 'nothing was started' ;;
    *) echo "no such case: $case" >&2; exit 2 ;;
  esac
done
