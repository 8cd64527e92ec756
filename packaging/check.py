"""check.py ROOT: runs walpost and the package API as their installed units say, in the place of systemd, and carries an event through.

Of a unit it reads ExecStart, Environment, LoadCredential, WorkingDirectory, Type and WatchdogSec. Credentials are files that only the
unit's user reads, `%d` is their folder; NOTIFY_SOCKET is this script's. What systemd itself does (its sandbox, the user that exists
while the unit runs) is not tried here: that needs systemd as the first process.
"""

import contextlib
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request

NOBODY = 65534
DEADLINE_S = 60
root = pathlib.Path(sys.argv[1])


def fail(text):
    sys.exit(f"packaging/check.py: {text}")


class Unit:
    """A service of the root, told what its unit says and how systemd is told."""

    def __init__(self, name, credentials, settings, environment=()):
        self.name, self.process, self.told = name, None, []
        path = next(p for p in (root / "lib/systemd/system", root / "usr/lib/systemd/system")
                    if (p / f"{name}.service").exists()) / f"{name}.service"
        lines = [line.split("=", 1) for line in path.read_text().splitlines() if re.match(r"[A-Z]\w+=", line)]
        self.says = dict(lines)
        if self.says["Type"] != "notify":
            fail(f"{name}: Type={self.says['Type']}")
        folder = root / f"run/credentials/{name}.service"
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in lines:
            if key == "LoadCredential":
                credential, source = value.split(":", 1)
                given = root / source.removeprefix("/")
                given.write_text(credentials[credential])
                given.chmod(0o600)
                (folder / credential).write_bytes(given.read_bytes())
                os.chown(folder / credential, NOBODY, NOBODY)
                (folder / credential).chmod(0o400)
        (root / f"etc/{name}/{name}.toml").write_text(settings)
        variables = dict(value.split("=", 1) for key, value in lines if key == "Environment")
        inside = f"/run/credentials/{name}.service"
        self.environment = {key: value.replace("%d", inside) for key, value in variables.items()}
        self.environment |= {"NOTIFY_SOCKET": f"/run/{name}.notify", "PATH": "/usr/bin:/bin"} | dict(environment)
        self.environment["WATCHDOG_USEC"] = str(int(self.says["WatchdogSec"]) * 1_000_000)
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        at = root / f"run/{name}.notify"
        at.unlink(missing_ok=True)
        self.listening.bind(str(at))
        os.chown(at, NOBODY, NOBODY)

    def command(self, words, **options):
        inside = ["chroot", f"--userspec={NOBODY}:{NOBODY}", str(root), "/usr/bin/env", "-i",
                  f"--chdir={self.says.get('WorkingDirectory', '/')}",
                  *(f"{key}={value}" for key, value in self.environment.items()), *words]
        return subprocess.Popen(inside, **options)

    def once(self, *arguments):
        process = self.command([f"/usr/bin/{self.name}", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said, _ = process.communicate(timeout=DEADLINE_S)
        if process.returncode != 0:
            fail(f"{self.name} {' '.join(arguments)} ended with {process.returncode}:\n{said}")
        return said

    def start(self):
        self.log = open(root / f"var/log/{self.name}.log", "wb")
        self.process = self.command(shlex.split(self.says["ExecStart"]), stdout=self.log, stderr=self.log)

    def hear(self, what, within=DEADLINE_S):
        """Waits until systemd would have been told so."""
        until = time.monotonic() + within
        while not any(what in told for told in self.told):
            if self.process.poll() is not None or time.monotonic() > until:
                log = (root / f"var/log/{self.name}.log").read_text(errors="replace")
                fail(f"{self.name} has not said {what} ({self.told}):\n{log[-4000:]}")
            self.listening.settimeout(1)
            with contextlib.suppress(TimeoutError):
                self.told += self.listening.recv(65536).decode().splitlines()

    def stop(self):
        self.told.clear()
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        # env and chroot have become the program, so this is its own exit code.
        code = self.process.wait(timeout=int(self.says["TimeoutStopSec"]))
        self.listening.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            while True:
                self.told += self.listening.recv(65536).decode().splitlines()
        if code != 0 or "STOPPING=1" not in self.told:
            fail(f"{self.name} ended with {code}, and said {self.told}")
        return time.monotonic() - begun


def ask(port, path, body=None, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body and json.dumps(body).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def servers():
    shown = subprocess.run(["python3", "dev/stack/stack.py", "env"], check=True, capture_output=True, text=True).stdout
    return dict(re.findall(r"export (\w+)=(\S+)", shown))


def main():
    given = servers()
    name = f"packaged_{os.getpid()}"
    url = re.sub(r"/[^/?]+($|\?)", f"/{name}\\1", given["DATABASE_URL"])
    psql = next(pathlib.Path(".dev/fetched").glob("postgres-18*/**/bin/psql"))
    sql = lambda text: subprocess.run([psql, "-qX", "-v", "ON_ERROR_STOP=1", given["DATABASE_URL"], "-c", text], check=True)
    sql(f"create database {name}")
    ports = {what: free_port() for what in ("grpc", "rest", "status", "metrics", "http")}
    api = Unit("logistic-package-api", {"database-url": url}, "".join(
        f'{what}_addr = "127.0.0.1:{ports[what]}"\n' for what in ("grpc", "rest", "status", "metrics")))
    relay = Unit("walpost", {"database-url": url}, f'''
preset = "package-event"
kafka_brokers = "{given["KAFKA_BROKERS"]}"
http_addr = "127.0.0.1:{ports["http"]}"
slot = "{name}"
publication = "{name}"
topic = "{name}"
tail_topics = "{name}"

[create_topics]
"{name}" = {{ partitions = 2, replication = 1 }}
''')
    try:
        api.start()
        api.hear("READY=1")
        relay.once("init")
        relay.start()
        relay.hear("READY=1")
        relay.hear("STATUS=streaming")
        ask(ports["rest"], "/v1/packages", {"Title": "box", "Material": "card", "MaximumVolume": 7.5}, **{"content-type": "application/json"})
        until = time.monotonic() + DEADLINE_S
        while '"box"' not in (shown := relay.once("tail", "--from-start", "--until-end", "--json")):
            if time.monotonic() > until:
                fail(f"the event has not arrived: {shown}")
            time.sleep(0.2)
        for unit in (relay, api):
            unit.told.clear()
            unit.hear("WATCHDOG=1")
            print(f"{unit.name}: ready, watched, and stopped by SIGTERM in {unit.stop():.1f} s")
    finally:
        for unit in (relay, api):
            if unit.process and unit.process.poll() is None:
                unit.process.kill()
        sql(f"select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '{name}' and not active")
        sql(f"drop database {name} with (force)")
    print("an event went from REST to Kafka through both units")


main()
