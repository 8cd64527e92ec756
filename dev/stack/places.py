"""Where things live, and as whom Postgres runs.

    <state>/fetched/      PostgreSQL, Kafka's jars, Java: complete folders only, each renamed into place
    <state>/instances/N/  one pair of servers: data, logs, ports, password, `env`
    <state>/locks/        outside of the instances, so that removing one does not remove its lock
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import stat
import time
from pathlib import Path

from ui import Failure, say

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
LOCK_WAIT_S = 600  # longer than a slow first fetch
TELL_AFTER_S = 0.5


def server_user():
    """The account Postgres runs under: it refuses root. None: the caller's own."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Failure("Postgres refuses to run as root, and there is neither a user `postgres` nor `nobody`: "
                  "make one (useradd --system postgres) or run this as a plain user.")


def state_dir(announce=False):
    """$WALPOST_DEV_DIR, else <repo>/.dev; as root, a place its unprivileged Postgres can reach."""
    chosen = os.environ.get("WALPOST_DEV_DIR")
    state = Path(chosen).expanduser().absolute() if chosen else REPO / ".dev"
    user = server_user()
    blocked = user and _closed_ancestor(state, user)
    if not blocked:
        return state
    elsewhere = Path("/var/tmp/walpost-dev-" + hashlib.sha256(str(state).encode()).hexdigest()[:12])
    if announce:
        say(f"{blocked} is closed to user {user.pw_name}, whom Postgres runs as: using {elsewhere}")
    _refuse_foreign(elsewhere)
    return elsewhere


def _closed_ancestor(path, user):
    """The first existing folder on the way to `path` that `user` may not enter."""
    for folder in [*reversed(path.parents), path]:
        try:
            info = folder.stat()
        except FileNotFoundError:
            return None
        if info.st_uid == user.pw_uid:
            may_enter = info.st_mode & stat.S_IXUSR
        elif info.st_gid == user.pw_gid:
            may_enter = info.st_mode & stat.S_IXGRP
        else:
            may_enter = info.st_mode & stat.S_IXOTH
        if not may_enter:
            return folder
    return None


def _refuse_foreign(folder):
    """/var/tmp is open to all and the name can be guessed: never follow what another user put there."""
    try:
        info = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise Failure(f"{folder} belongs to another user: remove it, or set WALPOST_DEV_DIR to a folder of yours "
                      "that every user can enter.")


@contextlib.contextmanager
def locked(state, name):
    """Holds <state>/locks/<name>. The kernel drops it with the process, so a crash leaves nothing behind."""
    folder = state / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w") as handle:
        began, told = time.monotonic(), False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - began
                if not told and waited > TELL_AFTER_S:
                    say(f"waiting: {name} is being worked on")
                    told = True
                if waited > LOCK_WAIT_S:
                    raise Failure(f"another stack.py has held {folder / name} for {LOCK_WAIT_S} s: end it, "
                                  "then try again.")
                time.sleep(0.05)
        yield


def write_private(path, text):
    """Replaces a file that holds a secret in one step, readable by its owner alone."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
    os.replace(fresh, path)
