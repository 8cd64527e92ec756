//! What systemd is told of a service of `Type=notify` (sd_notify(3)): that it is ready, how it is, that it still turns.
//!
//! Where nobody asks (`NOTIFY_SOCKET` is not set), nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;

/// How often the state is looked at where systemd asks for no watchdog.
const LOOK: Duration = Duration::from_secs(1);

/// Keeps telling systemd how the program is. It is to run on the runtime whose turning is the program's life: while that
/// hangs no watchdog message is sent, and systemd starts the program anew after `WatchdogSec=`. What passes by itself, such as
/// a server that is away, is no reason for that, and the messages go on.
///
/// `look` says whether the program serves, and in a line how it is (`systemctl status` shows it). `READY=1` is sent when it
/// serves for the first time.
pub async fn keep_telling(mut look: impl FnMut() -> (bool, String)) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // Three times in the time that systemd allows: one may be late.
    let every = watchdog.map_or(LOOK, |allowed| LOOK.min(allowed / 3));
    let (mut was_ready, mut shown) = (false, String::new());
    loop {
        let (serves, line) = look();
        let mut states = Vec::new();
        if serves && !was_ready {
            states.push(NotifyState::Ready);
        }
        if line != shown {
            states.push(NotifyState::Status(&line));
        }
        if watchdog.is_some() {
            states.push(NotifyState::Watchdog);
        }
        send(&states);
        was_ready |= serves;
        shown = line;
        tokio::time::sleep(every).await;
    }
}

/// Tells systemd that the program ends by itself, for as long as `TimeoutStopSec=` allows.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(states: &[NotifyState<'_>]) {
    if !states.is_empty()
        && let Err(error) = sd_notify::notify(states)
    {
        tracing::debug!(%error, "systemd cannot be told");
    }
}
