"""The commands of stack.py, each a function of its parsed options."""

import shlex
import shutil
import threading
from contextlib import suppress

import fetch as fetching
import disk
import given
import versions as choice
from cluster import chosen
from instance import Instance, default_name, everything, is_free
from places import state_dir
from ui import Failure, say


def up(options):
    instance = Instance(state_dir(announce=True), options.instance)
    instance.postgres.primary = options.standby_of and Instance(instance.state, options.standby_of).postgres
    with instance.lock():
        instance.reload()
        _set_versions(instance)
        _set_brokers(instance, options.brokers)
        foreign = {} if options.private else given.urls(instance)
        changed = _apply(instance.pg_settings, options.pg_set, "--pg-set max_slot_wal_keep_size=64MB")
        _apply(instance.kafka_settings, options.kafka_set, "--kafka-set message.max.bytes=100000")
        instance.save()
        wanted = [server for server in instance.servers
                  if options.only in (None, server.family) and server.variable not in foreign]
        for server in wanted:
            if not server.is_initialised() and not server.pid():
                instance.choose_ports(server)  # before any starts: the nodes of a cluster name each other's
        _mount_disks(wanted, options.disk_mb)
        _side_by_side([lambda server=server: _bring_up(server, changed) for server in wanted])
        instance.write_env({**instance.own_urls(), **foreign})
    for server in instance.servers:
        if server.variable in foreign:
            print(f"{server.name:<9} {given.masked(foreign[server.variable])}  (given by {server.variable})")
        elif server.variable and server.is_initialised():
            print(f"{server.name:<9} {given.masked(server.url)}")
    print(f"env       . {instance.env_file}")


def _set_versions(instance):
    wanted = choice.asked()
    primary = instance.postgres.primary
    if primary:
        wanted["postgres"] = primary.version  # a standby reads its primary's files
    for family, version in wanted.items():
        has = instance.versions[family]
        if version != has and any(server.is_initialised() for server in instance.of_family(family)):
            raise Failure(f"instance {instance.name} has {choice.TITLES[family]} {has}, and {version} is asked for "
                          f"({choice.VARIABLES[family]}): choose another --instance NAME, or stack.py remove "
                          f"--instance {instance.name}")
        instance.versions = {**instance.versions, family: version}


def _set_brokers(instance, brokers):
    if brokers and brokers != instance.brokers:
        if any(server.is_initialised() for server in instance.of_family("kafka")):
            raise Failure(f"instance {instance.name} has {instance.brokers} already: choose another --instance NAME, or "
                          f"stack.py remove --instance {instance.name}")
        instance.brokers = brokers


def _mount_disks(servers, megabytes):
    """A small disk for each new server."""
    for server in servers if megabytes else []:
        if not server.is_initialised():
            disk.mount(server.home, megabytes)


def _bring_up(server, settings_changed):
    """Makes one server run and answer, whatever state it is in."""
    if server.pid() and not server.is_initialised():
        server.kill()  # its data was deleted under it
    _wake(server)
    if settings_changed and server.name == "postgres" and server.stop():
        say("Postgres is started again with the new settings")
    if server.pid():
        server.await_answer()
        return
    server.fetch()
    server.clear_leftovers()
    server.instance.choose_ports(server)
    if not server.is_initialised():
        server.initialise()
    server.start()


def _wake(server):
    if server.is_paused():
        say(f"{server.title} was paused: resuming it")
        server.resume()


