#!/usr/bin/env python3
"""The tests of promises (the relay's and the server's integration tests) over versions of PostgreSQL and Kafka.

The oldest of both and the newest of both, or with --all each with each. PG or KAFKA in the environment leaves that
version alone. One line tells how each pair went; what was printed meanwhile is kept in a log.
"""

import sys

sys.dont_write_bytecode = True  # nothing is left beside the sources

import argparse  # noqa: E402
import itertools  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402
import textwrap  # noqa: E402
import time  # noqa: E402

import versions  # noqa: E402
from places import HERE, REPO, state_dir  # noqa: E402
from ui import Failure  # noqa: E402

TESTS = ("cargo", "test", "--locked", "--no-fail-fast", "-p", "walpost", "-p", "logistic-package-api", "--test", "it")
RESULT = re.compile(r"^test result: .*?(\d+) passed; (\d+) failed; (\d+) ignored", re.MULTILINE)
FAILED = re.compile(r"^test (\S+) \.\.\. FAILED$", re.MULTILINE)
SAID = re.compile(r"^---- (\S+) stdout ----\n((?:(?!---- |failures:).*\n){0,30})", re.MULTILINE)
MANY = 5


def pairs(each_with_each):
    """Dicts of a version per family."""
    asked = versions.asked()
    known = {family: [asked[family]] if family in asked else list(found) for family, found in versions.KNOWN.items()}
    chosen = itertools.product(*known.values()) if each_with_each else zip(*([found[0], found[-1]] for found in
                                                                             known.values()))
    return [dict(zip(known, pair)) for pair in dict.fromkeys(chosen)]


def run(pair, only):
    """Runs the tests over one pair and says in a line how they went. True: they passed."""
    title = ", ".join(f"{versions.TITLES[family]} {version}" for family, version in pair.items())
    log = state_dir() / "matrix" / f"{'-'.join(f'{family}-{version}' for family, version in pair.items())}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = _environment(pair)
    began = time.monotonic()
    with open(log, "w") as output:
        passed = all(_runs(command, environment, output) for command in
                     ((sys.executable, HERE / "stack.py", "up"), (*TESTS, "--", *only)))
        output.flush()
        failed = FAILED.findall(log.read_text())
        # A machine that stands still for seconds is no fault of the change. A test that fails twice is.
        again = not passed and 0 < len(failed) <= MANY and _runs(
            (*TESTS, "--", "--exact", "--test-threads=1", *failed), environment, output)
        # The newest are those that a developer works with: they stay up.
        if pair != versions.NEWEST:
            _runs((sys.executable, HERE / "stack.py", "down"), environment, output)
    text = log.read_text()
    counts = [sum(map(int, column)) for column in zip(*RESULT.findall(text))] or [0, 0, 0]
    passed = (passed or again) and counts[0] > 0  # a filter that nothing fits proves nothing
    print(f"{'passed' if passed else 'FAILED'}  {title}: {counts[0]} passed, {counts[1]} failed, {counts[2]} ignored "
          f"in {time.monotonic() - began:.0f} s  {log}", flush=True)
    if failed and again:
        print("FAILED BESIDE OTHERS AND PASSED ALONE, each wants a look:", flush=True)
    for name, said in SAID.findall(text):
        print(f"        {name}\n{textwrap.indent(said.strip(), ' ' * 12)}", flush=True)
    return passed


def _environment(pair):
    """Servers that the environment names have the version that they have."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "KAFKA_BROKERS")}
    return {**kept, **{versions.VARIABLES[family]: version for family, version in pair.items()}}


def _runs(command, environment, output):
    return subprocess.run(command, cwd=REPO, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                          stderr=subprocess.STDOUT).returncode == 0


def main():
    parser = argparse.ArgumentParser(prog="matrix.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="each PostgreSQL with each Kafka")
    parser.add_argument("only", nargs="*", metavar="TEST", help="a part of a test's name, such as recover::")
    options = parser.parse_args()
    try:
        chosen = pairs(options.all)
        if subprocess.run([*TESTS, "--no-run"], cwd=REPO).returncode != 0:
            raise Failure("the tests do not build: see above")
        results = [run(pair, options.only) for pair in chosen]
    except Failure as failure:
        sys.exit(f"matrix.py: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
