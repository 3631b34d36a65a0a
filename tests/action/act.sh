#!/usr/bin/env bash
# Runs the action with act, a runner that others wrote: a good deploy, a bad image, a wrong secret, no agent.
#
#   CUTOVER_SECRET=… tests/action/act.sh URL [GOOD_APP IMAGE [BAD_APP BAD_IMAGE]]
#
# Without apps it expects the stand-in agent: cargo run -p cutover --example stand_in.
# Needs act on PATH (go install github.com/nektos/act@latest), git, and cutover in target/debug or in CUTOVER_PATH.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
url=${1:?the URL of an agent}
: "${CUTOVER_SECRET:?the secret of that agent}"
digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
good=${2:-shop}
image=${3:-ghcr.io/acme/shop@$digest}
bad=${4:-bad-image}
bad_image=${5:-$image}
program=${CUTOVER_PATH:-$root/target/debug/cutover}
command -v act >/dev/null || { echo "act is missing: go install github.com/nektos/act@latest" >&2; exit 1; }
[ -x "$program" ] || { echo "$program is missing: cargo build -p cutover" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/.github/workflows"
cp "$root/action.yml" "$work/"

# job NAME URL SECRET APP IMAGE OUTCOME: a job that is green when the action ends so.
job() {
  cat <<YAML
  $1:
    runs-on: ubuntu-latest
    steps:
      # act copies the repository and downloads nothing for this.
      - uses: actions/checkout@v6
      - id: cutover
        uses: ./
        continue-on-error: true
        with:
          url: $2
          secret: $3
          app: $4
          image: $5
          cutover-path: $program
      - shell: bash
        env:
          STEP: \${{ steps.cutover.outcome }}
          OUTCOME: \${{ steps.cutover.outputs.outcome }}
        run: |
          echo "step \$STEP, outcome \$OUTCOME"
          [ "\$OUTCOME" = "$6" ]
          if [ "$6" = promoted ]; then [ "\$STEP" = success ]; else [ "\$STEP" = failure ]; fi
YAML
}

{
  printf 'name: action\non: push\njobs:\n'
  # shellcheck disable=SC2016 # the runner puts the secret in
  secret='${{ secrets.CUTOVER_SECRET }}'
  job good "$url" "$secret" "$good" "$image" promoted
  job bad-image "$url" "$secret" "$bad" "$bad_image" failed
  job wrong-secret "$url" "wrong-wrong-wrong-wrong-wrong" "$good" "$image" refused
  # Port 1 is reserved, and nothing listens there.
  job agent-down "http://127.0.0.1:1" "$secret" "$good" "$image" unreachable
} >"$work/.github/workflows/action.yml"

cd "$work"
git init --quiet
# act reads the name of the repository from here.
git remote add origin https://github.com/acme/shop.git
git add .
git -c user.name=test -c user.email=test@localhost commit --quiet --message test
export CUTOVER_SECRET
act push --platform ubuntu-latest=-self-hosted --secret CUTOVER_SECRET --env CUTOVER_RETRY_FOR=2s
