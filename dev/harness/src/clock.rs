//! A program whose clock is off: a small library, made by the C compiler that Rust links with, is loaded before it.
//!
//! It counts for programs that ask the system's C library for the time, as those of Rust on Linux do; not for ones that
//! are linked statically.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::tail;
use crate::program::Program;

const SOURCE: &str = include_str!("clock.c");

/// The library. It goes when this is dropped: not before the programs that have it have started.
#[derive(Debug)]
pub struct OffClock {
    folder: PathBuf,
}

impl OffClock {
    /// Makes it.
    ///
    /// # Errors
    /// On other systems than Linux, or where there is no C compiler.
    pub fn make() -> Result<Self> {
        ensure!(cfg!(target_os = "linux"), "a clock can be off on Linux only");
        let folder = std::env::temp_dir().join(format!("harness-clock-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder)?;
        let made = Self { folder };
        let source = made.folder.join("clock.c");
        std::fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(made.library()).arg(&source).arg("-ldl");
        let run = compiler.output().context("there is no C compiler: cc")?;
        ensure!(
            run.status.success(),
            "cc makes no library of clock.c:\n{}",
            tail(&String::from_utf8_lossy(&run.stderr))
        );
        Ok(made)
    }

    fn library(&self) -> PathBuf {
        self.folder.join("clock.so")
    }
}

impl Drop for OffClock {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Program {
    /// Its clock is so many hours ahead, or behind.
    #[must_use]
    pub fn with_clock_off_by(self, hours: i32, clock: &OffClock) -> Self {
        let seconds = i64::from(hours) * 3_600;
        self.env("LD_PRELOAD", clock.library()).env("CLOCK_OFF_S", seconds.to_string())
    }
}
