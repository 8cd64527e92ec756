//! What systemd is told of a service of `Type=notify` (sd_notify(3)): that it is ready, how it is, that it still turns.
//!
//! Where nobody asks (`NOTIFY_SOCKET` is not set), nothing is sent. A service manager that does not read, because it is busy with
//! itself, is not waited for: the socket takes ten messages (`net.unix.max_dgram_qlen`), and with one more a program would
//! stand still.

use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use sd_notify::NotifyState;

/// How often the state is looked at where systemd asks for no watchdog.
const LOOK: Duration = Duration::from_secs(1);

/// Keeps telling systemd how the program is. It is to run on the runtime whose turning is the program's life: while that
/// hangs no watchdog message is sent, and systemd starts the program anew after `WatchdogSec=`. What passes by itself, such as
/// a server that is away, is no reason for that, and the messages go on.
///
/// `look` says whether the program has started, and in a line how it is (`systemctl status` shows it). `READY=1` is sent when it
/// has for the first time. What else has to turn may be waited for in it.
pub async fn keep_telling<L: Future<Output = (bool, String)>>(mut look: impl FnMut() -> L) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // Three times in the time that systemd allows: one may be late.
    let every = watchdog.map_or(LOOK, |allowed| LOOK.min(allowed / 3));
    let (mut was_ready, mut shown) = (false, String::new());
    loop {
        let (has_started, line) = look().await;
        let mut states = Vec::new();
        if has_started && !was_ready {
            states.push(NotifyState::Ready);
        }
        if line != shown {
            states.push(NotifyState::Status(&line));
        }
        if watchdog.is_some() {
            states.push(NotifyState::Watchdog);
        }
        // What was not taken is said again.
        if send(&states) {
            was_ready |= has_started;
            shown = line;
        }
        tokio::time::sleep(every).await;
    }
}

/// Tells systemd that the program ends by itself, for as long as `TimeoutStopSec=` allows.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Whether systemd has taken it, or nobody asks.
fn send(states: &[NotifyState<'_>]) -> bool {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return true };
    let sent = send_to(&path, states);
    if let Err(error) = &sent {
        tracing::debug!(%error, "systemd cannot be told");
    }
    sent.is_ok()
}

fn send_to(path: &OsStr, states: &[NotifyState<'_>]) -> io::Result<()> {
    if states.is_empty() {
        return Ok(());
    }
    let mut message = String::new();
    for state in states {
        let _ = writeln!(message, "{state}");
    }
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    socket.send(message.as_bytes()).map(drop)
}
