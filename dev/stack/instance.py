"""One named pair of servers: its versions, its ports, its settings, its `env` file."""

import json
import random
import re
import shlex
import shutil
import socket
from pathlib import Path

import cluster
import disk
import versions
from kafka import Kafka, new_cluster_id
from places import locked, write_private
from postgres import Postgres
from ui import Failure, say

DEFAULT = "dev"  # of the newest versions; others have their own: default_name()
PREFERRED = {"postgres": 15432, "kafka": 19092, "controller": 19093}
# Below the range the kernel gives to outgoing connections. In that range a client that keeps asking for the port of a
# stopped server is sooner or later given this very port, is connected to itself, and the server cannot come back.
PORT_RANGE = (20000, 32000)
SERVERS = ("postgres", "kafka")


class Instance:
    def __init__(self, state, name):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", name):
            raise Failure(f"{name!r} is no name for an instance: letters, digits, - _ . only, 40 at most.")
        self.state, self.name = state, name
        self.folder = state / "instances" / name
        self.env_file = self.folder / "env"
        self._note = self.folder / "instance.json"
        self.postgres, self.kafka = Postgres(self), Kafka(self)
        self.reload()

    def reload(self):
        """Reads what is noted: anew once the lock is held, since another stack.py may just have chosen ports."""
        noted = _read_json(self._note)
        self.ports = noted.get("ports", {})
        self.pg_settings = noted.get("pg_settings", {})
        self.kafka_settings = noted.get("kafka_settings", {})
        self.brokers = noted.get("brokers", 1)
        self.versions = noted.get("versions", versions.NEWEST) if noted else versions.chosen()
        self.cluster_id = noted.get("cluster_id") or new_cluster_id()

    @property
    def servers(self):
        return [self.postgres, *(cluster.nodes(self) if self.brokers > 1 else [self.kafka])]

    def of_family(self, name):
        return [server for server in self.servers if server.family == name]

    def exists(self):
        return self.folder.is_dir()

    def lock(self):
        return locked(self.state, f"instance-{self.name}")

    def save(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        noted = {"ports": self.ports, "pg_settings": self.pg_settings, "kafka_settings": self.kafka_settings,
                 "brokers": self.brokers, "cluster_id": self.cluster_id, "versions": self.versions}
        write_private(self._note, json.dumps(noted, indent=2) + "\n")

    def choose_ports(self, server):
        """Gives a server that does not run the ports it had, or others where they are unknown or taken."""
        with locked(self.state, "ports"):
            for name in server.port_names:
                had = self.ports.get(name)
                if had and is_free(had):
                    continue
                self.ports[name] = self._free_port(name)
                if had:
                    say(f"port {had} is taken by another process: {server.title} moves to {self.ports[name]}")
            self.save()

    def _free_port(self, name):
        taken = self._ports_of_all()
        wished = [PREFERRED[name]] if self.name == DEFAULT and name in PREFERRED else []
        for port in wished + random.sample(range(*PORT_RANGE), 200):
            if port not in taken and is_free(port):
                return port
        raise Failure(f"no free port found on 127.0.0.1 between {PORT_RANGE[0]} and {PORT_RANGE[1]}: "
                      "stop instances you do not need (stack.py status; stack.py down --instance NAME).")

    def _ports_of_all(self):
        """Also the ports of stopped instances: their clients know them."""
        notes = [_read_json(note) for note in (self.state / "instances").glob("*/instance.json")]
        return {port for note in notes for port in note.get("ports", {}).values()} | set(self.ports.values())

    def write_env(self, urls):
        lines = (f"export {name}={shlex.quote(value)}\n" for name, value in urls.items())
        write_private(self.env_file, "".join(lines))

    def own_urls(self):
        """By variable; that of several brokers names them all."""
        urls = {}
        for server in self.servers:
            if server.variable and server.is_initialised():
                urls.setdefault(server.variable, []).append(server.url)
        return {variable: ",".join(found) for variable, found in urls.items()}

    def remove(self):
        for server in self.servers:
            if server.pids():
                server.kill()
                server.clear_leftovers()
            disk.unmount(server.home)
        shutil.rmtree(self.folder)


def default_name():
    """Versions other than the newest never meet data of these."""
    return DEFAULT + versions.suffix()


def everything(state):
    folders = sorted(path for path in (state / "instances").glob("*") if path.is_dir())
    return [Instance(state, folder.name) for folder in folders]


def is_free(port):
    """Connections in TIME_WAIT do not count (SO_REUSEADDR): the servers are started with it, too."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _read_json(path: Path):
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
