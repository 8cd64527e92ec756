"""Servers that the operator brings along: DATABASE_URL and KAFKA_BROKERS in the environment."""

import os
import socket
from urllib.parse import urlsplit

from instance import default_name
from ui import Failure

CONNECT_MAX_S = 5


def urls(instance):
    """The variables that name foreign servers. Only the default instance listens to them."""
    if instance.name != default_name():
        return {}
    own = instance.own_urls() if instance.exists() else {}
    found = {}
    for name, addresses in (("DATABASE_URL", _of_url), ("KAFKA_BROKERS", _of_brokers)):
        value = os.environ.get(name)
        # Whoever has sourced our env file has our own address in the environment.
        if value and value != own.get(name):
            _require_answer(name, addresses(value))
            found[name] = value
    return found


def _of_url(url):
    parts = urlsplit(url)
    # Several hosts or a socket's folder: the client library understands more than we need to.
    if not parts.hostname or "," in parts.netloc:
        return []
    return [(parts.hostname, parts.port or 5432)]


def _of_brokers(brokers):
    pairs = (broker.strip().rpartition(":") for broker in brokers.split(","))
    return [(host.strip("[]"), int(port)) for host, _, port in pairs if host and port.isdigit()]


def _require_answer(name, addresses):
    """One of the addresses must take a connection; none known is taken on trust."""
    last = None
    for address in addresses:
        try:
            socket.create_connection(address, timeout=CONNECT_MAX_S).close()
            return
        except OSError as error:
            last = f"{address[0]}:{address[1]}: {error}"
    if last:
        raise Failure(f"{name} is set in the environment, so that server is used, but it does not answer ({last}). "
                      f"Start it, or unset {name} to have one started, or say --private.")


def masked(value):
    """The address without its password, for the screen."""
    try:
        password = urlsplit(value).password
    except ValueError:
        password = None
    return value.replace(f":{password}@", ":***@") if password else value
