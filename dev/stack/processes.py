"""Finding our servers among the machine's processes.

A number in a file proves nothing: the process may be gone and the number reused. So a process counts as ours only if
its command line says so. Linux tells through /proc, other systems through ps.
"""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

PROC = Path("/proc")
LINUX = (PROC / "self" / "cmdline").exists()


def arguments(pid):
    """The command line; empty where there is no such process or only its unreaped rest (a zombie)."""
    if LINUX:
        try:
            raw = (PROC / str(pid) / "cmdline").read_bytes()
        except OSError:
            return []
        return raw.decode("utf-8", "replace").rstrip("\0").split("\0") if raw else []
    run = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
    return run.stdout.split()


def is_path(argument, path):
    """Whether an argument is that path. A state dir has more than one name where a link leads to it, and a server that
    is not known by another of its names would be taken for what a crash left."""
    return os.path.realpath(argument) == os.path.realpath(path)


def everyone():
    """(pid, parent's pid) of every process."""
    if not LINUX:
        run = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True)
        return [tuple(map(int, line.split())) for line in run.stdout.splitlines()]
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            # A process may end while we read of it.
            with contextlib.suppress(OSError):
                found.append((int(entry.name), int(_stat(entry.name)[1])))
    return found


def is_paused(pid):
    if LINUX:
        with contextlib.suppress(OSError):
            return _stat(pid)[0] == "T"
        return False
    run = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True)
    return run.stdout.startswith("T")


def _stat(pid):
    """State, parent and more: the fields after the name, which is in parentheses and may itself contain any."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def folder_of(pid):
    """The process's working folder, where the system tells."""
    try:
        return os.readlink(PROC / str(pid) / "cwd")
    except OSError:
        return None


def send(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def send_all(pids, number):
    for pid in pids:
        send(pid, number)


def wait_until(condition, seconds):
    """Polls `condition` until it holds. False: the time ran out first."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


KILL, CONT, STOP, TERM, INT = signal.SIGKILL, signal.SIGCONT, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT
