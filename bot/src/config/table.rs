//! Every setting in one table: flags, `PACKAGE_BOT_*` variables, keys of the file, defaults and documentation.

use settings::{MapSetting, Setting, Table};

/// The settings.
pub const TABLE: Table = Table {
    env_prefix: "PACKAGE_BOT",
    default_file: "package-bot.toml",
    settings: &SETTINGS,
    maps: &MAPS,
    repeated: None,
    parts: None,
};

const MAPS: [MapSetting; 1] = [MapSetting {
    name: "kafka-property",
    section: "kafka.properties",
    from_env: true,
    of_tables: false,
    help: "A property of librdkafka for both producer and consumer, such as those of TLS and SASL.",
}];

const SETTINGS: [Setting; 22] = [
    Setting::optional("telegram-token", "TOKEN", "The bot's token, from @BotFather. Not by a flag: others on the machine can read it.")
        .secret()
        .or_env(&["TOKEN"]),
    Setting::new("telegram-api-url", "URL", "https://api.telegram.org", "Where the Bot API is. A proxy on the way is taken from HTTPS_PROXY."),
    Setting::new("poll-timeout-s", "S", "50", "How long Telegram is asked to wait for an update, 1 to 50."),
    Setting::optional(
        "allowed-ids",
        "IDS",
        "Who may change packages: ids of users or chats, with commas between them; everybody when absent. A bot that is found by strangers should have some.",
    ),
    Setting::new("page-size", "N", "5", "Packages on a page of the list, 1 to 35."),
    Setting::new("grpc-url", "URL", "http://logistic-package-api:8082", "Where the package API is, by gRPC; https:// for TLS."),
    Setting::optional("grpc-auth-token", "TOKEN", "The bearer token that the package API wants. Not by a flag.").secret(),
    Setting::optional("grpc-ca", "FILE", "The root of the package API's certificate, PEM; public authorities are trusted when absent."),
    Setting::new("call-timeout-ms", "MS", "10000", "How long a call to the package API may take, all tries together, 100 to 60000."),
    Setting::new("kafka-brokers", "HOSTS", "kafka:9092", "Kafka's bootstrap servers.").or_env(&["KAFKA_BROKERS"]),
    Setting::new("commands-topic", "TOPIC", "omp-tgbot-commands", "Where each update is recorded. Its records hold what people wrote."),
    Setting::new("cache-events-topic", "TOPIC", "omp-tgbot-cache-events", "Where each use of the cache is recorded."),
    Setting::new("package-events-topic", "TOPIC", "omp-package-events", "Where changes of packages are read, to forget what is cached of them."),
    Setting::new("kafka-group", "GROUP", "logistic-package-api-bot", "The consumer group for that topic."),
    Setting::new("redis-url", "URL", "redis://redis:6379/0", "Where the cache is: redis://user:password@host:port/database, or unix:///path. From a file or the environment where it has a password.").secret(),
    Setting::new("cache-ttl-s", "S", "3600", "How long a description is kept in the cache, 1 to 2592000."),
    Setting::new("cache-timeout-ms", "MS", "100", "How long Redis may take to let the bot in, and to answer, 10 to 10000. People wait for it."),
    Setting::new("http-addr", "IP:PORT", "0.0.0.0:9102", "Where /live, /ready and /metrics listen. Port 0 takes a free one."),
    Setting::new("drain-timeout-ms", "MS", "20000", "How long updates that were taken may take to finish after SIGTERM or SIGINT, 0 to 600000."),
    Setting::new("log-level", "LEVEL", "info", "What is logged: off, error, warn, info, debug or trace. What people write is logged at trace alone."),
    Setting::new("log-format", "FORMAT", "json", "How it is logged: json or pretty."),
    Setting::optional("otlp-endpoint", "URL", "Where spans go, OTLP over gRPC: http://localhost:4317, or https://; nowhere when absent.")
        .or_env(&["OTEL_EXPORTER_OTLP_ENDPOINT"]),
];
