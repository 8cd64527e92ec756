"""What Postgres and Kafka have in common here: a detached process that is started, asked, stopped, killed, paused."""

import os
import subprocess
import time

import processes
from processes import wait_until
from ui import Failure, say, tail

START_MAX_S = 90  # recovery after a crash in the middle of a load test, on a busy machine
STOP_MAX_S = 30
GONE_MAX_S = 15  # from SIGKILL until the kernel has let go of everything


class Server:
    """Subclasses say what their process looks like, what it needs, and how to ask it whether it answers."""

    name = title = None
    family = None  # what the command line calls it, and the other nodes of a cluster
    variable = None  # in the env file
    port_names = ()
    stop_signal = processes.TERM

    def __init__(self, instance):
        self.instance = instance
        self.home = instance.folder / self.name
        self.log = instance.folder / f"{self.name}.log"
        self.pid_file = instance.folder / f"{self.name}.pid"

    # For the subclass: is_ours(arguments), is_initialised(), initialise(), configure(), command(), answers().

    @property
    def port(self):
        return self.instance.ports[self.name]

    @property
    def where(self):
        return f"127.0.0.1:{self.port}"

    def pid(self):
        """Our process, or None. The pid file is a shortcut: where it is wrong, all processes are looked through."""
        try:
            noted = int(self.pid_file.read_text())
        except (OSError, ValueError):
            noted = None
        if noted and self.is_ours(processes.arguments(noted)):
            return noted
        for pid, _ in processes.everyone():
            if self.is_ours(processes.arguments(pid)):
                return pid
        return None

    def pids(self):
        """Every process of this server, the first among them leading."""
        pid = self.pid()
        return [pid] if pid else []

    def is_paused(self):
        pid = self.pid()
        return bool(pid) and processes.is_paused(pid)

    def start(self, quiet=False):
        """Starts the process and waits until it answers."""
        self.clear_leftovers()
        self.configure()
        since = self.log.stat().st_size if self.log.exists() else 0
        began = time.monotonic()
        command, options = self.command()
        with open(self.log, "ab") as output:
            child = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output,
                                     stderr=subprocess.STDOUT, start_new_session=True, **options)
        self.pid_file.write_text(f"{child.pid}\n")
        self.await_answer(child, since)
        if not quiet:
            say(f"{self.title} answers on {self.where} ({time.monotonic() - began:.1f} s)")

    def await_answer(self, child=None, since=0):
        def settled():
            return self.answers() or (child is not None and child.poll() is not None)

        in_time = wait_until(settled, START_MAX_S)
        if child is not None and child.poll() is not None:
            problem = f"{self.title} ended at its start (exit code {child.returncode})"
        elif not in_time:
            problem = f"{self.title} runs but does not answer on {self.where} after {START_MAX_S} s"
        else:
            return
        raise Failure(f"{problem}. The end of {self.log}:\n{tail(self.log, since=since)}\n"
                      f"  If its data is beyond repair: stack.py remove --instance {self.instance.name}")

    def outlives_its_start(self):
        """Waits until a process that runs answers. False: it ended before, of a full disk for example."""
        if wait_until(lambda: self.answers() or not self.pid(), START_MAX_S) and not self.pid():
            return False
        self.await_answer()
        return True

    def clear_leftovers(self):
        """Called while no main process runs: ends what a crash left, which would block a start."""
        orphans = self.pids()
        processes.send_all(orphans, processes.KILL)
        self._await_gone(f"a leftover of {self.title}")

    def stop(self, quiet=False):
        """Asks the process to end, and makes it end if it does not in time. Says whether there was one."""
        pid = self.pid()
        if not pid:
            return False
        began = time.monotonic()
        processes.send_all(reversed(self.pids()), processes.CONT)  # a paused process hears nothing
        processes.send(pid, self.stop_signal)
        if not wait_until(lambda: not self.pid(), STOP_MAX_S):
            say(f"{self.title} did not stop within {STOP_MAX_S} s: killing it")
            return self.kill()
        self._forget()
        if not quiet:
            say(f"stopped {self.title} ({time.monotonic() - began:.1f} s)")
        return True

    def kill(self):
        """Ends every process of the server at once, as a crash does. Says whether there was one."""
        pid = self.pid()
        if not pid:
            return False
        processes.send(pid, processes.STOP)  # from here on it begins no new children
        processes.send_all(self.pids(), processes.KILL)
        self._await_gone(self.title)
        self._forget()
        say(f"killed {self.title}")
        return True

    def _await_gone(self, what):
        if not wait_until(lambda: not self.pids(), GONE_MAX_S):
            raise Failure(f"{what} (pid {', '.join(map(str, self.pids()))}) is still there {GONE_MAX_S} s after "
                          "SIGKILL: it waits for the disk; look at dmesg.")

    def _forget(self):
        self.pid_file.unlink(missing_ok=True)

    def pause(self):
        """SIGSTOP, the main process first: it could replace a child in between."""
        processes.send_all(self._running(), processes.STOP)
        processes.send_all(self.pids(), processes.STOP)

    def resume(self):
        """SIGCONT, the main process last: it finds its children awake."""
        processes.send_all(reversed(self._running()), processes.CONT)

    def _running(self):
        found = self.pids()
        if not found:
            raise Failure(f"{self.title} of instance {self.instance.name} does not run: "
                          f"stack.py start {self.name} --instance {self.instance.name}")
        return found


def clean_environment(*prefixes):
    """The environment without the variables that would lead a server astray, such as PGPORT."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(prefixes)}
    return {**kept, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
