//! What a run found, as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::audit::Audit;
use crate::kinds::Kind;

/// What followed a fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recovery {
    pub(crate) took: Duration,
    /// Events that came again.
    pub(crate) repeated: u64,
    /// Halts whose remedy was followed.
    pub(crate) halts: usize,
}

/// What a run found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// From the end of each fault to the first event that was committed after it and arrived.
    pub(crate) recoveries: BTreeMap<Kind, Vec<Recovery>>,
    pub(crate) events: usize,
    pub(crate) transactions: u64,
    pub(crate) lost: usize,
    pub(crate) never_committed: usize,
    pub(crate) duplicates: u64,
    /// Whether each event had to come once only.
    pub(crate) once: bool,
    pub(crate) inversions: Vec<String>,
    pub(crate) unsafe_confirms: Vec<String>,
    /// Halts for what passes by itself.
    pub(crate) needless_halts: Vec<String>,
    /// What `walpost audit` said at the end, where it found a fault.
    pub(crate) audit: Option<String>,
}

impl Report {
    /// Adds what is known of a source at the end.
    pub(crate) fn add(&mut self, ledger: &mut Audit) {
        self.events += ledger.events();
        self.lost += ledger.missing();
        self.never_committed += ledger.never_committed();
        self.duplicates += ledger.duplicates;
        self.inversions.append(&mut ledger.inversions);
        self.unsafe_confirms.append(&mut ledger.unsafe_confirms);
    }

    /// Whether every promise held.
    pub(crate) fn holds(&self) -> bool {
        self.lost == 0
            && !(self.once && self.duplicates > 0)
            && self.never_committed == 0
            && self.inversions.is_empty()
            && self.unsafe_confirms.is_empty()
            && self.needless_halts.is_empty()
            && self.audit.is_none()
    }

    pub(crate) fn faults(&self) -> usize {
        self.recoveries.values().map(Vec::len).sum()
    }
}

/// The value below which so many in a hundred lie (nearest rank).
fn percentile<T: Copy + Default>(sorted: &[T], percent: usize) -> T {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| fault | times | recovery p50 | p99 | max | repeated, p50 | max | halts |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, recoveries: Vec<Recovery>| {
            let mut times: Vec<_> = recoveries.iter().map(|recovery| recovery.took).collect();
            let mut repeated: Vec<_> = recoveries.iter().map(|recovery| recovery.repeated).collect();
            times.sort();
            repeated.sort_unstable();
            let seconds = |percent| percentile(&times, percent).as_secs_f64();
            writeln!(
                f,
                "| {name} | {} | {:.2} s | {:.2} s | {:.2} s | {} | {} | {} |",
                times.len(),
                seconds(50),
                seconds(99),
                seconds(100),
                percentile(&repeated, 50),
                percentile(&repeated, 100),
                recoveries.iter().map(|recovery| recovery.halts).sum::<usize>()
            )
        };
        for (kind, times) in &self.recoveries {
            row(f, kind.name(), times.clone())?;
        }
        row(f, "all", self.recoveries.values().flatten().copied().collect())?;
        writeln!(f)?;
        writeln!(
            f,
            "| events | transactions | lost | never committed | out of order | unsafe confirms | needless halts | duplicates |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        writeln!(
            f,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            self.events,
            self.transactions,
            self.lost,
            self.never_committed,
            self.inversions.len(),
            self.unsafe_confirms.len(),
            self.needless_halts.len(),
            self.duplicates
        )?;
        for found in self.inversions.iter().chain(&self.unsafe_confirms).chain(&self.needless_halts).take(20)
        {
            writeln!(f, "{found}")?;
        }
        if self.audit.is_some() {
            writeln!(f, "walpost audit found a fault: see above")?;
        }
        Ok(())
    }
}
