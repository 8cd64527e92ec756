#!/usr/bin/env python3
"""Tries the tests that failed in a log of `cargo test --no-fail-fast` once more, alone.

A machine that stands still for seconds is no fault of the change. A test that fails twice is; one that passes now is named,
since it may be a rare fault all the same. Where many have failed nothing is tried: that is no chance.
"""

import re
import subprocess
import sys

MANY = 5
# Both are printed by cargo and libtest at the end of a line of their own.
FAILED_TEST = re.compile(r"^test (\S+) \.\.\. FAILED$", re.MULTILINE)
FAILED_TARGET = re.compile(r"^    `-p \S+ (--\S+(?: \S+)?)`$", re.MULTILINE)


def main(log: str) -> int:
    with open(log, encoding="utf-8", errors="replace") as file:
        text = file.read()
    tests, targets = sorted(set(FAILED_TEST.findall(text))), sorted(set(FAILED_TARGET.findall(text)))
    if not targets or not 0 < len(tests) <= MANY:
        print(f"not tried again: {len(tests)} tests have failed in {len(targets)} targets")
        return 1
    for target in targets:
        # Of one package alone the dependencies have other features, and are built anew.
        command = ["cargo", "test", "--workspace", *target.split(), "--", "--exact", "--test-threads=1", *tests]
        print("+", " ".join(command), flush=True)
        if subprocess.run(command, check=False).returncode != 0:
            return 1
    print("FAILED BESIDE OTHERS AND PASSED ALONE, each wants a look:", *tests, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
