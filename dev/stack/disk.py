"""A small disk of a server's own, to be filled: a tmpfs in place of the server's folder. Only root may mount one."""

import contextlib
import os
import subprocess
import tempfile

from ui import Failure

FILLER = "filler"
CHUNK = bytes(1 << 20)


def mount(folder, megabytes):
    """For a new server: what is in the folder is hidden."""
    if os.path.ismount(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    _run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)])


def unmount(folder):
    if os.path.ismount(folder):
        # Lazily: whoever still looks at a file there must not keep the instance from being removed.
        _run(["umount", "--lazy", str(folder)])


def try_out(state):
    """Fails where none can be mounted: without root, or in a container."""
    state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=state) as folder:
        _run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder])
        unmount(folder)


def fill(folder):
    """Leaves no room, not for one block. Never on a disk that others use as well."""
    if not os.path.ismount(folder):
        raise Failure(f"{folder} has no disk of its own: stack.py up --disk-mb N makes one, for a new instance.")
    with open(folder / FILLER, "ab", buffering=0) as filler:
        # Most of it at once, which the server may hinder; then what is left.
        with contextlib.suppress(OSError):
            left = os.fstatvfs(filler.fileno())
            os.posix_fallocate(filler.fileno(), 0, max(left.f_bavail * left.f_frsize - len(CHUNK), 1))
            filler.seek(0, os.SEEK_END)
        with contextlib.suppress(OSError):
            while filler.write(CHUNK):
                pass


def free(folder):
    (folder / FILLER).unlink(missing_ok=True)


def _run(command):
    try:
        run = subprocess.run(command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    except FileNotFoundError:
        raise Failure(f"no program {command[0]} here: a small disk cannot be made.") from None
    if run.returncode != 0:
        said = (run.stdout.strip().splitlines() or ["no reason given"])[0]
        raise Failure(f"a small disk cannot be made here ({' '.join(command)}): {said}")
