//! What may happen, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Result;
use harness::OffClock;
use harness::stack::{Output, script};

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
    ClockOff => "relay: clock off by hours",
    PostgresKilled => "Postgres: SIGKILL",
    PostgresRestarted => "Postgres: restart",
    PostgresFailedOver => "Postgres: standby promoted",
    WalsenderTerminated => "Postgres: walsender terminated",
    DiskFull => "Postgres: disk full",
    DiskFullOfLog => "Postgres: disk full, no room for the log",
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
    WriteDenied => "Kafka: WRITE denied",
    DescribeDenied => "Kafka: DESCRIBE denied",
    TableRewritten => "operator: table rewritten",
    RowsUpdated => "operator: all rows updated",
    PublicationWithoutInserts => "operator: publication without inserts",
    PublicationWithoutTable => "operator: publication without the table",
    DatabaseReadOnly => "operator: sessions read-only",
    RightsRevoked => "operator: rights revoked",
    LoginDenied => "operator: login denied",
    MessageSizeLowered => "operator: max.message.bytes lowered",
}

/// Whom a kind of fault reaches, of several slots or databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Who follows one slot.
    Slot,
    /// Who follows the slots of one database.
    Source,
    All,
}

/// What a kind of fault takes that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// A small disk of a server's own.
    Disk,
    /// A C compiler, for what tells a program another time.
    Clock,
}

impl Need {
    async fn met(self) -> Result<()> {
        match self {
            Self::Disk => script(&["disks"], Output::Quiet).await.map(drop),
            Self::Clock => OffClock::make().map(drop),
        }
    }
}

/// A kind of fault that is wanted, and means nothing in this run or is not possible on this machine.
#[derive(Debug, Clone)]
pub(crate) struct LeftOut {
    pub(crate) kind: Kind,
    pub(crate) why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "left out: {}: {}", self.kind.name(), self.why)
    }
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

    /// What it takes that not every machine has.
    pub(crate) fn needs(self) -> Option<Need> {
        match self {
            Self::DiskFull | Self::DiskFullOfLog => Some(Need::Disk),
            Self::ClockOff => Some(Need::Clock),
            _ => None,
        }
    }

    /// Divides `kinds` into those that this machine can bring about, and those that it cannot, with why.
    pub(crate) async fn possible(kinds: Vec<Self>) -> (Vec<Self>, Vec<LeftOut>) {
        let mut lacks = BTreeMap::new();
        for need in kinds.iter().filter_map(|kind| kind.needs()).collect::<BTreeSet<_>>() {
            if let Err(error) = need.met().await {
                lacks.insert(need, format!("{error:#}"));
            }
        }
        let lack = |kind: &Self| kind.needs().and_then(|need| lacks.get(&need));
        let (left_out, kinds) = kinds.into_iter().partition::<Vec<_>, _>(|kind| lack(kind).is_some());
        let why = |kind: &Self| Some(LeftOut { kind: *kind, why: lack(kind)?.clone() });
        (kinds, left_out.iter().filter_map(why).collect())
    }

    /// Whom it reaches.
    pub(crate) fn reach(self) -> Reach {
        match self {
            Self::PublicationWithoutInserts | Self::PublicationWithoutTable => Reach::Slot,
            Self::WriteDenied
            | Self::DescribeDenied
            | Self::TableRewritten
            | Self::RowsUpdated
            | Self::DatabaseReadOnly
            | Self::RightsRevoked
            | Self::LoginDenied
            | Self::MessageSizeLowered => Reach::Source,
            _ => Reach::All,
        }
    }

    /// Whether it is done to the table of the outbox, to its publication or to the rights on it.
    pub(crate) fn is_of_table(self) -> bool {
        matches!(
            self,
            Self::TableRewritten
                | Self::RowsUpdated
                | Self::PublicationWithoutInserts
                | Self::PublicationWithoutTable
                | Self::RightsRevoked
        )
    }

    /// Whether it ends in `walpost recover`, which publishes again what it has no proof of.
    pub(crate) fn may_repeat(self) -> bool {
        matches!(self, Self::PublicationWithoutInserts | Self::PublicationWithoutTable)
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
