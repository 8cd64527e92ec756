#!/usr/bin/env python3
"""Real PostgreSQL and Apache Kafka on loopback for development and tests, without containers or root.

Python and pip are all it needs: the servers are fetched once into the state dir ($WALPOST_DEV_DIR, else .dev in the
repository). `up` starts what does not run and writes a file that a shell can source: . .dev/instances/dev/env

PG and KAFKA in the environment choose versions for new instances: PG=14 KAFKA=3.9. {known}
The default instance of other versions than the newest has its own name, such as dev-pg14-kafka3.9.
"""

import sys

sys.dont_write_bytecode = True  # nothing is left beside the sources

import argparse  # noqa: E402
import os  # noqa: E402

import commands  # noqa: E402
import versions  # noqa: E402
from instance import SERVERS, default_name  # noqa: E402
from ui import Failure  # noqa: E402


def parser():
    top = argparse.ArgumentParser(prog="stack.py", description=__doc__.format(known=_known()),
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, text):
        command = sub.add_parser(name, help=text, description=text)
        command.set_defaults(run=getattr(commands, name.replace("-", "_")))
        return command

    up = _named(add("up", "fetch once, start what does not run, wait until it answers, write the env file"))
    up.add_argument("--only", choices=SERVERS, help="this server alone")
    up.add_argument("--private", action="store_true",
                    help="own servers even if DATABASE_URL or KAFKA_BROKERS are set in the environment")
    up.add_argument("--pg-set", action="append", default=[], metavar="NAME=VALUE",
                    help="a Postgres setting for this instance, kept; NAME= drops it again; repeatable")
    up.add_argument("--kafka-set", action="append", default=[], metavar="NAME=VALUE",
                    help="a property of Kafka for this instance, kept, used from its next start on; {broker} and "
                         "{controller} stand for its ports; N:NAME=VALUE is for broker N alone, 100:NAME=VALUE for the "
                         "controller beside three; NAME= drops it again; repeatable")
    up.add_argument("--brokers", type=int, choices=(1, 3),
                    help="how many brokers Kafka has: 3 have a controller beside them, three replicas of each topic, and "
                         "min.insync.replicas=2; for a new instance")
    up.add_argument("--standby-of", metavar="INSTANCE",
                    help="Postgres is made as a physical standby of that running instance's, with a slot there named "
                         "standby; promote it to fail over")
    up.add_argument("--disk-mb", type=int, metavar="N",
                    help="each new server has a disk of its own of so many megabytes, which `fill` fills; for root")
    for name, text in (
        ("down", "stop the servers, keep their data"),
        ("remove", "stop the servers, delete their data"),
    ):
        _named(add(name, text)).add_argument("--all", action="store_true", help="every instance")
    for name, text in (
        ("start", "start a server on the port and with the data it had, wait until it answers"),
        ("stop", "stop a server gracefully, wait until it is gone"),
        ("restart", "stop, then start"),
        ("kill", "end a server as a crash would (SIGKILL to all its processes)"),
        ("pause", "freeze all processes of a server (SIGSTOP)"),
        ("resume", "let a paused server go on (SIGCONT)"),
        ("fill", "fill up the small disk of a server"),
        ("free", "make room on it again"),
    ):
        one = _named(add(name, text))
        one.add_argument("server", choices=SERVERS)
        one.add_argument("--broker", type=int, metavar="N", help="this broker of a cluster alone; else all, one by one")
    add("disks", "whether --disk-mb is possible here: it fails where not, and says why")
    _named(add("status", "what runs where"), default=False)
    _named(add("env", "print the env file"))
    tool = _named(add("tool", "run one of Kafka's own tools against an instance, by its class, such as "
                              "org.apache.kafka.tools.TopicCommand"))
    tool.add_argument("tool", metavar="CLASS")
    tool.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments; it is told where the brokers are")
    add("bin", "print the path of a bundled program, such as psql, pg_recvlogical or redis-server").add_argument("name")
    add("debezium", "fetch Debezium's connector for Postgres, print what starts Kafka Connect with it: JAVA, CLASS_PATH and "
                    "PLUGIN_PATH")
    add("debezium-server", "fetch Debezium Server (780 MB), for a benchmark, print what starts it: JAVA, FOLDER and VERSION")
    add("registry-clients", "fetch Confluent's Python clients, print what finds them: PYTHON and PYTHONPATH")
    add("versions", "print the exact versions of the servers that are chosen by PG and KAFKA")
    add("fetch", "fetch what is needed, start nothing").add_argument("--only", choices=SERVERS)
    add("clean", "stop and delete everything in the state dir, fetched files too")
    return top


def _known():
    return "; ".join(f"{variable} is one of {', '.join(versions.KNOWN[family])}"
                     for family, variable in versions.VARIABLES.items()) + "."


def _named(command, default=True):
    name = default_name() if default else None
    command.add_argument("--instance", default=name, metavar="NAME", help=f"default: {name or 'all'}")
    return command


def main():
    os.umask(0o022)  # as root, another user must be able to read what was fetched
    try:
        options = parser().parse_args()
        options.run(options)
    except Failure as failure:
        sys.exit(f"stack.py: {failure}")
    except OSError as error:
        sys.exit(f"stack.py: {error}: check who owns that path and whether the disk is full.")
    except KeyboardInterrupt:
        sys.stderr.write("stack.py: interrupted; the same command takes up where this one ended.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
