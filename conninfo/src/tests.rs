#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

fn parsed(text: &str) -> Result<Conninfo, String> {
    Conninfo::parse(text, &[("PGUSER".into(), "me".into())])
}

fn value(text: &str, name: &str) -> Option<String> {
    Values::parse(text).unwrap().get(name).map(str::to_owned)
}

fn places(text: &str) -> Vec<String> {
    parsed(text).unwrap().addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn blanks_quotes_and_backslashes_are_what_they_are_to_libpq() {
    let text = "  sslmode = require\thost=db\n password='it\\'s' user = 'a  b' dbname=a\\ b\\\\c";
    assert_eq!(value(text, "sslmode").unwrap(), "require");
    assert_eq!(value(text, "host").unwrap(), "db");
    assert_eq!(value(text, "user").unwrap(), "a  b");
    assert_eq!(value(text, "dbname").unwrap(), "a b\\c");
    assert_eq!(value("password='a\\'b\\\\'", "password").unwrap(), "a'b\\");
    assert_eq!(value("host= port=5", "host").unwrap(), "port=5", "a value may come after blanks");
    assert_eq!(value("host='' port=5", "host").unwrap(), "");
    assert_eq!(value("host=a host=b", "host").unwrap(), "b");
    assert_eq!(value("requiressl=1", "sslmode").unwrap(), "require");
    for wrong in ["host", "host = a b", "password='it''s'", "password='x", "=5", "host=a,port=5 x"] {
        assert!(Values::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_uri_is_cut_where_libpq_cuts_it() {
    let text = "postgresql://us%65r:p%40?:x@db1:1,[::1]:2,db3/na%20me?sslmode=verify-full&ssl=true&options=-c%20a%3Db";
    assert_eq!(value(text, "user").unwrap(), "user");
    assert_eq!(value(text, "password").unwrap(), "p@?:x");
    assert_eq!(value(text, "host").unwrap(), "db1,::1,db3");
    assert_eq!(value(text, "port").unwrap(), "1,2,");
    assert_eq!(value(text, "dbname").unwrap(), "na me");
    assert_eq!(value(text, "sslmode").unwrap(), "require");
    assert_eq!(value(text, "options").unwrap(), "-c a=b");
    assert_eq!(value("postgres://%2Frun%2fpg/x", "host").unwrap(), "/run/pg");
    assert_eq!(value("postgres:///x?host=a&host=b", "host").unwrap(), "b");
    assert_eq!(value("postgres://u@/", "dbname"), None);
    for wrong in [
        "postgres://[::1",
        "postgres://[]/x",
        "postgres://[::1]x/",
        "postgres://h/%zz",
        "postgres://h/%00",
        "postgres://h/x?sslmode",
        "postgres://h/x?options=a=b",
        "postgres://h/x?nonsense=1",
        "postgres://a b/x",
        "postgres://h/x?Host=a",
    ] {
        assert!(Values::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn hosts_addresses_and_ports_go_together() {
    assert_eq!(places(""), ["localhost:5432"]);
    assert_eq!(places("host=a,b port=1"), ["a:1", "b:1"]);
    assert_eq!(places("host=a,b port=1,"), ["a:1", "b:5432"]);
    assert_eq!(places("host=a,,/run/pg port=1,2,3"), ["a:1", "localhost:2", "/run/pg:3"]);
    assert_eq!(places("postgres://[fe80::1]:7/x"), ["[fe80::1]:7"]);
    let by_address = parsed("host=db hostaddr=10.0.0.5").unwrap();
    let addr: IpAddr = "10.0.0.5".parse().unwrap();
    assert_eq!(by_address.addresses[0].place, Place::Tcp { host: "db".into(), addr: Some(addr) });
    assert_eq!(places("hostaddr=10.0.0.5"), ["10.0.0.5:5432"], "and never localhost");
    for wrong in ["host=a,b port=1,2,3", "host=a hostaddr=1.1.1.1,2.2.2.2", "port=0", "port=x", "hostaddr=db"]
    {
        assert!(parsed(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_verified_is_what_libpq_verifies() {
    let mode = |text: &str| parsed(text).unwrap().tls.mode;
    assert_eq!(mode(""), SslMode::Prefer);
    assert_eq!(mode("sslmode=require"), SslMode::Require);
    assert_eq!(mode("sslmode=require sslrootcert=/a.pem"), SslMode::VerifyCa);
    assert_eq!(mode("sslmode=verify-ca sslrootcert=/a.pem"), SslMode::VerifyCa);
    assert_eq!(mode("sslmode=verify-full"), SslMode::VerifyFull);
    assert_eq!(mode("sslrootcert=system"), SslMode::VerifyFull);
    assert_eq!(parsed("sslcert=/c sslkey=/k").unwrap().tls.client, Some(("/c".into(), "/k".into())));
    assert_eq!(parsed("sslcert=/c sslkey=/k sslcertmode=disable").unwrap().tls.client, None);
    for wrong in [
        "sslmode=",
        "sslmode=verify-ca",
        "sslmode=''",
        "sslmode=Require",
        "sslmode=require sslrootcert=system",
        "sslnegotiation=direct",
        "sslcert=/c",
        "sslpassword=x",
        "channel_binding=require sslmode=disable",
        "gssencmode=require",
        "service=x",
        "require_auth=none",
        "replication=database",
        "target_session_attrs=master",
        "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
        "connect_timeout=soon",
    ] {
        assert!(parsed(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_environment_fills_what_is_left_out_and_no_more() {
    let env = |pairs: &[(&str, &str)]| -> Vec<_> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let full = env(&[
        ("PGHOST", "db"),
        ("PGPORT", "7"),
        ("PGUSER", "me"),
        ("PGSSLMODE", "require"),
        ("PGDATABASE", ""),
    ]);
    let conninfo = Conninfo::parse("port=8", &full).unwrap();
    assert_eq!(conninfo.addresses[0].to_string(), "db:8");
    assert_eq!((conninfo.database.as_str(), conninfo.tls.mode), ("me", SslMode::Require));
    assert!(Conninfo::parse("user=me", &env(&[("PGSERVICE", "x")])).is_err());
    let required = Conninfo::parse("user=me", &env(&[("PGREQUIRESSL", "1")])).unwrap();
    assert_eq!(required.tls.mode, SslMode::Require);
    assert!(Conninfo::parse("host=db", &[]).unwrap_err().contains("PGUSER"));
}

#[test]
fn a_file_of_passwords_has_the_password_of_each_host() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("conninfo-{}.pgpass", std::process::id()));
    std::fs::write(&path, "# a comment\nb:*:*:me:of b\n*:7:shop:me:a\\:b\\\\:passed over\n").unwrap();
    let text = format!("host=a,b,c port=7,7,8 dbname=shop passfile={}", path.display());
    let of = |text: &str| -> Vec<Option<String>> {
        let passwords = parsed(text).unwrap().addresses.into_iter().map(|address| address.password);
        passwords.map(|password| password.map(|password| password.expose_secret().to_owned())).collect()
    };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(of(&text), [Some("a:b\\".into()), Some("of b".into()), None]);
    assert_eq!(of(&format!("{text} password=x")), vec![Some("x".to_owned()); 3]);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(of(&text), [None, None, None], "others may read it");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn no_mistake_tells_a_password() {
    for text in [
        "password=hunter2 host",
        "password='hunter2",
        "postgres://u:hunter2%zz@h/x",
        "postgres://u:hunter2%00@h/x",
        "hunter2",
        "password=correct hunter2",
        "password=correct hunter2=x",
        "postgres://u:hunter2 x@h/",
        "\"postgres://u:hunter2@h/db?sslmode=require\"",
        "\npostgres://u:hunter2@h/db?sslmode=require",
        "postgresql+psycopg://u:hunter2@h/db?sslmode=require",
        "postgres://u:p@hunter2@h/db",
        "postgres://h:hunter2/x@h/db",
        "postgres://h/db?hunter2=x",
        "postgres://h/db?options=hunter2=x",
    ] {
        let error = parsed(text).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

proptest! {
    /// Whatever the values are, both forms bring them back.
    #[test]
    fn values_come_back_from_both_forms(
        values in prop::collection::vec("[ -~]{1,12}", 4),
    ) {
        let names = ["user", "password", "dbname", "options"];
        let escape = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        let text: Vec<_> = names.iter().zip(&values).map(|(name, value)| format!("{name} = '{}'", escape(value))).collect();
        let encode = |value: &str| value.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let query: Vec<_> = names.iter().zip(&values).map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let uri = format!("postgresql:///?{}", query.join("&"));
        let credentials = format!("postgres://{}:{}@/{}", encode(&values[0]), encode(&values[1]), encode(&values[2]));
        for (index, name) in names.iter().enumerate() {
            prop_assert_eq!(value(&text.join(" "), name), Some(values[index].clone()));
            prop_assert_eq!(value(&uri, name), Some(values[index].clone()));
            if index < 3 {
                prop_assert_eq!(value(&credentials, name), Some(values[index].clone()));
            }
        }
    }

    /// Nothing that somebody types breaks it.
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}", uri in "[a-z:@/?,%0-9=&\\[\\] ]{0,40}") {
        let _ = parsed(&text);
        let _ = parsed(&format!("postgres://{uri}"));
    }
}
