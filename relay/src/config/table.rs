//! The one place where a setting is defined.

use settings::{MapSetting, Setting, Table};

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
        Setting::new(
            "topic",
            "NAME",
            "omp-package-events",
            "The topic events are published to; it must exist.",
        ),
        Setting::new("slot", "NAME", "package_event_relay", "The replication slot, made by `walpost init`."),
        Setting::new(
            "publication",
            "NAME",
            "package_event_pub",
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
        Setting::new("table", "SCHEMA.TABLE", "public.package_event", "The outbox table."),
        Setting::new(
            "table-was",
            "OID,…",
            "",
            "Object ids of tables that were the outbox before: rows of theirs that are still in the stream are events as \
            well. A halt names the object id, where it is needed.",
        ),
        Setting::new(
            "column-id",
            "COLUMN",
            "package_event_id",
            "The row's number; rows from before the slot \
            are published in its order. Each column may have several names, as in `NEW,OLD`, while it is renamed: rows in \
            the stream have the name of the moment at which they were written.",
        ),
        Setting::new(
            "column-key",
            "COLUMN",
            "package_id",
            "What the event is about: the record's key and \
            `ce_subject`.",
        ),
        Setting::new(
            "column-type",
            "COLUMN",
            "event_type",
            "What happened: the end of `ce_type`, in lower \
            case.",
        ),
        Setting::new("column-payload", "COLUMN", "payload", "The event's content."),
        Setting::new("column-created-at", "COLUMN", "created_at", "When the row was written: `ce_time`."),
        Setting::new("column-event-id", "COLUMN", "event_id", "The UUID to deduplicate by: `ce_id`."),
        Setting::new(
            "column-traceparent",
            "COLUMN",
            "traceparent",
            "The W3C trace context; empty, by flag or file: the table \
            has none. An empty variable counts as absent.",
        ),
        Setting::new(
            "format",
            "FORMAT",
            "package-event",
            "The value's format: `package-event`, the protobuf \
            message hablof.proto.v1.PackageEvent.",
        ),
        Setting::new("ce-source", "URI", "/logistic-package-api", "The header `ce_source`."),
        Setting::new(
            "ce-type-prefix",
            "TEXT",
            "hablof.logistic_package_api.package.",
            "What stands before \
            the event's type in the header `ce_type`.",
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
            "The topic for rows that cannot be published; it must exist. Give it a larger max.message.bytes.",
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
            "omp-tgbot-commands,omp-tgbot-cache-events",
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
        Setting::switch("exit-on-halt", "Exit with code 3 on a halt instead of staying up to say why."),
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
    maps: &[MapSetting {
        name: "kafka-property",
        section: "kafka.properties",
        help: "Any property of librdkafka, except those that would break a promise.",
    }],
};
