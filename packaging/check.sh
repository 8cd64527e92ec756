#!/usr/bin/env bash
# Installs the Debian packages of target/dist into a clean Debian, and runs walpost and the package API there by their units' command
# lines and variables, with a Postgres and a Kafka on this machine, and in the place of systemd check.py.
#
#   make dist && packaging/check.sh      as root; needs debootstrap; leaves the clean root at .dev/roots
set -euo pipefail
cd "$(dirname "$0")/.."

base=$PWD/.dev/roots/bookworm root=$PWD/.dev/roots/installed dist=${1:-target/dist}
fault() { echo "packaging/check.sh: $*" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || fault "run it as root: it makes a root to install into"
mirror=$(awk '/^deb /{for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) {print $i; exit}} /^URIs:/{print $2; exit}' \
  /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true)

# Everything that can be judged without a root first.
for unit in packaging/*/*.service; do
  exposure=$(systemd-analyze security --offline=true "$unit" 2>/dev/null | sed -nE 's/.*exposure level.*: ([0-9.]+) .*/\1/p')
  echo "$(basename "$unit"): exposure $exposure of 10"
  awk -v exposure="$exposure" 'BEGIN {exit !(exposure != "" && exposure <= 2.0)}' || fault "$unit is more exposed than 2.0"
done
(cd "$dist" && sha256sum --quiet --check SHA256SUMS)
packaging/notes.sh "$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)" > /dev/null

if [ ! -e "$base/etc/debian_version" ] || [ -e "$base/debootstrap" ]; then
  rm -rf "$base"
  debootstrap --variant=minbase --include=ca-certificates bookworm "$base" ${mirror:+"$mirror"} > "$PWD/.dev/debootstrap.log" \
    || fault "debootstrap: see .dev/debootstrap.log"
fi
rm -rf "$root"
cp -a "$base" "$root"
mkdir "$root/packages"
cp "$dist"/*.deb "$root/packages/"
chroot "$root" sh -c 'dpkg --install /packages/*.deb' > "$PWD/.dev/dpkg.log" 2>&1 || { cat "$PWD/.dev/dpkg.log" >&2; fault "a package does not install"; }

for program in walpost logistic-package-api package-bot package-facade; do
  said=$(chroot "$root" "/usr/bin/$program" --version | head -1)
  echo "$said"
  [[ $said =~ ^$program\ [0-9.]+\ \(commit\ [0-9a-f]{12} ]] || fault "$program does not name its commit: $said"
  for file in LICENSE-MIT LICENSE-APACHE sbom.cdx.json third-party-licences.txt changelog.Debian.gz; do
    [ -s "$root/usr/share/doc/$program/$file" ] || fault "$program: no $file in /usr/share/doc/$program"
  done
  [ -s "$root/lib/systemd/system/$program.service" ] || [ -s "$root/usr/lib/systemd/system/$program.service" ] || fault "$program: no unit"
  grep -qx "/etc/$program/$program.toml" "$root/var/lib/dpkg/info/$program.conffiles" || fault "$program: its settings are no conffile"
done
for program in walpost logistic-package-api; do
  zcat "$root/usr/share/man/man1/$program.1.gz" | grep -q '^\.SH OPTIONS' || fault "$program: no man page"
  bash -c "source '$root/usr/share/bash-completion/completions/$program' && complete -p $program" > /dev/null || fault "$program: no completion"
done

python3 dev/stack/stack.py up > /dev/null
python3 packaging/check.py "$root"

chroot "$root" sh -c 'dpkg --purge walpost logistic-package-api package-bot package-facade' >> "$PWD/.dev/dpkg.log" 2>&1
# The connection string is the operator's own file, and stays.
left=$(find "$root/etc/walpost/walpost.toml" "$root/usr/bin/walpost" "$root"/usr/lib/systemd/system/walpost.service 2>/dev/null || true)
[ -z "$left" ] || fault "after a purge there is still $left"
echo "installed, run by their units' command lines, stopped and purged: all well"
