"""Prints each record of a topic as Confluent's own deserializer reads it: a line of JSON with key, value and whether it is null.

decode.py BROKERS TOPIC REGISTRY avro|json|protobuf COUNT [DESCRIPTOR MESSAGE]
"""

import base64
import datetime
import decimal
import json
import sys
import uuid

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

DEADLINE_S = 60


def message_class(path, name):
    """The class of a message, from what protoc writes of it."""
    files = descriptor_pb2.FileDescriptorSet()
    with open(path, "rb") as handle:
        files.ParseFromString(handle.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def deserializer(kind, registry, more):
    if kind == "avro":
        return AvroDeserializer(registry)
    if kind == "json":
        return JSONDeserializer(None, schema_registry_client=registry)
    return ProtobufDeserializer(message_class(*more), schema_registry_client=registry)


def plain(value):
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return json_format.MessageToDict(value, preserving_proto_field_name=True)


def main(brokers, topic, url, kind, count, *more):
    read = deserializer(kind, SchemaRegistryClient({"url": url}), more)
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": str(uuid.uuid4()), "auto.offset.reset": "earliest",
                         "enable.auto.commit": False})
    consumer.subscribe([topic])
    until = datetime.datetime.now() + datetime.timedelta(seconds=DEADLINE_S)
    left = int(count)
    while left:
        if datetime.datetime.now() > until:
            sys.exit(f"{left} records are missing after {DEADLINE_S} s")
        record = consumer.poll(1)
        if record is None:
            continue
        if record.error():
            raise KafkaException(record.error())
        value = read(record.value(), SerializationContext(topic, MessageField.VALUE))
        key = record.key() and record.key().decode()
        print(json.dumps({"key": key, "value": value, "is_null": record.value() is None}, default=plain))
        left -= 1
    consumer.close()


main(*sys.argv[1:])
