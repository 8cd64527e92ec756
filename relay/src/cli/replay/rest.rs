//! How far the rows of a table are in Kafka, and how the rest is asked for.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::cli::progress::count;
use crate::cli::selection::Selection;
use crate::postgres::names::quoted;
use walpost_core::time;

/// Up to which number all rows are acknowledged, of rows that come in the order of their numbers, those without one last.
#[derive(Debug, Default)]
pub(super) struct Reached {
    /// No two rows have one number.
    is_unique: bool,
    /// Rows that are not acknowledged: up to which sequence, and their numbers.
    open: VecDeque<(u64, Option<i64>)>,
    /// The number of the last that is acknowledged.
    last: Option<i64>,
    through: Option<i64>,
}

impl Reached {
    pub(super) fn new(is_unique: bool) -> Self {
        Self { is_unique, ..Self::default() }
    }

    /// The next row, with the sequence of its record.
    pub(super) fn push(&mut self, sequence: u64, number: Option<i64>) {
        self.open.push_back((sequence, number));
    }

    /// All records before `oldest` are acknowledged.
    pub(super) fn acknowledge(&mut self, oldest: u64) {
        while let Some((_, number)) = self.open.pop_front_if(|(sequence, _)| *sequence < oldest) {
            self.pass(number);
            self.last = number.or(self.last);
            if self.is_unique {
                self.through = self.last;
            }
        }
        if let Some((_, number)) = self.open.front() {
            self.pass(*number);
        }
    }

    /// A row follows: if its number is another, no more of the last one will come.
    fn pass(&mut self, number: Option<i64>) {
        if number != self.last {
            self.through = self.last;
        }
    }

    /// All rows up to this number are acknowledged.
    pub(super) fn through(&self) -> Option<i64> {
        self.through
    }
}

/// What was asked for, and how much of it is in Kafka.
#[derive(Debug)]
pub(super) struct Rest<'a> {
    pub(super) table: &'a str,
    /// The column that orders it.
    pub(super) order: Option<&'a str>,
    pub(super) selection: &'a Selection,
    /// The topic in place of the rows' own.
    pub(super) to: Option<&'a str>,
    /// Rows that are in Kafka, that were asked for, and that give no record.
    pub(super) sent: u64,
    pub(super) total: u64,
    pub(super) left_out: u64,
    /// All rows up to here are in Kafka.
    pub(super) through: Option<i64>,
    /// The highest number when it began.
    pub(super) highest: Option<i64>,
    /// Rows without a number.
    pub(super) unnumbered: u64,
}

impl Rest<'_> {
    /// Where it stood when it ended before the end.
    pub(super) fn stood_at(&self) -> String {
        let (sent, total, table) = (count(self.sent), count(self.total), self.table);
        let Some(order) = self.order else {
            return format!(
                "stopped  {sent} of {total} rows are in Kafka: {table} has no integer order, so the next replay begins again"
            );
        };
        if self.sent == 0 {
            return format!("stopped  before the first row of {table} was in Kafka");
        }
        let mut text = format!("stopped  {sent} of {total} rows are in Kafka: ");
        let _ = match self.through {
            Some(through) => write!(text, "those of {table} up to {order} = {through}"),
            None => write!(text, "of none of them {order} says that no row before it is left"),
        };
        if self.left_out > 0 {
            let _ = write!(text, ", but for those left out ({})", count(self.left_out));
        }
        let _ = write!(text, "; the rest: {}", self.arguments(order));
        if self.unnumbered > 0 {
            let _ = write!(text, " (with all of the {} rows without a number)", count(self.unnumbered));
        }
        text
    }

    /// The rest as it is typed.
    fn arguments(&self, order: &str) -> String {
        let Selection { condition, since, from, to, outboxes } = self.selection;
        let order = quoted(order);
        let behind = self.through.map(|through| format!("{order} > {through}"));
        let up_to = self.highest.map(|highest| format!("{order} <= {highest}"));
        let mut bounds = behind.into_iter().chain(up_to).collect::<Vec<_>>().join(" and ");
        if self.unnumbered > 0 {
            bounds = match bounds.as_str() {
                "" => format!("{order} is null"),
                _ => format!("({bounds} or {order} is null)"),
            };
        }
        let asked = condition.as_deref().unwrap_or("true");
        // A comment at its end ends there.
        let end = if asked.contains("--") { "\n" } else { "" };
        let mut text = format!("--where {}", in_shell(&format!("({asked}{end}) and {bounds}")));
        if let Some(since) = since {
            let mut time = Vec::new();
            time::write_rfc3339(*since, &mut time);
            let _ = write!(text, " --since {}", String::from_utf8_lossy(&time));
        }
        for (option, number) in [("--from-id", from), ("--to-id", to)] {
            let _ = number.map(|number| write!(text, " {option} {number}"));
        }
        for outbox in outboxes {
            let _ = write!(text, " --outbox {}", in_shell(outbox));
        }
        if let Some(topic) = self.to {
            let _ = write!(text, " --to {topic}");
        }
        text
    }
}

