//! Where a connection string is written. It is read again for each connection: passwords are rotated, and tokens run out,
//! be they in the string or in a file of passwords.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};

use crate::Conninfo;

/// A connection string, or a file that holds one, and the variables for what it leaves out.
pub struct Source {
    text: Text,
    env: Vec<(String, String)>,
    judge: Judge,
    /// What it said last.
    last: Mutex<Conninfo>,
}

/// What else must hold of it, for the program that connects; it is given the environment as well.
pub type Judge = fn(&Conninfo, &[(String, String)]) -> Result<(), String>;

enum Text {
    Given(SecretString),
    File(PathBuf),
}

impl fmt::Debug for Source {
    /// Passwords are in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl Source {
    /// A string that stays as it is, or `file`, from which it was read just now. What it leaves out may come from files in
    /// both cases.
    ///
    /// # Errors
    /// What is wrong with it; no text holds a password.
    pub fn new(
        text: SecretString,
        file: Option<PathBuf>,
        env: &[(String, String)],
        judge: Judge,
    ) -> Result<Self, String> {
        let env: Vec<_> =
            env.iter().filter(|(name, _)| name.starts_with("PG") || name == "HOME").cloned().collect();
        if file.is_some() && text.expose_secret().trim().is_empty() {
            return Err(EMPTY.into());
        }
        let last = Mutex::new(judged(text.expose_secret(), &env, judge)?);
        let text = file.map_or(Text::Given(text), Text::File);
        Ok(Self { text, env, judge, last })
    }

    /// What it said last, without reading it again.
    pub fn last(&self) -> Conninfo {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it says now or, where it cannot be read or makes no sense, what it said last.
    pub fn current(&self) -> Conninfo {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read() {
            Ok(conninfo) => *last = conninfo,
            Err(error) => {
                tracing::warn!(error, "what says where Postgres is cannot be read: what it said last counts")
            }
        }
        last.clone()
    }

    fn read(&self) -> Result<Conninfo, String> {
        match &self.text {
            Text::Given(text) => judged(text.expose_secret(), &self.env, self.judge),
            Text::File(path) => {
                let text = settings::read_secret(path).map_err(|error| error.to_string())?;
                if text.trim().is_empty() {
                    return Err(EMPTY.into());
                }
                judged(&text, &self.env, self.judge)
            }
        }
    }
}

/// Of a file that is being written: with no words at all the defaults would lead anywhere.
const EMPTY: &str = "the file is empty";

fn judged(text: &str, env: &[(String, String)], judge: Judge) -> Result<Conninfo, String> {
    let conninfo = Conninfo::parse(text, env)?.for_writes()?;
    judge(&conninfo, env)?;
    Ok(conninfo)
}

#[cfg(test)]
mod tests {
    use anyhow::{Result, anyhow};
    use harness::SecretFile;

    use super::*;
    use crate::SslMode;

    /// As a program that cannot do all that libpq does.
    fn judge(conninfo: &Conninfo, _env: &[(String, String)]) -> Result<(), String> {
        if conninfo.tls.mode == SslMode::VerifyCa { Err("not here".into()) } else { Ok(()) }
    }

    #[test]
    fn what_is_refused_at_the_start_is_refused_later_and_what_was_said_last_counts() -> Result<()> {
        let text = "postgres://me@a/shop?sslmode=verify-full";
        let file = SecretFile::new("conninfo-source", text)?;
        let path = Some(file.path().to_owned());
        let source = Source::new(text.to_owned().into(), path.clone(), &[], judge).map_err(|e| anyhow!(e))?;
        for wrong in [
            "postgres://me@b/shop?sslmode=verify-ca&sslrootcert=/ca",
            "",
            "  ",
            "no words",
            "user=me target_session_attrs=standby",
        ] {
            file.write(wrong)?;
            let current = source.current();
            assert_eq!(
                (current.addresses[0].to_string().as_str(), current.tls.mode),
                ("a:5432", SslMode::VerifyFull)
            );
        }
        file.write("postgres://me@b/shop")?;
        assert_eq!(source.current().addresses[0].to_string(), "b:5432");
        assert!(Source::new(String::new().into(), path, &[("PGUSER".into(), "me".into())], judge).is_err());
        Ok(())
    }
}
