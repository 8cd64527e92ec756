#!/usr/bin/env bash
# Makes the topics, those that exist are left as they are. Brokers here do not make topics on demand: one that is made
# by a misspelt name, or with one partition because nobody chose, is worse than an error.
set -euo pipefail

server=${KAFKA_BOOTSTRAP_SERVER:-kafka:9092}
kafka_topics=${KAFKA_TOPICS:-/opt/kafka/bin/kafka-topics.sh}

create() {
  "$kafka_topics" --bootstrap-server "$server" --create --if-not-exists --replication-factor 1 --topic "$@"
}

# Events of packages, in order for each package: its id is the key, and a key's partition depends on how many there are.
# So the number is chosen once, with room: as many consumers of a group as partitions can share the work. Adding some
# later moves keys to other partitions and breaks their order once (drain first).
#
# max.message.bytes is Kafka's default. It is written out since the outbox' own limit on a payload (migration 0003) and
# walpost's client are set below it.
create omp-package-events --partitions 6 \
  --config cleanup.policy=delete \
  --config retention.ms=604800000 \
  --config max.message.bytes=1048588

# The Telegram bot's own, JSON: a few messages a minute. The first holds who wrote what, which is personal data: it goes
# after a week.
create omp-tgbot-commands --partitions 1 --config cleanup.policy=delete --config retention.ms=604800000
create omp-tgbot-cache-events --partitions 1

"$kafka_topics" --bootstrap-server "$server" --describe --exclude-internal
