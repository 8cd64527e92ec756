//! The one place where a setting is defined.

use settings::{MapSetting, Parts, Repeated, Setting, Table};

/// What each of several outboxes may say for itself.
const OF_AN_OUTBOX: [&str; 30] = [
    "preset",
    "table",
    "messages",
    "where",
    "shard-by",
    "append-only",
    "table-was",
    "order",
    "topic",
    "key",
    "value",
    "format",
    "descriptor",
    "message",
    "framing",
    "subject",
    "schema-version",
    "schema",
    "headers-from",
    "cloudevents",
    "id",
    "type",
    "time",
    "traceparent",
    "ce-source",
    "ce-type",
    "content-type",
    "timestamp",
    "partition",
    "tombstone",
];

/// What is of the process, and not of one source.
const OF_THE_PROCESS: [&str; 5] = ["http-addr", "exit-on-halt", "log-level", "log-format", "otlp-endpoint"];

/// Each has threads, connections and series of its own.
const SOURCES_MAX: usize = 100;

/// Every setting of walpost.
pub const TABLE: Table = Table {
    env_prefix: "WALPOST",
    default_file: "walpost.toml",
    settings: &[
        Setting::optional(
            "database-url",
            "URL",
            "The database with the outbox, in either form that libpq takes: `postgres://user@host:5432/db?sslmode=verify-full` \
            or `host=… user=…`; the variables of libpq (PGHOST and its kin) fill what is absent, and what walpost cannot \
            honour is refused by name. Of several hosts it takes the primary.",
        )
        .secret()
        .or_env(&["DATABASE_URL"]),
        Setting::optional(
            "monitor-database-url",
            "URL",
            "The same database by a role with `pg_monitor`, to ask how slot, log and outbox are; absent: \
            --database-url, whose role may not see the size of pg_wal.",
        )
        .secret(),
        Setting::new("kafka-brokers", "HOST:PORT,…", "localhost:9092", "The brokers to ask first.")
            .or_env(&["KAFKA_BROKERS"]),
        Setting::optional(
            "kafka-token-file",
            "PATH",
            "A file with the token with which brokers are signed in to by SASL/OAUTHBEARER, read again before the token expires; \
            beside it, where the token does not say it, the time at which it expires, in milliseconds since 1970. \
            security.protocol is SASL_SSL then, unless the property says otherwise.",
        ),
        Setting::optional(
            "kafka-token-command",
            "COMMAND",
            "The same from a command for `sh`, which prints the token (and when it expires): run before the last one expires, \
            for 30 s at most.",
        ),
        Setting::optional(
            "registry-url",
            "URL",
            "The schema registry, as Confluent's interface has it: `http://HOST:PORT` or `https://HOST:PORT`. Where it is set, values \
            are framed by the id of their schema, which is asked for once, at the start; see --framing. Nothing is written to it, \
            but by `walpost init --register`.",
        ),
        Setting::optional("registry-user", "NAME", "Who signs in to the registry, where it asks."),
        Setting::optional(
            "registry-password",
            "PASSWORD",
            "The password of --registry-user. A file of it is read again for each question.",
        )
        .secret(),
        Setting::optional(
            "registry-ca",
            "PATH",
            "A file with the authorities, as PEM, that the registry's certificate may come from. Absent: those of the system.",
        ),
        Setting::optional(
            "preset",
            "NAME",
            "Settings that go together, each of which can still be given: `debezium`, `eventuate`, `cap`, `brighter`, \
            `package-event`; `walpost preset NAME` prints what it sets. With a preset only id, type and time are guessed.",
        ),
        Setting::optional(
            "topic",
            "TEXT",
            "The topic of a record: its name, or text with columns, as in `shop.{aggregate_type|lower}.events`. Topics must \
            exist, or be made by [create_topics]. Absent: the column `topic`, `destination` or `destination_topic`.",
        ),
        Setting::new("slot", "NAME", "walpost", "The replication slot, made by `walpost init`."),
        Setting::new(
            "publication",
            "NAME",
            "walpost",
            "The publication that holds the outbox \
            table, insert only.",
        ),
        Setting::new(
            "http-addr",
            "HOST:PORT",
            "[::]:9101",
            "Where the page (/), /live, /ready, /healthy, /status and /metrics are served. [::] is every address, IPv6 and \
            IPv4; 0.0.0.0 every IPv4 one.",
        ),
        Setting::new(
            "table",
            "SCHEMA.TABLE",
            "public.outbox",
            "The outbox table; in the case in which it is stored, or, where there is no such table, without regard to case. `*` \
            stands for any text: `tenant_*.outbox` are many tables, those that appear later among them.",
        ),
        Setting::optional(
            "messages",
            "PREFIX",
            "Instead of a table: logical messages with this prefix, which the application writes by \
            `pg_logical_emit_message(true, PREFIX, CONTENT)`. The content is a JSON object, whose members take the place of \
            columns. There is no second copy: what a lost slot has not sent is lost.",
        ),
        Setting::optional(
            "where",
            "SQL",
            "Which rows are events, as a condition in SQL such as `not relayed`: the row filter of the publication, and of every \
            reading of the table. From PostgreSQL 15 on. Rows that it hides are hidden from `walpost recover`, too.",
        ),
        Setting::optional(
            "shard",
            "I/N",
            "Only this of so many parts of the outbox, by the hash of the key, on a slot and a publication of its own (`SLOT_2_of_4`): \
            N relays then share the work, and events of one key stay in order. From PostgreSQL 15 on.",
        ),
        Setting::optional(
            "shard-by",
            "COLUMN,…",
            "For --shard: the columns whose values say which rows stay together; wherever the key is alike, they must be. Absent: \
            the columns of --key, where it has nothing else.",
        ),
        Setting::switch(
            "append-only",
            "Rows are never updated, only inserted and removed: then --clean goes together with --where. `walpost check` warns \
            where rows have been updated.",
        ),
        Setting::new(
            "table-was",
            "OID,…",
            "",
            "Object ids of tables that were the outbox before: rows of theirs that are still in the stream are events as \
            well. A halt names the object id, where it is needed.",
        ),
        Setting::optional(
            "key",
            "COLUMN",
            "The record's key, whose events stay in order: a column, or text with columns; NULL is no key, and an empty \
            setting none at all. Absent: the one column with a name such as `key`, `aggregate_id`, `partition_key`.",
        ),
        Setting::optional(
            "value",
            "COLUMN",
            "The record's value: a column, whose bytes go on as they are, a member of its JSON, or text with columns. Absent: \
            the one column with a name such as `payload`, `value`, `data`, `body`.",
        ),
        Setting::new(
            "format",
            "FORMAT",
            "raw",
            "What the value is: `raw`, the column as it is; `json`, an object of [fields], or of every column; `cloudevents`, \
            a CloudEvent in structured mode; `protobuf`, a message of [fields], or, without them, of the JSON in the value's column; \
            `avro`, the same by a schema of Avro.",
        ),
        Setting::optional(
            "descriptor",
            "PATH",
            "For the format protobuf: the file with the message, as `protoc --include_imports --descriptor_set_out` or \
            `buf build` writes it.",
        ),
        Setting::optional("message",
            "NAME",
            "For the format protobuf: the message's full name, as in `shop.OrderEvent`; without [fields] text with columns, as in \
            `shop.{event_type}`. For the format raw with a registry: the message that the bytes are, where it is not the first of \
            its schema.",
        ),
        Setting::optional(
            "framing",
            "FRAMING",
            "What stands before the value: `confluent`, a zero byte, the id of the schema in the registry, and of Protobuf the \
            message's indexes; `none`. Absent: `confluent` where --registry-url is set. A null value is never framed.",
        ),
        Setting::optional(
            "subject",
            "NAME",
            "The registry's subject that has the schema. Absent: `TOPIC-value`, where all records have the same topic.",
        ),
        Setting::optional(
            "schema-version",
            "VERSION",
            "Which version of the subject: its number, or `latest`, which is the newest one at the start and stays it until the \
            next. Absent: the version that --schema is; without it `latest`.",
        ),
        Setting::optional(
            "schema",
            "PATH",
            "A file with the schema (`.avsc`, `.json`, `.proto`): what the subject must have, and what `walpost init --register` \
            registers. Without a registry: what the format avro writes by.",
        ),
        Setting::optional(
            "headers-from",
            "COLUMN",
            "A column, or a member of its JSON, that holds a JSON object: each member becomes a header. Absent: the column \
            `headers`, where there is one; empty: none.",
        ),
        Setting::new(
            "cloudevents",
            "WHEN",
            "auto",
            "Whether records have the `ce_…` headers of CloudEvents: `auto`, where id and type are known; `on`; `off`.",
        ),
        Setting::optional(
            "id",
            "COLUMN",
            "The event's id, by which repeats are known (`ce_id`): a column, or text with columns. Absent: the first of \
            `event_id`, `message_id`, `uuid`, `id` that is there; empty: none.",
        ),
        Setting::optional(
            "type",
            "COLUMN",
            "What happened (`ce_type`). Absent: the first of `event_type`, `message_type`, `event_name`, `type`.",
        ),
        Setting::optional(
            "time",
            "COLUMN",
            "When it happened (`ce_time`): timestamptz, timestamp (UTC), text of ISO 8601, or a number with its unit, as in \
            `{created|ms}`. Absent: the first of `occurred_at`, `created_at`, `timestamp` and the like.",
        ),
        Setting::optional(
            "traceparent",
            "COLUMN",
            "The W3C trace context, as the header `traceparent`. Absent: the column `traceparent`; empty: none.",
        ),
        Setting::optional("ce-source", "TEXT", "The header `ce_source`. Absent: `/DATABASE/SCHEMA.TABLE`."),
        Setting::optional("ce-type", "TEXT", "The header `ce_type`, as in `com.shop.{event_type|lower}`. Absent: --type."),
        Setting::optional(
            "content-type",
            "TEXT",
            "The header `content-type`. Absent: by the type of the value's column.",
        ),
        Setting::new(
            "timestamp",
            "COLUMN",
            "commit",
            "The record's time: `commit`, that of the transaction, or a column, as for --time.",
        ),
        Setting::optional("partition", "COLUMN", "An integer column with the record's partition; NULL: the key's."),
        Setting::new(
            "tombstone",
            "WHEN",
            "null",
            "Which value is sent as a null value: `null`, SQL NULL; `empty`, also empty text, blanks and JSON's null; \
            `never`: SQL NULL is a row that cannot be published.",
        ),
        Setting::optional(
            "order",
            "COLUMN",
            "An integer column that rises with each insert: the order in which rows are read that stand in the table from \
            before the slot. Absent: the primary key, where it is one integer; else such rows are read in one go.",
        ),
        Setting::new(
            "poison",
            "POLICY",
            "halt",
            "What becomes of a row that cannot be published (it does not decode, does not fit the format, or \
            Kafka refuses it): `halt`, or `dead-letter`, to --dead-letter-topic, and the rows behind it go on.",
        ),
        Setting::optional(
            "dead-letter-topic",
            "NAME",
            "The topic for rows that cannot be published; it must exist, or be made by [create_topics]. Give it a larger max.message.bytes.",
        ),
        Setting::new(
            "unknown-topic",
            "POLICY",
            "wait",
            "What becomes of a row that names a topic which does not exist and is not to be made: `wait`, not ready, until \
            somebody makes it; or `dead-letter`, to --dead-letter-topic, once its brokers have said so twice, a second \
            apart (needs --poison=dead-letter). Topics that settings name in full are always waited for.",
        ),
        Setting::new(
            "delivery",
            "PROMISE",
            "at-least-once",
            "`at-least-once`: after a crash, events may come again, with the same id. `exactly-once`: records and the position go \
            in one Kafka transaction, so consumers with `isolation.level=read_committed` see each event once, in order; \
            needs a topic for the position, see --position-topic.",
        ),
        Setting::optional(
            "position-topic",
            "NAME",
            "With --delivery=exactly-once: the topic that holds the position, of this slot and of no other; the \
            transactional ids are its name, and that with `~2` behind it. It is made where it is missing: one partition, \
            compacted. Absent: `walpost-position-SLOT`.",
        ),
        Setting::new(
            "late-after-ms",
            "MS",
            "0",
            "A record has the time of its event's commit, and a topic keeps it for its retention from that time on. An event \
            that is published more than so much later has the time of its publishing instead; its `ce_time`, key and value \
            are the same. 0: none has; else up to 3155760000000.",
        ),
        Setting::new(
            "window-records",
            "N",
            "20000",
            "Records in flight at most, 1 to 1000000; when so many \
            await Kafka's acknowledgement, nothing more is read. A transaction of up to 1000 rows is taken \
            whole.",
        ),
        Setting::new(
            "window-bytes",
            "BYTES",
            "67108864",
            "Bytes of rows in flight at most, 65536 to \
            4294967296.",
        ),
        Setting::new(
            "confirm-interval-ms",
            "MS",
            "500",
            "At most this often is a position remembered and \
            then confirmed to Postgres, 10 to 60000.",
        ),
        Setting::new(
            "watch-interval-ms",
            "MS",
            "10000",
            "How often publication, table and slot are looked at \
            while streaming, 100 to 3600000.",
        ),
        Setting::new(
            "sample-interval-ms",
            "MS",
            "5000",
            "How often Postgres is asked how slot, log and outbox are, for the page and the metrics, at most 3600000; 0: \
            never.",
        ),
        Setting::new(
            "stall-timeout-ms",
            "MS",
            "60000",
            "How long nothing may be acknowledged, while events or log wait, until the relay counts as stalled and is \
            not ready, 1000 to 3600000. Keep it above half of --peer-timeout-ms, after which a busy Postgres is asked \
            whether it goes on.",
        ),
        Setting::new(
            "connect-timeout-ms",
            "MS",
            "10000",
            "How long a connection to Postgres or a question to \
            Kafka may take, 100 to 600000.",
        ),
        Setting::new(
            "peer-timeout-ms",
            "MS",
            "30000",
            "How long Postgres or a broker may be silent until it counts as gone, and the relay as gone to \
            Postgres (`wal_sender_timeout` of its connection), 1000 to 300000. A standby takes over from a \
            relay whose machine is gone after this time.",
        ),
        Setting::new(
            "slot-timeout-ms",
            "MS",
            "60000",
            "How long `init` waits for the slot while older \
            transactions are open, 100 to 3600000.",
        ),
        Setting::new(
            "clean",
            "RULE",
            "off",
            "Whether published rows are removed from the outbox: `off`, by `age` or by `count`. A row that is \
            not known to be in Kafka is never removed.",
        ),
        Setting::new(
            "clean-age-s",
            "SECONDS",
            "86400",
            "By age: rows stay so long after they were written, 0 to 31536000.",
        ),
        Setting::new(
            "clean-keep-rows",
            "N",
            "100000",
            "By count: so many of the newest rows stay, 0 to 1000000.",
        ),
        Setting::new(
            "clean-batch-rows",
            "N",
            "1000",
            "Rows removed in one transaction at most, 1 to 10000; after each the cleaner rests as long as it \
            took.",
        ),
        Setting::new(
            "clean-interval-ms",
            "MS",
            "10000",
            "How often the outbox is looked through for rows to remove, 100 to 3600000.",
        ),
        Setting::new(
            "tail-topics",
            "NAME,…",
            "",
            "The topics that `walpost tail` shows beside --topic. One that does not exist is left out; `--tail-topics=`: none.",
        ),
        Setting::new("retry-max-ms", "MS", "5000", "The longest wait between two tries, 100 to 600000."),
        Setting::new(
            "drain-timeout-ms",
            "MS",
            "10000",
            "How long a stop waits for Kafka's acknowledgements, \
            0 to 600000.",
        ),
        Setting::switch(
            "exit-on-halt",
            "Exit with code 3 on a halt instead of staying up to say why; of several sources when each has halted.",
        ),
        Setting::new(
            "log-level",
            "LEVEL",
            "info",
            "error, warn, info, debug, trace, or a filter such as \
            `info,walpost=debug`.",
        ),
        Setting::new("log-format", "FORMAT", "text", "`text` for people, `json` for collectors."),
        Setting::optional(
            "otlp-endpoint",
            "URL",
            "Where spans go, OTLP over gRPC: `http://localhost:4317` or `https://…`; nowhere when absent. Each record whose row has a \
            sampled `traceparent` has one, from its hand-over to its acknowledgement.",
        )
        .or_env(&["OTEL_EXPORTER_OTLP_ENDPOINT"]),
    ],
    maps: &[
        MapSetting {
            name: "header",
            section: "headers",
            from_env: false,
            of_tables: false,
            help: "A header and its value, as in `eventType={event_type}`; NULL: no such header. It wins over those of \
                --headers-from and of CloudEvents.",
        },
        MapSetting {
            name: "field",
            section: "fields",
            from_env: false,
            of_tables: false,
            help: "A member of the value in the formats json, protobuf and avro, an attribute in cloudevents, as in `order_id={id}`; \
                dots nest.",
        },
        MapSetting {
            name: "rename-topic",
            section: "topics",
            from_env: false,
            of_tables: false,
            help: "Another name for what --topic gives, as in `OrderCreated=orders`.",
        },
        MapSetting {
            name: "create-topic",
            section: "create_topics",
            from_env: false,
            of_tables: true,
            help: "Topics that walpost makes when one is needed and missing: a name, in which `*` stands for any text, and how they \
                are made, as in `\"shop.*\" = { partitions = 6, replication = 3, \"cleanup.policy\" = \"compact\" }`. \
                Without `partitions` or `replication` the brokers decide; everything else is a setting of the topic. Of \
                several patterns the one with the longest text counts. No other topic is made.",
        },
        MapSetting {
            name: "renamed-column",
            section: "renamed_columns",
            from_env: false,
            of_tables: false,
            help: "Two names of one column, as in `package_id=parcel_id`, while it is renamed: rows in the stream have the \
                name of the moment at which they were written.",
        },
        MapSetting {
            name: "kafka-property",
            section: "kafka.properties",
            from_env: true,
            of_tables: false,
            help: "Any property of librdkafka, except those that would break a promise.",
        },
    ],
    repeated: Some(Repeated {
        section: "outbox",
        settings: &OF_AN_OUTBOX,
        maps: &["header", "field", "rename-topic", "renamed-column"],
        help: "Another outbox, on the same slot: its table, and whatever of its settings is not as above.",
    }),
    parts: Some(Parts {
        section: "source",
        once: &OF_THE_PROCESS,
        most: SOURCES_MAX,
        help: "Another database, followed by the same process: its `name`, and whatever of all settings is not as above, but for \
            `http_addr`, `exit_on_halt`, `log_level`, `log_format` and `otlp_endpoint`, which are the process's. In the environment \
            `WALPOST_SOURCE_NAME_DATABASE_URL` and the like, each with `_FILE` where it is a secret. What a source says itself wins over \
            all that is said above, flags included. Its outboxes are `[[source.outbox]]`. 100 at most: docs/many-databases.md.",
    }),
};
