#!/bin/sh
# packaging/notes.sh 0.2.0: what CHANGELOG.md says of a version, for the notes of its release.
set -eu
cd "$(dirname "$0")/.."
notes=$(awk -v version="$1" '/^## /{on = index($0, "## [" version "]") == 1; next} on' CHANGELOG.md)
if [ -z "$notes" ]; then
  echo "notes: CHANGELOG.md has nothing of $1" >&2
  exit 1
fi
printf '%s\n' "$notes"
