//! URIs: `postgresql://user:password@host1:5432,host2/dbname?sslmode=require` (`conninfo_uri_parse_options` of libpq).

use crate::keywords::Values;
use crate::text::is_blank;

/// What stands behind the scheme, where the text is a URI.
pub(crate) fn after_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"))
}

pub(crate) fn parse(text: &str) -> Result<Values, String> {
    let mut values = Values::default();
    let rest = credentials(&mut values, text)?;
    let rest = hosts(&mut values, rest)?;
    let (name, parameters) = match rest.strip_prefix('/') {
        Some(rest) => rest.split_once('?').unwrap_or((rest, "")),
        None => ("", rest.strip_prefix('?').unwrap_or("")),
    };
    if !name.is_empty() {
        values.set("dbname", decoded(name, "database")?)?;
    }
    query(&mut values, parameters)?;
    Ok(values)
}

/// `user:password@`; returns what is behind.
fn credentials<'a>(values: &mut Values, text: &'a str) -> Result<&'a str, String> {
    let Some(at) = text.find(['@', '/']).filter(|at| text[*at..].starts_with('@')) else { return Ok(text) };
    let (user, password) = text[..at].split_once(':').unwrap_or((&text[..at], ""));
    if !user.is_empty() {
        values.set("user", decoded(user, "user")?)?;
    }
    if !password.is_empty() {
        values.set("password", decoded(password, "password")?)?;
    }
    Ok(&text[at + 1..])
}

/// `host:port,host:port`; returns what is behind, with the slash or question mark in front of it.
fn hosts<'a>(values: &mut Values, text: &'a str) -> Result<&'a str, String> {
    let (mut hosts, mut ports) = (String::new(), String::new());
    let mut rest = text;
    loop {
        let (host, after) = host(rest)?;
        hosts.push_str(host);
        rest = after;
        if let Some(port) = rest.strip_prefix(':') {
            let end = port.find(['/', '?', ',']).unwrap_or(port.len());
            ports.push_str(&port[..end]);
            rest = &port[end..];
        }
        let Some(next) = rest.strip_prefix(',') else { break };
        hosts.push(',');
        ports.push(',');
        rest = next;
    }
    // libpq takes it for a part of the name, and says it in every error.
    if hosts.contains('@') {
        return Err("there is an `@` in a host of the URI: in a user or a password it is written %40".into());
    }
    if !hosts.is_empty() {
        values.set("host", decoded(&hosts, "host")?)?;
    }
    if !ports.is_empty() {
        values.set("port", decoded(&ports, "port")?)?;
    }
    Ok(rest)
}

fn host(text: &str) -> Result<(&str, &str), String> {
    let Some(bracketed) = text.strip_prefix('[') else {
        return Ok(text.split_at(text.find([':', '/', '?', ',']).unwrap_or(text.len())));
    };
    let (host, after) =
        bracketed.split_once(']').ok_or("there is no `]` behind an IPv6 address in the URI")?;
    if host.is_empty() {
        return Err("an IPv6 address is empty in the URI".into());
    }
    if !(after.is_empty() || after.starts_with([':', '/', '?', ','])) {
        return Err("behind an IPv6 address the URI has neither `:` nor `/`".into());
    }
    Ok((host, after))
}

/// `name=value&name=value`.
fn query(values: &mut Values, text: &str) -> Result<(), String> {
    let mut rest = text;
    while !rest.is_empty() {
        let (one, after) = rest.split_once('&').unwrap_or((rest, ""));
        rest = after;
        let (name, value) = one.split_once('=').ok_or("a parameter of the URI has no `=`")?;
        let name = decoded(name, "name of a parameter")?;
        if value.contains('=') {
            return Err("a parameter of the URI has another `=` in its value: write it %3D".into());
        }
        let value = decoded(value, "value of a parameter")?;
        // As JDBC writes it.
        let (name, value) = match (name.as_str(), value.as_str()) {
            ("ssl", "true") => ("sslmode", "require".to_owned()),
            (name, _) => (name, value),
        };
        values.set(name, value)?;
    }
    Ok(())
}

/// Replaces `%xy`. Blanks at either end are passed over, and none may stand inside, as from libpq 18 on.
fn decoded(text: &str, what: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.trim_matches(is_blank).bytes();
    while let Some(byte) = rest.next() {
        match byte {
            byte if is_blank(byte.into()) => {
                return Err(format!("the {what} of the URI has a blank: write it %20"));
            }
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let byte = digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                match byte {
                    Some(0) => return Err(format!("the {what} of the URI has a %00")),
                    Some(byte) => bytes.push(byte),
                    None => {
                        let advice = "a percent sign is written %25";
                        return Err(format!("the {what} of the URI has a `%` without two digits: {advice}"));
                    }
                }
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("the {what} of the URI is not UTF-8"))
}
