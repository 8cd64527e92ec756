"""What the operator sees: progress on stderr, and the one kind of error that ends the program politely."""

import sys
import time

_began = time.monotonic()


class Failure(Exception):
    """A foreseeable failure. The text says what happened, to what, and what to do."""


def say(text):
    """One line of progress. On stderr, so that the output of `env` and `bin` stays clean for scripts."""
    print(f"{time.monotonic() - _began:6.1f} s  {text}", file=sys.stderr, flush=True)


def tail(path, lines=15, since=0):
    """The last lines of a log, counted from byte `since`, indented for an error message."""
    try:
        with open(path, "rb") as log:
            log.seek(since)
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return "    (no log)"
    kept = [line for line in text.splitlines() if line.strip()][-lines:]
    return "\n".join("    " + line for line in kept) or "    (the log is empty)"
