//! Files that libpq looks for where none is named: passwords, certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::address::{Address, Place};

/// A file in the home folder, where there is one.
pub(crate) fn at_home(home: Option<&str>, name: &str) -> Option<PathBuf> {
    Some(Path::new(home?).join(name)).filter(|path| path.is_file())
}

/// The password in a file of passwords (PostgreSQL, "The Password File"). One that others may read is passed over.
pub(crate) fn password(path: &Path, address: &Address, database: &str, user: &str) -> Option<String> {
    let is_private = fs::metadata(path).ok()?.permissions().mode() & 0o077 == 0;
    let lines = if is_private { fs::read_to_string(path).ok()? } else { return None };
    let host = match &address.place {
        Place::Tcp { host, .. } => host.as_str(),
        Place::Socket(folder) => folder.to_str()?,
    };
    let (port, asked) = (address.port.to_string(), |line: &str| !line.starts_with('#'));
    let mut lines = lines.lines().filter(|line| asked(line));
    lines.find_map(|line| {
        let fields = fields(line)?;
        let wanted = [host, &port, database, user];
        let fits =
            fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || unescaped(field) == wanted);
        fits.then(|| unescaped(&fields[4]))
    })
}

/// `host:port:database:user:password`, with `\:` for a colon; what comes behind one more is passed over.
fn fields(line: &str) -> Option<[String; 5]> {
    let (mut fields, mut field) = (Vec::new(), String::new());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' if fields.len() == 4 => break,
            ':' => fields.push(std::mem::take(&mut field)),
            '\\' => {
                field.push(c);
                field.extend(chars.next());
            }
            c => field.push(c),
        }
    }
    fields.push(field);
    fields.try_into().ok()
}

fn unescaped(field: &str) -> String {
    let mut text = String::new();
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    text
}
