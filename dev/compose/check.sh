#!/usr/bin/env bash
# Checks docker-compose.yml and the Dockerfile as far as that goes without a container engine: Compose itself reads the
# file, and check.py looks for what the contract and production ask of it.
#
#   dev/compose/check.sh     needs the docker client with its compose plugin, and Python 3; no engine
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! docker compose version >/dev/null 2>&1; then
  cat >&2 <<'TEXT'
check: no `docker compose`. It is the package docker-compose-plugin (Docker's) or docker-compose-v2 (Ubuntu's); or build
package ./cmd of github.com/docker/compose/v2 with Go, and put it to ~/.docker/cli-plugins/docker-compose
TEXT
  exit 1
fi

for script in deploy/docker/*.sh deploy/compose/*/*.sh; do bash -n "$script"; done

# Nothing of the caller's may reach what is checked, and every profile is.
env -u BIND_ADDRESS -u SECRETS_DIR -u BOT_TOKEN -u COMMIT_HASH \
  docker compose --env-file /dev/null --profile '*' config --format json | python3 dev/compose/check.py
