//! How far a long command is, for people: on standard error, so that what it found can be read by a program.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Between two looks at a terminal.
const SHOWN_EVERY: Duration = Duration::from_millis(500);

/// Between two lines of a log.
const LOGGED_EVERY: Duration = Duration::from_secs(10);

/// Shows how far something is.
pub(super) struct Progress {
    is_terminal: bool,
    shown: Instant,
    /// What stands on the terminal's last line has to be gone before another text.
    is_dirty: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { is_terminal, shown: Instant::now(), is_dirty: false }
    }

    /// Shows it, where the last time is long enough ago.
    pub(super) fn step(&mut self, text: impl FnOnce() -> String) {
        let every = if self.is_terminal { SHOWN_EVERY } else { LOGGED_EVERY };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let mut err = std::io::stderr().lock();
        // Nobody needs it who cannot read it.
        let _ = if self.is_terminal {
            self.is_dirty = true;
            write!(err, "\r{}\x1b[K", text())
        } else {
            writeln!(err, "walpost: {}", text())
        };
        let _ = err.flush();
    }

    /// Takes it away.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.is_dirty) {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// A number with commas, as people read it.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(count(number), text);
        }
    }
}
