use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::wait_until;
use tokio::net::UnixDatagram;

use crate::case::{Case, SOON};

/// As the unit has it, in small.
const WATCHDOG: Duration = Duration::from_millis(900);

/// Where systemd listens to a service of `Type=notify`.
pub(crate) struct Systemd {
    socket: UnixDatagram,
    pub(crate) path: PathBuf,
}

impl Systemd {
    pub(crate) fn listen(case: &Case) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("{}.notify", case.database.name()));
        let socket = UnixDatagram::bind(&path).context("a socket in /tmp")?;
        Ok(Self { socket, path })
    }

    async fn message(&self) -> Result<String> {
        let mut bytes = vec![0; 64 << 10];
        let length = self.socket.recv(&mut bytes).await?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// All that is said up to the message in which `line` is, and that one.
    pub(crate) async fn hear(&self, line: &str) -> Result<Vec<String>> {
        let hearing = async {
            let mut heard = Vec::new();
            loop {
                heard.push(self.message().await?);
                if heard.last().is_some_and(|message| message.lines().any(|said| said == line)) {
                    return anyhow::Ok(heard);
                }
            }
        };
        tokio::time::timeout(SOON, hearing).await.with_context(|| format!("{line} was not heard"))?
    }

    /// What is waiting is read; then nothing comes for `time`.
    async fn is_silent_for(&self, time: Duration) -> Result<()> {
        let mut bytes = vec![0; 64 << 10];
        while self.socket.try_recv(&mut bytes).is_ok() {}
        match tokio::time::timeout(time, self.message()).await {
            Err(_) => Ok(()),
            Ok(message) => bail!("heard {}", message?),
        }
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn as_service(case: Case, systemd: &Systemd) -> Case {
    let path = systemd.path.display().to_string();
    case.with("NOTIFY_SOCKET", &path).with("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string())
}

#[tokio::test]
async fn systemd_hears_ready_when_events_flow_or_it_stands_by_and_stopping_when_it_drains() -> Result<()> {
    let case = Case::new().await?;
    let systemd = Systemd::listen(&case)?;
    let case = as_service(case, &systemd);
    case.relay.init().await?;
    let mut first = case.relay.run()?;
    let heard = systemd.hear("READY=1").await?;
    let early = heard[..heard.len() - 1].concat();
    assert!(!early.contains("STATUS=streaming"), "it was ready before it said so: {heard:?}");
    let last = heard.last().context("a message")?;
    // A copy of nothing may be over before anybody has looked.
    if !last.contains("STATUS=streaming") {
        assert!(last.contains("STATUS=backfilling"), "{last}");
        systemd.hear("STATUS=streaming").await?;
    }

    let mut second = case.relay.beside()?.run()?;
    let heard = systemd.hear("READY=1").await?;
    assert!(heard.last().is_some_and(|message| message.contains("STATUS=standby: ")), "{heard:?}");
    // They are listened to meanwhile: what the socket has no room for is not said again at an end.
    tokio::try_join!(first.terminate(SOON), systemd.hear("STOPPING=1"))?;
    systemd.hear("STATUS=streaming").await?;
    tokio::try_join!(second.terminate(SOON), systemd.hear("STOPPING=1"))?;
    Ok(())
}

/// What systemd does not read in time holds up neither events nor the end.
#[tokio::test]
async fn a_service_manager_that_is_busy_with_itself_holds_up_nothing() -> Result<()> {
    let case = Case::new().await?;
    let systemd = Systemd::listen(&case)?;
    let case = as_service(case, &systemd);
    let mut relay = case.relay.init_and_run().await?;
    let filler = std::os::unix::net::UnixDatagram::unbound()?;
    filler.set_nonblocking(true)?;
    wait_until("the socket is full", SOON, async || Ok(filler.send_to(b"x", &systemd.path).is_err())).await?;
    case.commit(10, 5, 1).await?;
    case.audit().await.with_context(|| relay.log_tail())?;
    relay.terminate(SOON).await?;
    Ok(())
}

/// What systemd would kill is a process whose loop stands still, and not one that waits for a server.
#[tokio::test]
async fn the_watchdog_hears_a_relay_that_waits_for_postgres_and_not_one_that_stands_still() -> Result<()> {
    let case = Case::new().await?;
    let systemd = Systemd::listen(&case)?;
    let case =
        as_service(case, &systemd).with("WALPOST_DATABASE_URL", "postgres://nobody@127.0.0.1:9/nowhere");
    let relay = case.relay.run()?;
    for _ in 0..3 {
        let heard = systemd.hear("WATCHDOG=1").await?;
        assert!(!heard.concat().contains("READY=1"), "nothing flows: {heard:?}");
    }
    relay.pause().await?;
    systemd.is_silent_for(2 * WATCHDOG).await?;
    relay.resume().await?;
    systemd.hear("WATCHDOG=1").await?;
    Ok(())
}
