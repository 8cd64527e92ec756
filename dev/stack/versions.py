"""The versions of PostgreSQL and Kafka that are to be had here, and the choice between them: PG and KAFKA.

A version is a property of an instance, from its making on. The newest are what is meant where nothing is said.
"""

import os

from ui import Failure

# Builds on Maven's repository, pinned. They hold the server without its client programs, which those of the newest
# replace. The newest itself comes by pip: requirements.txt pins it.
POSTGRES_BUILDS = {"14": "14.19.0", "15": "15.14.0", "16": "16.10.0", "17": "17.6.0"}
# Of each, kafka-VERSION.txt names every jar, with its version.
KAFKA_LISTS = ("3.9", "4.3")

KNOWN = {"postgres": (*POSTGRES_BUILDS, "18"), "kafka": KAFKA_LISTS}
NEWEST = {family: known[-1] for family, known in KNOWN.items()}
VARIABLES = {"postgres": "PG", "kafka": "KAFKA"}
TITLES = {"postgres": "PostgreSQL", "kafka": "Kafka"}


def asked():
    """What the environment asks for, by family; nothing of a family that it does not name."""
    found = {}
    for family, variable in VARIABLES.items():
        version = os.environ.get(variable)
        if version and version not in KNOWN[family]:
            raise Failure(f"{variable}={version}: there is no such {TITLES[family]} here, only "
                          f"{', '.join(KNOWN[family])}: choose one of these, or unset {variable} for "
                          f"{NEWEST[family]}.")
        if version:
            found[family] = version
    return found


def chosen():
    return {**NEWEST, **asked()}


def suffix():
    """What tells the default instance of these versions from that of the newest: -pg14-kafka3.9, or nothing."""
    return "".join(f"-{VARIABLES[family].lower()}{version}" for family, version in chosen().items()
                   if version != NEWEST[family])
