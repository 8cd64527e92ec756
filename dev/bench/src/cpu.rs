//! What the kernel has counted for a process. Linux only.

use std::fs;

use anyhow::{Context, Result};

/// Clock ticks a second in `/proc` (`USER_HZ`, 100 on every Linux that runs here).
const TICKS: f64 = 100.0;

/// CPU seconds of a process, user and system.
pub(crate) fn of_process(id: u32) -> Result<f64> {
    fields(&id.to_string(), [11, 12])
}

/// CPU seconds of all children that this process has waited for.
pub(crate) fn of_ended_children() -> Result<f64> {
    fields("self", [13, 14])
}

/// Adds fields of `/proc/PID/stat`, counted from behind the program's name (proc(5), fields 14 to 17 there).
fn fields(process: &str, indices: [usize; 2]) -> Result<f64> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    let (_, rest) = stat.rsplit_once(") ").with_context(|| path.clone())?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).context("a short line")?.parse()?) };
    Ok((ticks(indices[0])? + ticks(indices[1])?) / TICKS)
}
