"""Three brokers and a controller of their own: what befalls one broker leaves the others their controller.

Topics have three replicas, and a record is stored when two have it. Small heaps: four Javas share the machine.
"""

from kafka import Kafka
from ui import Failure

BROKERS = (1, 2, 3)
CONTROLLER_ID = 100

CONTROLLER_ROLE = """\
process.roles=controller
node.id={node}
controller.quorum.voters={node}@127.0.0.1:{controller}
listeners=CONTROLLER://127.0.0.1:{controller}
"""

BROKER_ROLE = f"""\
process.roles=broker
node.id={{node}}
controller.quorum.voters={CONTROLLER_ID}@127.0.0.1:{{controller}}
listeners=PLAINTEXT://127.0.0.1:{{broker}}
advertised.listeners=PLAINTEXT://127.0.0.1:{{broker}}
"""


class Node(Kafka):
    replicas, in_sync, heap_mb = 3, 2, 320

    def cluster_id(self):
        return self.instance.cluster_id


class Controller(Node):
    name, title = "controller", "Kafka's controller"
    variable = None
    port_names = ("controller",)
    node_id, role = CONTROLLER_ID, CONTROLLER_ROLE

    def _own_settings(self):
        """What is set is for brokers, unless it names this node."""
        named = f"{self.node_id}:"
        for name, value in self.instance.kafka_settings.items():
            if name.startswith(named):
                yield name[len(named):], value


class Broker(Node):
    role = BROKER_ROLE

    def __init__(self, instance, number):
        self.node_id = number
        self.name, self.title = f"kafka-{number}", f"Kafka's broker {number}"
        self.port_names = (self.name,)
        super().__init__(instance)


def nodes(instance):
    return [Controller(instance), *(Broker(instance, number) for number in BROKERS)]


def chosen(servers, broker):
    """All of these servers, or the broker with that number."""
    found = [server for server in servers if broker is None or getattr(server, "node_id", None) == broker]
    if not found:
        raise Failure(f"there is no broker {broker}: stack.py up --only kafka --brokers 3 --instance NAME makes three.")
    return found
