use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::TokenError;
use crate::token::{LENGTH_MAX, Token};
use walpost_core::clock::unix_millis;

/// How long a command may take: it asks an issuer over a network.
const COMMAND_MAX: Duration = Duration::from_secs(30);

/// Between two looks whether a command has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Before a source that failed is asked again, while the last token is still good.
const AGAIN_MS: i64 = 10_000;

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file that holds one, and is written anew by somebody else.
    File(PathBuf),
    /// A command line for `sh` that prints one.
    Command(String),
}

/// The token of now. All clients of a process share it.
#[derive(Debug)]
pub struct Tokens {
    source: Source,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    token: Arc<Token>,
    /// When another is asked for, milliseconds since 1970-01-01 UTC.
    renew_ms: i64,
}

impl Tokens {
    /// None is fetched yet.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self { source, held: Mutex::new(None) }
    }

    /// The token of now, fetched anew when four fifths of its life are over (as librdkafka does). Blocks while it is fetched;
    /// others wait meanwhile, and take the same.
    ///
    /// # Errors
    /// When there is none, and the last one has expired.
    pub fn current(&self) -> Result<Arc<Token>, TokenError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Held { token, renew_ms }) = &*held
            && unix_millis() < *renew_ms
        {
            return Ok(Arc::clone(token));
        }
        let fetched = self.source.fetch();
        let now = unix_millis();
        match (fetched, &mut *held) {
            (Ok(token), _) => {
                let renew_ms = now + (token.expires_ms - now) / 5 * 4;
                let token = Arc::new(token);
                *held = Some(Held { token: Arc::clone(&token), renew_ms });
                Ok(token)
            }
            (Err(error), Some(Held { token, renew_ms })) if now < token.expires_ms => {
                tracing::warn!(%error, "the token for Kafka is not renewed: the last one is used until it expires");
                *renew_ms = now + AGAIN_MS;
                Ok(Arc::clone(token))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// When another is due, milliseconds since 1970-01-01 UTC; 0 where there is none yet.
    pub(crate) fn renew_ms(&self) -> i64 {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map_or(0, |held| held.renew_ms)
    }
}

impl Source {
    fn fetch(&self) -> Result<Token, TokenError> {
        let (text, place) = match self {
            Self::File(path) => {
                let read = File::open(path).and_then(read);
                let place = format!("the file {}", path.display());
                (read.map_err(|error| TokenError(format!("{place} cannot be read: {error}")))?, place)
            }
            Self::Command(line) => (run(line)?, "what the command prints".to_owned()),
        };
        Token::parse(&text, unix_millis())
            .map_err(|TokenError(reason)| TokenError(format!("{place}: {reason}")))
    }
}

/// No more than a token can have.
fn read(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(2 * LENGTH_MAX as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// What a command prints. What it says beside that is told when it fails.
fn run(line: &str) -> Result<String, TokenError> {
    let failed = |reason: String| TokenError(format!("the command {reason}"));
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(format!("does not start: {error}")))?;
    let (printed, said) = (child.stdout.take(), child.stderr.take());
    // On threads of their own: a full pipe would hold up the command.
    let printed = std::thread::spawn(move || printed.map_or(Ok(String::new()), read));
    let said = std::thread::spawn(move || said.map_or(Ok(String::new()), read));
    let ended = wait(&mut child).map_err(failed)?;
    let printed = printed.join().unwrap_or_else(|_| Ok(String::new()));
    if !ended.success() {
        let said = said.join().ok().and_then(Result::ok).unwrap_or_default();
        let last = said.lines().next_back().unwrap_or_default();
        return Err(failed(format!("ends with {ended}: {}", last.chars().take(200).collect::<String>())));
    }
    printed.map_err(|error| failed(format!("prints what is no text: {error}")))
}

fn wait(child: &mut Child) -> Result<std::process::ExitStatus, String> {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) if started.elapsed() < COMMAND_MAX => std::thread::sleep(LOOK),
            Ok(None) => {
                drop(child.kill());
                drop(child.wait());
                return Err(format!("takes more than {} s", COMMAND_MAX.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn by_command(line: &str) -> Result<Arc<Token>, TokenError> {
        Tokens::new(Source::Command(line.to_owned())).current()
    }

    #[test]
    fn a_token_is_fetched_once_until_it_is_due() {
        let path = std::env::temp_dir().join(format!("kafka-token-{}", std::process::id()));
        std::fs::write(&path, format!("one {}", unix_millis() + 600_000)).unwrap();
        let tokens = Tokens::new(Source::File(path.clone()));
        assert_eq!(tokens.current().unwrap().expose(), "one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(tokens.current().unwrap().expose(), "one");
        let due = tokens.renew_ms() - unix_millis();
        assert!((470_000..=480_000).contains(&due), "{due}");
        tokens.held.lock().unwrap().as_mut().unwrap().renew_ms = 0;
        assert_eq!(tokens.current().unwrap().expose(), "two");
        // It cannot be renewed, and is good.
        std::fs::remove_file(&path).unwrap();
        tokens.held.lock().unwrap().as_mut().unwrap().renew_ms = 0;
        assert_eq!(tokens.current().unwrap().expose(), "two");
        assert!(tokens.renew_ms() > unix_millis());
        assert!(
            Tokens::new(Source::File(path)).current().unwrap_err().to_string().contains("cannot be read")
        );
    }

    #[test]
    fn a_command_prints_a_token_and_says_why_it_does_not() {
        assert_eq!(by_command("echo abc.def").unwrap().expose(), "abc.def");
        let failed = by_command("echo s3cr3t; echo no credentials >&2; exit 3").unwrap_err().to_string();
        assert!(failed.contains("exit status: 3") && failed.contains("no credentials"), "{failed}");
        assert!(!failed.contains("s3cr3t"), "{failed}");
        assert!(by_command("true").unwrap_err().to_string().contains("empty"));
        // More than a pipe holds.
        let much = by_command("head -c 100000 /dev/zero | tr '\\0' a").unwrap_err().to_string();
        assert!(much.contains("RFC 6750"), "{much}");
    }
}
