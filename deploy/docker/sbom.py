#!/usr/bin/env python3
"""What is in the programs: for each of them a bill of materials and the licences of what is linked into it.

    sbom.py BINARIES OUT    in the workspace, after one `cargo build -p ... -p ...` of every program in BINARIES

OUT/PROGRAM/sbom.cdx.json              CycloneDX 1.5, for scanners: crates, C libraries, Rust's standard library
OUT/PROGRAM/third-party-licences.txt   each text once, with the crates that it belongs to
OUT/PROGRAM/rust-standard-library.html Rust's own notice

It asks `cargo tree`, which resolves features as the build did. `cargo metadata`, which the usual tools read, also lists
what an optional feature would add: SQLite and MySQL in the server, for which a scanner would then warn. Nothing is
downloaded: a crate that the build did not need is an error. Two runs write the same bytes.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

LICENCE_FILE = re.compile(r"(licen[sc]e|copying|copyright|notice|unlicense)([-._].*)?$", re.IGNORECASE)

# C libraries whose source a crate brings: where its folder is, and the file and pattern that tell the version. No
# manifest names them, and it is they that advisories are about.
C_LIBRARIES = {
    "aws-lc-sys": ("aws-lc", "aws-lc", "include/openssl/base.h", r'AWSLC_VERSION_NUMBER_STRING "([\d.]+)"', None,
                   "pkg:github/aws/aws-lc@v{}"),
    "libz-sys": ("zlib", "src/zlib", "zlib.h", r'ZLIB_VERSION "([\d.]+)"', "Zlib", "pkg:github/madler/zlib@v{}"),
    "openssl-src": ("openssl", "openssl", "VERSION.dat", r"MAJOR=(\d+)\nMINOR=(\d+)\nPATCH=(\d+)", "Apache-2.0",
                    "pkg:github/openssl/openssl@openssl-{}"),
    "rdkafka-sys": ("librdkafka", "librdkafka", "vcpkg.json", r'"version": "([\d.]+)"', "BSD-2-Clause",
                    "pkg:github/confluentinc/librdkafka@v{}"),
    "zstd-sys": ("zstd", "zstd", "lib/zstd.h",
                 r"VERSION_MAJOR +(\d+)\n.*VERSION_MINOR +(\d+)\n.*VERSION_RELEASE +(\d+)", "BSD-3-Clause",
                 "pkg:github/facebook/zstd@v{}"),
}
CPES = {"openssl": "cpe:2.3:a:openssl:openssl:{}:*:*:*:*:*:*:*", "zlib": "cpe:2.3:a:zlib:zlib:{}:*:*:*:*:*:*:*"}


def main(binaries, out):
    programs = sorted(path.name for path in binaries.iterdir())
    linked = trees(programs, "normal,no-proc-macro")
    # Procedural macros and build scripts run in the build only. Cargo 1.95 was seen to leave out a linked crate
    # (const-oid 0.10.3 of the server) when it was asked for these as well, so what is linked is added.
    every = trees(programs, "normal,build")
    every = {program: every[program] | linked[program] for program in programs}
    checksums = {(package["name"], package["version"]): package.get("checksum")
                 for package in tomllib.loads(pathlib.Path("Cargo.lock").read_text())["package"]}
    for program in programs:
        crates = [Crate(*crate, scope="required" if crate in linked[program] else "excluded",
                        checksum=checksums[crate[:2]]) for crate in sorted(every[program])]
        parts = [crate for crate in crates if crate.name != program] + [StandardLibrary()]
        parts += [CLibrary(crate) for crate in crates if crate.name in C_LIBRARIES]
        itself = next(crate for crate in crates if crate.name == program)
        folder = out / program
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sbom.cdx.json").write_text(bill(itself, parts, binaries / program))
        # Only what is linked in is passed on with the program; ours is in LICENSE-MIT and LICENSE-APACHE beside it.
        texts = licences(program, [part for part in parts if part.scope == "required" and part.foreign])
        (folder / "third-party-licences.txt").write_text(texts)
        shutil.copy(StandardLibrary.notice(), folder / "rust-standard-library.html")
        print(f"{program}: {len(parts)} parts, {sum(part.scope == 'required' for part in parts)} of them linked")


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def trees(programs, edges):
    """The crates of each program, as {program: {(name, version, folder or "")}}. One question for all, as there is one
    build: a feature that one program asks for, the others get too."""
    packages = [argument for program in programs for argument in ("-p", program)]
    lines = output("cargo", "tree", "--frozen", *packages, "--edges", edges, "--prefix", "depth", "--no-dedupe",
                   "--format", " {p}").splitlines()
    found = {}
    for line in filter(None, lines):
        depth, name, version, *rest = line.split()
        place = " ".join(rest).removeprefix("(proc-macro)").strip()
        crate = (name, version.removeprefix("v"), place.strip("()"))
        if depth == "0":
            root = found.setdefault(name, set())
        root.add(crate)
    return found


class Part:
    """Something that the program consists of."""

    foreign, scope, checksum, cpe, repository = True, "required", None, None, None

    def texts(self):
        return []

    def component(self):
        fields = {"type": "library", "bom-ref": self.purl, "name": self.name, "version": self.version,
                  "scope": self.scope, "purl": self.purl}
        if self.checksum:
            fields["hashes"] = [{"alg": "SHA-256", "content": self.checksum}]
        if self.licence:
            fields["licenses"] = [{"expression": self.licence}]
        if self.cpe:
            fields["cpe"] = self.cpe
        if self.repository:
            fields["externalReferences"] = [{"type": "vcs", "url": self.repository}]
        return fields


class Crate(Part):
    def __init__(self, name, version, place, scope, checksum):
        self.name, self.version, self.scope, self.checksum = name, version, scope, checksum
        self.foreign = not place
        self.folder = pathlib.Path(place) if place else source_of(name, version)
        self.purl = f"pkg:cargo/{name}@{version.replace('+', '%2B')}"
        package = tomllib.loads((self.folder / "Cargo.toml").read_text())["package"]
        # Ours inherit it from the workspace. The slash is how it was written before SPDX expressions.
        licence = package.get("license") if self.foreign else "MIT OR Apache-2.0"
        self.licence = re.sub(r"\s*/\s*", " OR ", licence) if licence else None
        self.licence_file = package.get("license-file")
        self.authors = package.get("authors", [])
        if self.foreign:
            self.repository = package.get("repository")

    def texts(self):
        files = [path for path in self.folder.iterdir() if path.is_file() and LICENCE_FILE.match(path.name)]
        files += self.folder.glob("third_party/*/LICENSE")
        if self.licence_file:
            files.append(self.folder / self.licence_file)
        return sorted(set(files))


class CLibrary(Part):
    def __init__(self, crate):
        self.name, folder, file, pattern, self.licence, purl = C_LIBRARIES[crate.name]
        self.folder = crate.folder / folder
        match = re.search(pattern, (self.folder / file).read_text())
        if not match:
            sys.exit(f"sbom: {self.folder / file} does not tell the version of {self.name}: correct C_LIBRARIES")
        self.version = ".".join(match.groups())
        self.purl = purl.format(self.version)
        if self.name in CPES:
            self.cpe = CPES[self.name].format(self.version)

    def texts(self):
        # librdkafka has one file with the licences of all that it contains, and the same ones singly.
        whole = self.folder / "LICENSES.txt"
        files = [path for path in self.folder.iterdir() if path.is_file() and LICENCE_FILE.match(path.name)]
        nested = list(self.folder.glob("third_party/*/LICENSE"))
        # zstd may be had under the GPL instead: COPYING is that one.
        return [whole] if whole.exists() else sorted(path for path in files + nested if path.name != "COPYING")


class StandardLibrary(Part):
    name, licence, purl, repository = "rust-std", "MIT OR Apache-2.0", None, "https://github.com/rust-lang/rust"

    def __init__(self):
        self.version = output("rustc", "--version").split()[1]
        self.purl = f"pkg:github/rust-lang/rust@{self.version}"

    @staticmethod
    def notice():
        return pathlib.Path(output("rustc", "--print", "sysroot").strip()) / "share/doc/rust/COPYRIGHT-library.html"


def source_of(name, version):
    home = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
    found = list(home.glob(f"registry/src/*/{name}-{version}"))
    if len(found) != 1:
        sys.exit(f"sbom: the source of {name} {version} is at {len(found)} places below {home}/registry/src")
    return found[0]


def bill(itself, parts, binary):
    component = itself.component() | {
        "type": "application",
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(binary.read_bytes()).hexdigest()}]}
    del component["scope"]
    return json.dumps({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": {"component": component},
        "components": [part.component() for part in parts]}, indent=1) + "\n"


def licences(program, parts):
    used_by, texts = {}, {}
    lines = [f"What is linked into {program}, and its licences. Where there is a choice (OR), choose.", ""]
    for part in parts:
        files = part.texts()
        lines.append(f"{part.name} {part.version}: {part.licence or 'see its text'}"
                     + (f", {part.repository}" if part.repository else ""))
        if not files and isinstance(part, Crate):
            lines.append(f"  (brings no text of it; authors: {', '.join(part.authors) or 'not named'})")
        for file in files:
            text = file.read_text(errors="replace").strip()
            key = " ".join(text.split())
            texts.setdefault(key, text)
            used_by.setdefault(key, []).append(f"{part.name} {part.version}")
    for key, text in texts.items():
        users = ", ".join(dict.fromkeys(used_by[key]))
        lines += ["", "=" * 100, users, "-" * 100, text]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