/// Text as one word of a shell.
fn in_shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(is_unique: bool, numbers: &[Option<i64>]) -> Reached {
        let mut reached = Reached::new(is_unique);
        for (sequence, number) in numbers.iter().enumerate() {
            reached.push(sequence as u64, *number);
        }
        reached
    }

    #[test]
    fn a_number_is_passed_when_another_one_follows() {
        let numbers = [Some(1), Some(2), Some(2), Some(2), Some(5), None];
        let mut ties = reached(false, &numbers);
        let mut unique = reached(true, &[Some(1), Some(2), Some(4)]);
        let through: Vec<_> = (0..=6)
            .map(|oldest| {
                ties.acknowledge(oldest);
                ties.through()
            })
            .collect();
        assert_eq!(through, [None, Some(1), Some(1), Some(1), Some(2), Some(5), Some(5)]);
        unique.acknowledge(3);
        assert_eq!(unique.through(), Some(4), "no other can have it");
        let mut last = reached(false, &[Some(1), Some(2)]);
        last.acknowledge(2);
        assert_eq!(last.through(), Some(1), "more of the last may come");
        let mut without = reached(false, &[None, None]);
        without.acknowledge(2);
        assert_eq!(without.through(), None);
    }

    fn rest<'a>(selection: &'a Selection) -> Rest<'a> {
        Rest {
            table: "s.t",
            order: Some("id"),
            selection,
            to: None,
            sent: 10,
            total: 1_200,
            left_out: 0,
            through: Some(12),
            highest: Some(3_000),
            unnumbered: 0,
        }
    }

    #[test]
    fn the_rest_can_be_typed_as_it_is_printed() {
        let condition = |text: &str| Selection { condition: Some(text.to_owned()), ..Selection::default() };
        let all = condition("true");
        assert_eq!(
            rest(&all).stood_at(),
            "stopped  10 of 1,200 rows are in Kafka: those of s.t up to id = 12; the rest: --where '(true) and \"id\" > 12 and \
             \"id\" <= 3000'"
        );
        let selection = Selection {
            since: Some(1_000_000),
            from: Some(-3),
            to: Some(900),
            outboxes: vec!["s.it's".into()],
            ..condition("kind = 'a' -- b")
        };
        assert_eq!(
            Rest { to: Some("again"), ..rest(&selection) }.arguments("id"),
            "--where '(kind = '\\''a'\\'' -- b\n) and \"id\" > 12 and \"id\" <= 3000' --since 1970-01-01T00:00:01.000000Z --from-id -3 \
             --to-id 900 --outbox 's.it'\\''s' --to again"
        );
    }

    #[test]
    fn rows_without_a_number_are_part_of_the_rest() {
        let all = Selection::default();
        let of = |through, highest| Rest { through, highest, unnumbered: 4, ..rest(&all) }.stood_at();
        let said = of(Some(12), Some(3_000));
        let expected =
            "--where '(true) and (\"id\" > 12 and \"id\" <= 3000 or \"id\" is null)' (with all of the 4 rows";
        assert!(said.contains(expected), "{said}");
        let said = of(None, None);
        assert!(
            said.contains("10 of 1,200") && said.contains("--where '(true) and \"id\" is null'"),
            "{said}"
        );
    }

    #[test]
    fn rows_that_give_no_record_are_not_said_to_be_in_kafka() {
        let all = Selection::default();
        let said = Rest { left_out: 2, ..rest(&all) }.stood_at();
        assert!(said.contains("up to id = 12, but for those left out (2); the rest"), "{said}");
        let none = Rest { sent: 0, through: None, ..rest(&all) }.stood_at();
        assert_eq!(none, "stopped  before the first row of s.t was in Kafka");
    }
}