def _side_by_side(tasks):
    """Runs the tasks at the same time and reports every failure, not only the first."""
    failures = []

    def guarded(task):
        try:
            task()
        except (Failure, OSError) as failure:
            failures.append(str(failure))

    # Daemons, so that Ctrl-C ends the program at once. What they fetch is renamed into place only when whole.
    threads = [threading.Thread(target=guarded, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise Failure("\nstack.py: ".join(dict.fromkeys(failures)))  # both may have met the same one


def _apply(settings, pairs, example):
    """Takes over --pg-set or --kafka-set. Says whether that changed anything."""
    before = dict(settings)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.rpartition(":")[2].replace(".", "_").replace("-", "_").isidentifier():
            raise Failure(f"{pair}: write it as name=value, such as {example}.")
        if value:
            settings[name] = value
        else:
            settings.pop(name, None)
    return settings != before


def down(options):
    for instance in _chosen(options):
        with instance.lock():
            if not any([server.stop() for server in instance.servers]):
                say(f"nothing of instance {instance.name} runs")


def remove(options):
    for instance in _chosen(options):
        with instance.lock():
            if instance.exists():
                instance.remove()
                say(f"removed instance {instance.name}")


def _chosen(options):
    state = state_dir()
    if options.all:
        return everything(state)
    instance = Instance(state, options.instance)
    return [instance] if instance.exists() else []


def start(options):
    _on_servers(options, lambda servers: _side_by_side([lambda server=server: _start(server) for server in servers]))


def stop(options):
    _on_each(options, lambda server: server.stop() or say(f"{server.title} does not run"))


def kill(options):
    _on_each(options, lambda server: server.kill() or say(f"{server.title} does not run"))


def restart(options):
    """A cluster is rolled: one node after the other."""
    # What is missing shows before anything is stopped.
    _on_each(options, lambda server: (server.fetch(), server.stop(), _start(server)))


def pause(options):
    _on_each(options, lambda server: server.pause())


def resume(options):
    _on_each(options, lambda server: server.resume())


def fill(options):
    _on_each(options, lambda server: disk.fill(server.home))


def free(options):
    _on_each(options, lambda server: disk.free(server.home))


def disks(options):
    disk.try_out(state_dir())


def _on_each(options, action):
    _on_servers(options, lambda servers: [action(server) for server in servers])


def _on_servers(options, action):
    instance = Instance(state_dir(), options.instance)
    servers = chosen(instance.of_family(options.server), options.broker)
    for server in servers:
        if not server.is_initialised():
            raise Failure(f"instance {instance.name} has no {server.title} of its own: "
                          f"stack.py up --private --instance {instance.name}")
    with instance.lock():
        instance.reload()
        action(servers)


def _start(server):
    """On the port it had: clients know it."""
    _wake(server)
    if server.pid() and server.outlives_its_start():
        return
    for name in server.port_names:
        port = server.instance.ports[name]
        if not is_free(port):
            raise Failure(f"port {port} of {server.title} is taken by another process: end that one (ss -ltnp shows "
                          f"it), or move {server.title} elsewhere: stack.py up --instance {server.instance.name}")
    server.start()


def tool(options):
    instance = Instance(state_dir(), options.instance)
    brokers = [server for server in instance.of_family("kafka") if server.variable]
    if not brokers[-1].is_initialised():
        raise Failure(f"instance {instance.name} has no Kafka of its own: stack.py up --private --instance {instance.name}")
    brokers[-1].tool(options.tool, options.arguments)


def status(options):
    state = state_dir()
    instances = [Instance(state, options.instance)] if options.instance else everything(state)
    print(f"state     {state}")
    for instance in instances:
        for server in instance.servers:
            print(f"{instance.name:<9} {server.name:<10} {server.version:<4} {_condition(server)}")


def _condition(server):
    if not server.is_initialised():
        return "none of its own"
    pid = server.pid()
    if not pid:
        return f"stopped   {server.where}"
    if server.is_paused():
        return f"paused    {server.where}  pid {pid}"
    return f"{'running' if server.answers() else 'no answer'}   {server.where}  pid {pid}  log {server.log}"


def env(options):
    instance = Instance(state_dir(), options.instance)
    try:
        print(instance.env_file.read_text(), end="")
    except FileNotFoundError:
        raise Failure(f"instance {instance.name} was never up: stack.py up --instance {instance.name}") from None


def versions(options):
    for family, version in choice.chosen().items():
        print(f"{family:<9} {fetching.exact(family, version)}")


def fetch(options):
    state = state_dir(announce=True)
    instance = Instance(state, default_name())
    tasks = {"postgres": instance.postgres.fetch, "kafka": instance.kafka.fetch}
    _side_by_side([task for name, task in tasks.items() if options.only in (None, name)])
    print(f"fetched   {state / 'fetched'}")


def debezium(options):
    """Connect is among Kafka's own jars, of the newest version whatever KAFKA says."""
    state = state_dir(announce=True)
    kafka = fetching.kafka(state, choice.NEWEST["kafka"])
    print(f"export JAVA={shlex.quote(fetching.java(state))}")
    print(f"export CLASS_PATH={shlex.quote(f'{kafka}/jars/*:{kafka}/modules/*')}")
    print(f"export PLUGIN_PATH={shlex.quote(str(fetching.debezium(state)))}")


def debezium_server(options):
    state = state_dir(announce=True)
    print(f"export JAVA={shlex.quote(fetching.java(state, fetching.DEBEZIUM_SERVER_JAVA_MIN))}")
    print(f"export FOLDER={shlex.quote(str(fetching.debezium_server(state)))}")
    print(f"export VERSION={shlex.quote(fetching.debezium_version())}")


def registry_clients(options):
    """Python with Confluent's clients: what reads records as others do."""
    state = state_dir(announce=True)
    print(f"export PYTHONPATH={shlex.quote(str(fetching.registry_clients(state)))}")
    print(f"export PYTHON={shlex.quote(str(fetching.python(state)))}")


def bin(options):
    if options.name == "redis-server":
        print(fetching.redis(state_dir(announce=True)))
        return
    folder = fetching.postgres(state_dir()) / "bin"
    if not (folder / options.name).is_file():
        there = " ".join(sorted(path.name for path in folder.iterdir()))
        raise Failure(f"PostgreSQL brings no program {options.name}. There are: {there}")
    print(folder / options.name)


def clean(options):
    """Only what this program makes: WALPOST_DEV_DIR may be a folder with other things in it."""
    state = state_dir()
    options.all = True
    remove(options)
    for name in ("instances", "fetched", "locks"):
        shutil.rmtree(state / name, ignore_errors=True)
    with suppress(OSError):
        state.rmdir()
    say(f"removed what was in {state}")
