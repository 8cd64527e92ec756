//! Standard output, and whether anybody reads it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use tokio::io::Interest;
use tokio::net::unix::pipe;

/// Standard output without a buffer: what a write has returned for is out of this process.
///
/// # Errors
/// When it is closed.
pub fn unbuffered() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Returns when standard output is a pipe whose reader is gone: where nothing is written, no write would tell.
pub async fn nobody_reads() {
    // Linux opens the pipe anew, so that the writes themselves go on to block. What is no pipe has no reader to lose.
    let Ok(pipe) = pipe::OpenOptions::new().open_sender("/proc/self/fd/1") else {
        return std::future::pending().await;
    };
    if pipe.ready(Interest::ERROR).await.is_err() {
        std::future::pending::<()>().await;
    }
}
