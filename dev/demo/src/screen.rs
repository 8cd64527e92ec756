//! What is printed, and when.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use harness::Audit;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// Lines with the time since the start in front of them; in colour on a terminal, unless `NO_COLOR` is set
/// (<https://no-color.org>).
#[derive(Debug)]
pub(crate) struct Screen {
    started: Instant,
    coloured: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { started: Instant::now(), coloured: wanted && std::io::stdout().is_terminal() }
    }

    /// The heading of what comes next.
    pub(crate) fn section(&self, title: &str) {
        println!("\n{}", self.paint(BOLD, title));
    }

    /// Something has happened.
    pub(crate) fn line(&self, text: &str) {
        println!("{} {text}", self.time());
    }

    /// Something is asked of the service.
    pub(crate) fn call(&self, text: &str) {
        println!("{} {}", self.time(), self.paint(CYAN, text));
    }

    /// More about the line before.
    pub(crate) fn detail(&self, name: &str, value: &str) {
        println!("{:8}   {} {value}", "", self.paint(DIM, &format!("{name:<20}")));
    }

    /// An aside.
    pub(crate) fn note(&self, text: &str) {
        println!("{} {}", self.time(), self.paint(DIM, text));
    }

    /// A line for a person to paste.
    pub(crate) fn command(&self, what: &str, command: &str) {
        println!("\n  {}\n  {command}", self.paint(DIM, &format!("# {what}")));
    }

    /// Why it ends here.
    pub(crate) fn failure(&self, error: &anyhow::Error) {
        eprintln!("\n{} {error:#}", self.paint(RED, "failed:"));
    }

    /// The last line.
    ///
    /// # Errors
    /// When a promise was broken, so that the exit code says so too.
    pub(crate) fn verdict(&self, audit: &Audit) -> Result<()> {
        if !audit.holds() {
            bail!("the promise was broken: {audit}");
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let verdict = self.paint(GREEN, "every event arrived, in order per key");
        println!("\n{verdict}: {audit}. {seconds:.1} s in all.");
        Ok(())
    }

    fn time(&self) -> String {
        self.paint(DIM, &format!("{:>+7.2}s", self.started.elapsed().as_secs_f64()))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A duration as a person reads it.
pub(crate) fn human(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// A count with its thousands set apart.
pub(crate) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(human(Duration::from_micros(3200)), "3.2 ms");
        assert_eq!(human(Duration::from_millis(1500)), "1.50 s");
    }
}
