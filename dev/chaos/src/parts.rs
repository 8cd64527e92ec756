//! Which parts of walpost a run is about, and which kinds of fault have nothing to act on in them.

use std::str::FromStr;

use anyhow::{Result, ensure};

use crate::kinds::{Kind, LeftOut};

/// What the relays promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

impl Delivery {
    /// As the setting has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at-least-once",
            Self::ExactlyOnce => "exactly-once",
        }
    }
}

impl FromStr for Delivery {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::AtLeastOnce, Self::ExactlyOnce].into_iter().find(|one| one.name() == text).ok_or(())
    }
}

/// Where events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outbox {
    /// Rows of `package_event`.
    Table,
    /// Logical messages, which are in the WAL and in no table.
    Messages,
}

impl FromStr for Outbox {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "table" => Ok(Self::Table),
            "messages" => Ok(Self::Messages),
            _ => Err(()),
        }
    }
}

/// The parts of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) delivery: Delivery,
    pub(crate) outbox: Outbox,
    /// Slots that share one outbox.
    pub(crate) shards: usize,
    /// Databases that one process follows.
    pub(crate) sources: usize,
}

impl Parts {
    /// Fails for parts that do not go together.
    pub(crate) fn check(self) -> Result<()> {
        ensure!(self.shards > 0 && self.sources > 0, "there is at least one shard, and one source");
        ensure!(
            self.shards == 1 || self.outbox == Outbox::Table,
            "messages have no shards: no publication filters them"
        );
        ensure!(self.shards == 1 || self.sources == 1, "a run has several shards or several sources");
        Ok(())
    }

    /// Divides `kinds` into those that mean something here, and those that do not, with why.
    pub(crate) fn divide(self, kinds: Vec<Kind>) -> (Vec<Kind>, Vec<LeftOut>) {
        let (mut fit, mut left_out) = (Vec::new(), Vec::new());
        for kind in kinds {
            match self.has_no_use_for(kind) {
                None => fit.push(kind),
                Some(why) => left_out.push(LeftOut { kind, why: why.to_owned() }),
            }
        }
        (fit, left_out)
    }

    fn has_no_use_for(self, kind: Kind) -> Option<&'static str> {
        let messages = self.outbox == Outbox::Messages;
        if messages && kind.is_of_table() {
            return Some("messages are in no table, and no publication has a part in them");
        }
        if self.shards > 1 && kind == Kind::RowsUpdated {
            return Some("rows are never updated where shards remove them (`append_only`)");
        }
        if self.delivery == Delivery::ExactlyOnce && kind.may_repeat() {
            return Some("it ends in `walpost recover`, after which events may come again");
        }
        None
    }
}
