//! What may happen, by name.

macro_rules! kinds {
    ($($kind:ident => $name:literal,)*) => {
        /// What may happen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Kind {
            $($kind,)*
        }

        impl Kind {
            pub(crate) const ALL: &[Self] = &[$(Self::$kind,)*];

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    RelayKilled => "relay: SIGKILL",
    RelayTerminated => "relay: SIGTERM",
    RelayPausedBriefly => "relay: SIGSTOP, briefly",
    RelayPausedForLong => "relay: SIGSTOP, past the time-out",
    StandbyKilled => "standing by: SIGKILL",
    PostgresKilled => "Postgres: SIGKILL",
    PostgresRestarted => "Postgres: restart",
    PostgresFailedOver => "Postgres: standby promoted",
    WalsenderTerminated => "Postgres: walsender terminated",
    PostgresReset => "way to Postgres: reset",
    PostgresBlackHole => "way to Postgres: black hole",
    PostgresSlow => "way to Postgres: slow",
    PostgresAddressOfStandby => "way to Postgres: leads to the standby",
    BrokerKilled => "broker: SIGKILL",
    BrokerPaused => "broker: SIGSTOP",
    BrokersRolled => "brokers: rolled",
    TwoBrokersAway => "brokers: two away",
    LeadersMoved => "leaders: moved",
    FirstRequestsRefused => "first requests: refused",
    FirstRequestsOvertaken => "first requests: refused as the next come",
    AnswersCut => "answers: cut off",
    BrokerSlow => "way to a broker: slow",
    BrokerUnreachable => "way to a broker: black hole",
    KafkaReset => "way to Kafka: reset",
    KafkaBlackHole => "way to Kafka: black hole",
    TableRewritten => "operator: table rewritten",
    RowsUpdated => "operator: all rows updated",
    PublicationWithoutInserts => "operator: publication without inserts",
    PublicationWithoutTable => "operator: publication without the table",
    DatabaseReadOnly => "operator: sessions read-only",
    RightsRevoked => "operator: rights revoked",
    LoginDenied => "operator: login denied",
    MessageSizeLowered => "operator: max.message.bytes lowered",
}

impl Kind {
    /// Those whose name has one of `only` in it, and none of `without`: words divided by commas; none at all mean nothing.
    pub(crate) fn named(only: &str, without: &str) -> Vec<Self> {
        let has = |kind: Self, words: &str| {
            words.split(',').any(|word| !word.is_empty() && kind.name().contains(word))
        };
        let kinds = Self::ALL.iter().copied();
        kinds.filter(|kind| (only.is_empty() || has(*kind, only)) && !has(*kind, without)).collect()
    }

    /// Whether a halt is a right answer: rows may be missing in the stream, or cannot be published. Everything else
    /// passes by itself.
    pub(crate) fn may_halt(self) -> bool {
        matches!(
            self,
            Self::PublicationWithoutInserts | Self::PublicationWithoutTable | Self::MessageSizeLowered
        )
    }
}
