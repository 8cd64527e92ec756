#!/bin/bash
# healthcheck PORT PATH: succeeds when http://127.0.0.1:PORT/PATH answers 200. The images hold no HTTP client, and bash,
# which the base image has anyway, can ask this much.
set -euo pipefail

port=$1 path=$2

exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$path" >&3

# A server that accepts and then hangs must count as ill before the container engine's own time-out kills this.
if ! read -r -t 2 _ status _ <&3; then
  echo "no answer from port $port within 2 s"
  exit 1
fi
if [[ $status != 200 ]]; then
  # The page says why; the engine keeps it (docker inspect).
  timeout 1 cat <&3 || true
  exit 1
fi
