//! What the kernel has counted for a process. Linux only.

use std::fs;

use anyhow::{Context, Result};
use harness::stack::{Output, script};

/// Clock ticks a second in `/proc` (`USER_HZ`, 100 on every Linux that runs here).
const TICKS: f64 = 100.0;

/// CPU seconds of a process, user and system.
pub(crate) fn of_process(id: u32) -> Result<f64> {
    Ok(fields(&id.to_string(), [11, 12])?.0)
}

/// CPU seconds of all children that this process has waited for.
pub(crate) fn of_ended_children() -> Result<f64> {
    Ok(fields("self", [13, 14])?.0)
}

/// The most memory a process has had in RAM, in bytes.
pub(crate) fn peak_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// The servers of the development stack, which are on this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Servers {
    postmaster: u32,
    broker: u32,
}

impl Servers {
    /// Finds them.
    pub(crate) async fn find() -> Result<Self> {
        let printed = script(&["status", "--instance", "dev"], Output::Quiet).await?;
        let id = |server: &str| {
            let line = printed.lines().find(|line| line.contains(server) && line.contains(" pid "));
            let id =
                line.and_then(|line| line.split(" pid ").nth(1)?.split_whitespace().next()?.parse().ok());
            id.with_context(|| format!("{server} of the development stack does not run here: `make dev-up`"))
        };
        Ok(Self { postmaster: id("postgres")?, broker: id("kafka")? })
    }

    /// CPU seconds of all processes of Postgres, ended ones included.
    pub(crate) fn postgres(&self) -> Result<f64> {
        let parent = self.postmaster.to_string();
        let mut total = fields(&parent, [11, 12])?.0 + fields(&parent, [13, 14])?.0;
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            // A process may end while we read of it.
            if let Ok((seconds, of)) = fields(&name, [11, 12])
                && of == self.postmaster
            {
                total += seconds;
            }
        }
        Ok(total)
    }

    /// CPU seconds of the broker.
    pub(crate) fn broker(&self) -> Result<f64> {
        of_process(self.broker)
    }
}

/// Adds fields of `/proc/PID/stat`, counted from behind the program's name (proc(5), fields 14 to 17 there); and the
/// parent's id.
fn fields(process: &str, indices: [usize; 2]) -> Result<(f64, u32)> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    let (_, rest) = stat.rsplit_once(") ").with_context(|| path.clone())?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).context("a short line")?.parse()?) };
    let parent = fields.get(1).context("a short line")?.parse()?;
    Ok(((ticks(indices[0])? + ticks(indices[1])?) / TICKS, parent))
}
