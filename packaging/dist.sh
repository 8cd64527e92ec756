#!/usr/bin/env bash
# What a release consists of, in target/dist: for each program a tarball, a .deb and a bill of materials, and one list of checksums.
#
#   packaging/dist.sh          or `make dist`; needs Debian's dpkg-dev, Python 3, and what the build needs
#
# Two runs on one commit are to write the same bytes where Rust, gcc and the checkout's path are the same: times are the commit's,
# files are sorted and owned by root, and paths of the machine are not in the programs.
#
# BUILT=target/debug packs the programs that are there, whatever they are: for trying the packages, not for a release.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=(walpost logistic-package-api package-bot package-facade)
built=${BUILT:-${CARGO_TARGET_DIR:-target}/release}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
architecture=$(dpkg --print-architecture)
# The commit's time; a build without git names it itself.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export TZ=UTC LC_ALL=C PATH="$PWD/.dev/tools/bin:$PATH"

if [ -z "${BUILT:-}" ]; then
  cargo_home=${CARGO_HOME:-$HOME/.cargo}
  maps="$PWD=/src $cargo_home=/cargo"
  for map in $maps; do
    RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$map"
    CFLAGS="${CFLAGS:-} -ffile-prefix-map=$map"
  done
  export RUSTFLAGS CFLAGS CXXFLAGS="$CFLAGS"
  packages=(-p manual)
  for program in "${programs[@]}"; do packages+=(-p "$program"); done
  cargo build --release --locked "${packages[@]}"
fi
# Debian's packages are described in each program's Cargo.toml.
if ! cargo deb --version >/dev/null 2>&1; then
  cargo install cargo-deb --version 3.8.0 --locked --debug --root .dev/tools
fi
files=target/dist-files dist=target/dist
rm -rf "$files" "$dist"
mkdir -p "$files/bin" "$dist"
for program in "${programs[@]}"; do
  install -D -m 0755 "$built/$program" "$files/bin/$program"
  strip --strip-debug "$files/bin/$program"
done
deploy/docker/sbom.py "$files/bin" "$files/doc"
"$built/manual" "$files/manual"
gzip --best --no-name < CHANGELOG.md > "$files/changelog"
find "$files/manual" -name '*.1' -exec gzip --best --no-name {} +

# Sorted, dated and owned the same everywhere.
pack() { tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=go-w -C "$1" -cf - "$2" | gzip --best --no-name; }

for program in "${programs[@]}"; do
  name=$program-$version-linux-$architecture
  root=$files/$name
  install -D -m 0755 "$files/bin/$program" "$root/bin/$program"
  install -D -m 0644 -t "$root" LICENSE-MIT LICENSE-APACHE CHANGELOG.md "packaging/$program/$program.service" "packaging/$program/$program.toml"
  cp -r "$files/doc/$program" "$root/doc"
  if [ -d "$files/manual/$program" ]; then cp -r "$files/manual/$program/." "$root/"; fi
  pack "$files" "$name" > "$dist/$name.tar.gz"
  cp "$files/doc/$program/sbom.cdx.json" "$dist/$program-$version.cdx.json"
  cargo deb --package "$program" --no-build --no-strip --deb-revision '' --output "$dist/" --quiet ${BUILT:+--fast}
done

(cd "$dist" && sha256sum -- * > SHA256SUMS)
ls -l "$dist"
