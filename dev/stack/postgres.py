"""PostgreSQL: one cluster per instance, over TCP on loopback only, with a password of its own."""

import os
import secrets
import shutil
import subprocess

import fetch
import processes
from places import server_user, write_private
from server import Server, clean_environment
from ui import Failure

DATABASE = "logistic_package_api"
ASK_MAX_S = 3
STANDBY_SLOT = "standby"
OWN_LOCALE_SINCE = 17

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # No socket file: its path may hold 107 bytes at most, and a state dir can be deeper than that.
    "unix_socket_directories": "",
    "wal_level": "logical",
    # Tests run side by side, each with its slots and its relays.
    "max_wal_senders": "100",
    "max_replication_slots": "100",
    "max_connections": "400",
    "fsync": "on",
    "wal_sender_timeout": "60s",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %a ",
    "timezone": "UTC",
}


class Postgres(Server):
    name, title = "postgres", "Postgres"
    family, variable = "postgres", "DATABASE_URL"
    port_names = ("postgres",)
    stop_signal = processes.INT  # fast shutdown: sessions are ended, a checkpoint is made

    def __init__(self, instance):
        super().__init__(instance)
        self.data = self.home / "data"
        self.password_file = instance.folder / "password"
        self.primary = None  # another instance's Postgres, whose standby this is to be

    @property
    def url(self):
        password = self.password_file.read_text().strip()
        return f"postgres://postgres:{password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def version(self):
        return self.instance.versions["postgres"]

    def fetch(self):
        """The server, and the newest's client programs, which serve for every version."""
        fetch.postgres(self.instance.state)
        return fetch.postgres(self.instance.state, self.version)

    def _program(self, name):
        return self.fetch() / "bin" / name

    def _client(self, name):
        return fetch.postgres(self.instance.state) / "bin" / name

    def is_ours(self, arguments):
        if not arguments or os.path.basename(arguments[0]) != "postgres":
            return False
        return arguments[1:2] == ["-D"] and len(arguments) > 2 and processes.is_path(arguments[2], self.data)

    def pids(self):
        """The postmaster and its children. A child of a killed postmaster is known by its working folder."""
        main = self.pid()
        data = os.path.realpath(self.data)
        rest = [pid for pid, parent in processes.everyone()
                if pid != main and self._is_child(pid, parent, main, data)]
        return ([main] if main else []) + rest

    @staticmethod
    def _is_child(pid, parent, main, data):
        if main and parent == main:
            return True
        return processes.folder_of(pid) == data and processes.arguments(pid)[:1] and \
            processes.arguments(pid)[0].startswith("postgres:")

    def is_initialised(self):
        return self.data.is_dir()

    def initialise(self):
        """Makes the cluster and its database under another name; renamed when whole, so a cut never leaves a half."""
        fresh = self.home / "data.partial"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        if self.primary:
            self._copy_primary(fresh)
        else:
            self._make_cluster(fresh)
        fresh.rename(self.data)

    def _copy_primary(self, fresh):
        """A standby streams from the slot `standby`. Its roles and passwords are those of the primary."""
        password = self.primary.password_file.read_text()
        write_private(self.password_file, password)
        user = server_user()
        if user:
            os.chown(fresh, user.pw_uid, user.pw_gid)
            fresh.chmod(0o700)
        primary = f"host=127.0.0.1 port={self.primary.port} user=postgres"
        self._run_once([self._client("pg_basebackup"), "-D", fresh, "-d", primary, "--create-slot",
                        f"--slot={STANDBY_SLOT}", "--checkpoint=fast", "--no-sync"],
                       PGPASSWORD=password.strip())
        # Written here, since pg_basebackup would note every option that its own version knows, and a standby of an
        # older version refuses one that it does not. By way of the database a standby copies logical slots.
        conninfo = f"{primary} password={password.strip()} dbname={DATABASE}"
        with open(fresh / "postgresql.auto.conf", "a") as conf:
            conf.write(f"primary_conninfo = '{conninfo}'\nprimary_slot_name = '{STANDBY_SLOT}'\n")
        signal = fresh / "standby.signal"
        signal.touch()
        if user:
            os.chown(signal, user.pw_uid, user.pw_gid)

    def _make_cluster(self, fresh):
        if not self.password_file.exists():
            write_private(self.password_file, secrets.token_hex(16) + "\n")
        handed = self.home / "password.partial"
        write_private(handed, self.password_file.read_text())
        user = server_user()
        if user:
            os.chown(fresh, user.pw_uid, user.pw_gid)
            os.chown(handed, user.pw_uid, user.pw_gid)
        self._run_once([self._program("initdb"), "-D", fresh, "-U", "postgres", f"--pwfile={handed}",
                        "--auth=scram-sha-256", "--encoding=UTF8", *self._locale(), "--no-sync", "--no-instructions"])
        handed.unlink()
        # A single-user server needs neither port nor password.
        self._run_once([self._program("postgres"), "--single", "-D", fresh, "postgres"],
                       typed=f"CREATE DATABASE {DATABASE};\n")
        with open(fresh / "postgresql.conf", "a") as conf:
            conf.write("\ninclude 'walpost-dev.conf'  # written anew by stack.py before each start\n")

    def _locale(self):
        """Postgres's own, where it has one: the same order on every machine, whatever that has installed."""
        own = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return ["--locale=C", *(own if int(self.version) >= OWN_LOCALE_SINCE else [])]

    def configure(self):
        # No postmaster of ours runs (the caller looked). If the number in its file belongs to another
        # process by now, Postgres would refuse to start.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        settings = {**SETTINGS, "port": str(self.port), **self.instance.pg_settings}
        lines = (f"{name} = '{_escaped(value)}'\n" for name, value in settings.items())
        (self.data / "walpost-dev.conf").write_text("".join(lines))

    def command(self):
        return [self._program("postgres"), "-D", self.data], self._as_server()

    def _as_server(self):
        # cwd: the caller's may be closed to the user Postgres runs as.
        options = {"cwd": "/", "env": clean_environment("PG")}
        user = server_user()
        if user:
            options.update(user=user.pw_uid, group=user.pw_gid, extra_groups=[])
        return options

    def _run_once(self, command, typed="", **variables):
        options = self._as_server()
        options["env"].update(variables)
        run = subprocess.run([str(part) for part in command], input=typed, text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, **options)
        if run.returncode != 0 or "ERROR:" in run.stdout:
            raise Failure(f"{command[0].name} could not make a database cluster in {self.home}: free space there, or "
                          f"choose another folder with WALPOST_DEV_DIR. It said:\n{run.stdout.strip()}")

    def answers(self):
        ask = [str(self._client("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", str(ASK_MAX_S)]
        return subprocess.run(ask, env=clean_environment("PG"), stderr=subprocess.DEVNULL).returncode == 0


def _escaped(value):
    return value.replace("\\", "\\\\").replace("'", "''")
