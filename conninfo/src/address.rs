//! Where a server may be: hosts, their addresses and ports, each list with a comma between two.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::Password;
use crate::keywords::Values;

/// Without a host.
const LOCALHOST: &str = "localhost";

const PORT: u16 = 5432;

/// One place where a server may be.
#[derive(Debug, Clone)]
pub struct Address {
    /// The name to look up, or to connect to.
    pub place: Place,
    /// The port, also part of a socket's name.
    pub port: u16,
    /// The password of the role there, where one is known.
    pub password: Option<Password>,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// By the name, which is looked up and which a certificate is compared with; or by this address, without a look-up.
    Tcp {
        /// The name, or an address as text.
        host: String,
        /// The address (`hostaddr`).
        addr: Option<IpAddr>,
    },
    /// By the socket in this folder.
    Socket(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, .. } if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Place::Tcp { host, .. } => write!(f, "{host}:{}", self.port),
            Place::Socket(folder) => write!(f, "{}:{}", folder.display(), self.port),
        }
    }
}

/// All of them; passwords are not known yet.
pub(crate) fn all(values: &Values) -> Result<Vec<Address>, String> {
    let list = |name: &str| values.some(name).map(|text| text.split(',').collect::<Vec<_>>());
    let (hosts, addrs) = (list("host"), list("hostaddr"));
    let count = addrs.as_ref().or(hosts.as_ref()).map_or(1, Vec::len);
    if let Some(hosts) = hosts.as_ref().filter(|hosts| hosts.len() != count) {
        return Err(format!("{} names in host and {count} addresses in hostaddr do not match", hosts.len()));
    }
    let ports = match list("port") {
        None => vec![PORT; count],
        Some(ports) => {
            let ports = ports.into_iter().map(port).collect::<Result<Vec<_>, _>>()?;
            match ports.as_slice() {
                [one] => vec![*one; count],
                ports if ports.len() == count => ports.to_vec(),
                ports => return Err(format!("{} ports and {count} hosts do not match", ports.len())),
            }
        }
    };
    let nth = |list: &Option<Vec<&str>>, index: usize| {
        list.as_ref().and_then(|list| list.get(index).copied()).unwrap_or_default().to_owned()
    };
    let places = (0..count).map(|index| place(nth(&hosts, index), &nth(&addrs, index)));
    let addresses =
        places.zip(ports).map(|(place, port)| Ok(Address { place: place?, port, password: None }));
    addresses.collect()
}

fn place(host: String, addr: &str) -> Result<Place, String> {
    if !addr.is_empty() {
        let parsed = addr.parse().map_err(|_| format!("hostaddr `{addr}` is no IP address"))?;
        let host = if host.is_empty() { addr.to_owned() } else { host };
        return Ok(Place::Tcp { host, addr: Some(parsed) });
    }
    match host.as_str() {
        "" => Ok(Place::Tcp { host: LOCALHOST.into(), addr: None }),
        text if text.starts_with('/') => Ok(Place::Socket(host.into())),
        text if text.starts_with('@') => {
            Err(format!("host `{text}`: sockets without a file are not known here"))
        }
        _ => Ok(Place::Tcp { host, addr: None }),
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.trim() {
        "" if text.is_empty() => Ok(PORT),
        number => match number.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err("a port is no number from 1 to 65535".into()),
        },
    }
}
