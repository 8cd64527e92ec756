"""Apache Kafka: one KRaft node per instance that is broker and controller, or several (cluster.py); loopback only."""

import base64
import contextlib
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import uuid
from types import SimpleNamespace

import fetch
import processes
from server import Server, clean_environment
from ui import Failure, say

ASK_MAX_S = 3
API_VERSIONS = 18  # the one request that every broker answers, whatever the client's age

# Quick to start rather than fastest in the long run: the first compiler alone halves the processor time of a start.
# A benchmark may want the second: WALPOST_DEV_KAFKA_OPTS=-XX:TieredStopAtLevel=4
JVM = ["-XX:TieredStopAtLevel=1", "-Xms128m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError",
       "-Djava.awt.headless=true"]

ROLE = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
"""

PROPERTIES = """\
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={data}
log.preallocate=false
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
# 128 MB by default, a quarter of this heap.
log.cleaner.dedupe.buffer.size=8388608
# A killed broker may not register again before its session has ended: by default 9 s.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""

LOG4J2 = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c)%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
"""

# What Kafka 3 logs with.
LOG4J1 = """\
log4j.rootLogger = INFO, out
log4j.appender.out = org.apache.log4j.ConsoleAppender
log4j.appender.out.layout = org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern = %d{ISO8601} %p %m (%c)%n
"""

# A tool that has another class up to 3.9.
TOOLS_OF_3 = {"org.apache.kafka.tools.AclCommand": "kafka.admin.AclCommand"}

LOGGING = {"3": ("log4j.configuration", LOG4J1), "4": ("log4j2.configurationFile", LOG4J2)}


class Kafka(Server):
    name, title = "kafka", "Kafka"
    family, variable = "kafka", "KAFKA_BROKERS"
    port_names = ("kafka", "controller")
    node_id, replicas, in_sync, heap_mb = 1, 1, 1, 512
    role = ROLE

    def __init__(self, instance):
        super().__init__(instance)
        self.data = self.home / "data"
        self.properties = self.home / "server.properties"
        self.logging = self.home / "logging.properties"
        self.jvm = None  # instead of the archive, where that is still to be made

    @property
    def url(self):
        return self.where

    @property
    def version(self):
        return self.instance.versions["kafka"]

    def _jars(self):
        return fetch.kafka(self.instance.state, self.version)

    def fetch(self):
        """Also prepares the archive of loaded classes, from a first run of Kafka in a folder that is thrown away."""
        self._jars()
        fetch.once(self.instance.state, self._archive().parent.name, "Kafka's classes for quick starts", self._rehearse,
                   verb="prepar")

    def _archive(self):
        """Java's archive of the classes Kafka loads: with it a start takes half the time. Good for one Java only."""
        java = os.path.realpath(fetch.java(self.instance.state))
        key = hashlib.sha256(f"{java} {os.stat(java).st_mtime_ns}".encode()).hexdigest()[:8]
        jars = self._jars()
        return jars.with_name(f"{jars.name}-classes-{key}") / "classes.jsa"

    def _rehearse(self, folder):
        with free_port() as broker, free_port() as controller:
            ports = {"kafka": broker, "controller": controller}
        trial = Kafka(SimpleNamespace(state=self.instance.state, name="rehearsal", folder=folder, ports=ports,
                                      kafka_settings={}, versions=self.instance.versions))
        trial.jvm = [f"-XX:ArchiveClassesAtExit={folder / self._archive().name}"]
        try:
            trial.initialise()
            trial.start(quiet=True)
        except Failure as failure:
            # Only speed is lost; and if Kafka cannot run here at all, its real start tells it better.
            say(f"no archive of Kafka's classes, so it will start more slowly: {failure}")
        trial.stop(quiet=True)
        shutil.rmtree(trial.home, ignore_errors=True)

    def is_ours(self, arguments):
        return arguments[-2:-1] == ["kafka.Kafka"] and processes.is_path(arguments[-1], self.properties)

    def is_initialised(self):
        return self.data.is_dir()

    def initialise(self):
        """Formats the storage under another name; renamed when whole."""
        fresh = self.home / "data.partial"
        shutil.rmtree(fresh, ignore_errors=True)
        self.home.mkdir(parents=True, exist_ok=True)
        self._write_logging()
        properties = self.home / "format.properties"
        properties.write_text(self._rendered(fresh))
        command = self._java("kafka.tools.StorageTool", "format", "-t", self.cluster_id(),
                             "-c", str(properties), *_scram_users())
        run = subprocess.run(command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, **self._as_server())
        properties.unlink()
        if run.returncode != 0:
            raise Failure(f"Kafka's StorageTool could not format {fresh}: free space there, or choose another folder "
                          f"with WALPOST_DEV_DIR. It said:\n{run.stdout.strip()[-2000:]}")
        fresh.rename(self.data)

    def cluster_id(self):
        return new_cluster_id()

    def configure(self):
        self._write_logging()
        self.properties.write_text(self._rendered(self.data))

    def _write_logging(self):
        self.logging.write_text(self._log4j()[1])

    def _log4j(self):
        """The property that names the file, and what that holds."""
        return LOGGING[self.version.partition(".")[0]]

    def _rendered(self, data):
        ports = self.instance.ports
        # A later line wins over an earlier one of the same name.
        added = "".join(f"{name}={value}\n" for name, value in self._own_settings())
        return (self.role + PROPERTIES + added).format(
            broker=ports.get(self.name), controller=ports["controller"], data=data, node=self.node_id,
            replicas=self.replicas, in_sync=self.in_sync)

    def _own_settings(self):
        """Those of the instance, and those that name this node: 2:listeners=..."""
        for name, value in self.instance.kafka_settings.items():
            node, colon, rest = name.rpartition(":")
            if not colon or node == str(self.node_id):
                yield rest, value

    def command(self):
        extra = os.environ.get("WALPOST_DEV_KAFKA_OPTS", "").split()
        return self._java(*(self.jvm or []), *extra, "kafka.Kafka", str(self.properties)), self._as_server()

    def _java(self, *rest):
        jars = self._jars()
        options = [part for part in rest if part.startswith(("-X", "-D"))]
        # A Java that finds the archive missing or not its own goes on without it.
        quick = [] if self.jvm else [f"-XX:SharedArchiveFile={self._archive()}", "-Xlog:cds=off",
                                     "-Xlog:cds+dynamic=off"]
        return [fetch.java(self.instance.state), *JVM, f"-Xmx{self.heap_mb}m", *quick, *options,
                f"-D{self._log4j()[0]}={self.logging.as_uri()}",
                "-cp", f"{jars}/jars/*{os.pathsep}{jars}/modules/*", *rest[len(options):]]

    def tool(self, name, arguments):
        """Runs one of Kafka's own tools. What it says is passed on; how it fails, too."""
        if self.version.startswith("3."):
            name = TOOLS_OF_3.get(name, name)
        command = self._java(name, "--bootstrap-server", self.instance.own_urls()["KAFKA_BROKERS"],
                             *arguments)
        run = subprocess.run(command, text=True, stdin=subprocess.DEVNULL, **self._as_server())
        if run.returncode != 0:
            raise Failure(f"{name} {' '.join(arguments)} failed ({run.returncode}): see above")

    @staticmethod
    def _as_server():
        return {"cwd": "/", "env": clean_environment("KAFKA_", "CLASSPATH", "LOG_DIR")}

    def answers(self):
        """An ApiVersions request, version 0. The port opens only after the broker is registered and unfenced."""
        client = b"stack.py"
        request = struct.pack(f">hhih{len(client)}s", API_VERSIONS, 0, 7, len(client), client)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=ASK_MAX_S) as connection:
                connection.sendall(struct.pack(">i", len(request)) + request)
                _, echoed, error = struct.unpack(">iih", connection.recv(10, socket.MSG_WAITALL))
        except (OSError, struct.error):
            return False
        return echoed == 7 and error == 0


def _scram_users():
    """Users that exist from the start: WALPOST_DEV_KAFKA_USERS=name:password,... For tests on loopback: the format
    tool takes passwords as arguments only."""
    users = [user.partition(":") for user in os.environ.get("WALPOST_DEV_KAFKA_USERS", "").split(",") if user]
    return [part for name, _, password in users
            for part in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")]


@contextlib.contextmanager
def free_port():
    """A port nobody else is given while this is open."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


def new_cluster_id():
    """Kafka's notation of a UUID. One that begins with `-` would be taken for a flag."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
