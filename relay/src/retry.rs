//! Back-off with jitter: how long to wait before the next try.

use std::time::Duration;

/// Waits that double from `first` to `longest`, each drawn from its upper half so that relays which lost the same
/// server do not come back in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// A back-off at its start.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The next wait. `draw` is a random number from 0 to 1.
    pub fn wait(&mut self, draw: f64) -> Duration {
        let wait = self.next.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0);
        self.next = (self.next * 2).min(self.longest);
        wait
    }

    /// It worked: the next failure starts from the first wait again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(MS(100), MS(350));
        let waits: Vec<_> = (0..4).map(|_| backoff.wait(1.0)).collect();
        assert_eq!(waits, [MS(100), MS(200), MS(350), MS(350)]);
        backoff.reset();
        assert_eq!(backoff.wait(1.0), MS(100));
    }

    #[test]
    fn jitter_takes_up_to_half_of_a_wait() {
        assert_eq!(Backoff::new(MS(100), MS(100)).wait(0.0), MS(50));
        assert_eq!(Backoff::new(MS(100), MS(100)).wait(0.5), MS(75));
    }
}
