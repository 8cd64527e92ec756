#!/usr/bin/env bash
# Builds walpost and the package API and installs them with man pages and completions; `make install`, `make uninstall`.
#
#   packaging/install.sh              into PREFIX (/usr/local), below DESTDIR where that is set
#   packaging/install.sh --remove     what it would install
#   BUILT=target/debug                in front: installs the programs that are there
set -euo pipefail
cd "$(dirname "$0")/.."

programs=(walpost logistic-package-api)
built=${BUILT:-${CARGO_TARGET_DIR:-target}/release}
prefix=${DESTDIR:-}${PREFIX:-/usr/local}

if [ "${1:-}" = --remove ]; then
  for program in "${programs[@]}"; do
    rm -fv "$prefix/bin/$program" "$prefix"/share/man/man1/"$program"{,-*}.1 \
      "$prefix/share/bash-completion/completions/$program" "$prefix/share/zsh/site-functions/_$program" \
      "$prefix/share/fish/vendor_completions.d/$program.fish"
  done
  exit
fi

[ -n "${BUILT:-}" ] || cargo build --release --locked -p walpost -p logistic-package-api -p manual
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
"$built/manual" "$pages"
for program in "${programs[@]}"; do
  made=$pages/$program
  install -D -m 0755 "$built/$program" "$prefix/bin/$program"
  install -D -m 0644 -t "$prefix/share/man/man1" "$made"/man/*.1
  install -D -m 0644 "$made/completions/$program.bash" "$prefix/share/bash-completion/completions/$program"
  install -D -m 0644 "$made/completions/_$program" "$prefix/share/zsh/site-functions/_$program"
  install -D -m 0644 "$made/completions/$program.fish" "$prefix/share/fish/vendor_completions.d/$program.fish"
  echo "installed: $prefix/bin/$program, $("$prefix/bin/$program" --version)"
done
