//! What one process follows: one source, or each `[[source]]` of the file.

use std::collections::BTreeMap;
use std::net::IpAddr;

use conninfo::{Address, Place};
use settings::{Loaded, Mistakes, Part, Values};

use super::database::names_host;
use super::{Settings, TABLE, mapping};

/// What one process follows: the settings of each source.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// At least one.
    sources: Vec<Settings>,
    /// There are `[[source]]`, and `--source` chose none.
    is_listed: bool,
}

/// What says which outboxes there are.
const OUTBOXES: [&str; 2] = ["table", "messages"];

/// Commands that people copy out of what is said of a source, and that have to know of which.
const OF_ONE: [&str; 5] = ["init", "recover", "audit", "replay", "preview"];

impl Settings {
    /// A text whose commands, where it names any, are those for this source: `walpost recover --source=orders`.
    #[must_use]
    pub fn with_source(&self, text: String) -> String {
        let Some(name) = &self.name else { return text };
        let named = |text: String, command: &&str| {
            let quoted = format!("`walpost {command}");
            text.replace(&quoted, &format!("{quoted} --source={name}"))
        };
        OF_ONE.iter().fold(text, named)
    }
}

impl From<Settings> for Fleet {
    fn from(settings: Settings) -> Self {
        Self { sources: vec![settings], is_listed: false }
    }
}

impl Fleet {
    /// Turns what was typed into what it means: of the source that `--source` names alone, or of all. `env` serves the libpq
    /// variables.
    ///
    /// # Errors
    /// Every mistake of every source that is read, and of what is said above, together; when there is no such source.
    pub fn read(loaded: Loaded, env: &[(String, String)], chosen: Option<&str>) -> Result<Self, Mistakes> {
        let Loaded { values, parts } = choose(loaded, chosen)?;
        if parts.is_empty() {
            return Settings::read(values, env).map(Self::from);
        }
        let mut wrong = values.finish().err().map_or_else(Vec::new, |mistakes| mistakes.0);
        let (mut sources, mut own) = (Vec::new(), Vec::new());
        for part in parts {
            let name = part.name.clone();
            match read_part(part, env) {
                Ok(settings) => {
                    sources.push(settings);
                    own.push((name, Vec::new()));
                }
                Err(Mistakes(mistakes)) => own.push((name, mistakes)),
            }
        }
        wrong.extend(with_names(&own));
        wrong.extend(clashes(&sources));
        if wrong.is_empty() {
            Ok(Self { sources, is_listed: chosen.is_none() })
        } else {
            Err(Mistakes(wrong))
        }
    }

    /// Has another judge, who knows what the settings are for, say what is wrong with them.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn judged(self, judge: impl Fn(&Settings) -> Vec<String>) -> Result<Self, Mistakes> {
        let own = |settings: &Settings| (settings.name.clone().unwrap_or_default(), judge(settings));
        let own: Vec<_> = self.sources.iter().map(own).collect();
        let wrong = match own.as_slice() {
            [(name, mistakes)] if name.is_empty() => mistakes.clone(),
            named => with_names(named),
        };
        if wrong.is_empty() { Ok(self) } else { Err(Mistakes(wrong)) }
    }

    /// The one source, for a command that is of one.
    ///
    /// # Errors
    /// When there are several.
    pub fn only(mut self, command: &str) -> Result<Settings, Mistakes> {
        let known = self.names();
        match self.sources.pop() {
            Some(settings) if self.sources.is_empty() => Ok(settings),
            _ => Err(needs_one(command, &known)),
        }
    }

    /// What is said once for all, as any of them has it.
    #[must_use]
    pub fn process(&self) -> &Settings {
        &self.sources[0]
    }

    /// Whether what is said of a source is to say its name: there are `[[source]]`, and none was chosen.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// Each of them, in the order of the file.
    #[must_use]
    pub fn sources(&self) -> &[Settings] {
        &self.sources
    }

    /// The same, to keep.
    #[must_use]
    pub fn into_sources(self) -> Vec<Settings> {
        self.sources
    }

    fn names(&self) -> Vec<String> {
        self.sources.iter().filter_map(|settings| settings.name.clone()).collect()
    }
}

/// What was typed for the source that `--source` names, for a command that is of one.
///
/// # Errors
/// When there is no such source, or there are several and none is named.
pub fn values_of(loaded: Loaded, command: &str, name: Option<&str>) -> Result<Values, Mistakes> {
    let Loaded { values, mut parts } = choose(loaded, name)?;
    let known = names(&parts);
    let Some(mut part) = parts.pop() else { return Ok(values) };
    if !parts.is_empty() {
        return Err(needs_one(command, &known));
    }
    refuse_what_outboxes_above_say(&mut part);
    let mut own = part.values;
    own.note(values);
    Ok(own)
}

/// What was typed of the source that `--source` names, where it is given, and above. What is wrong with others is none of its mistakes, and a flag
/// that has no effect on it is one.
fn choose(loaded: Loaded, name: Option<&str>) -> Result<Loaded, Mistakes> {
    let Some(name) = name else { return Ok(loaded) };
    let Loaded { mut values, mut parts } = loaded;
    let known = names(&parts);
    parts.retain(|part| part.name == name);
    let Some(part) = parts.first() else { return Err(no_such(name, &known)) };
    for flag in part.idle_flags(&values) {
        values.mistake(format!(
            "{flag}: the source {name} says it itself, which wins over flags: say it there, or leave the flag away"
        ));
    }
    Ok(Loaded { values, parts })
}

fn names(parts: &[Part]) -> Vec<String> {
    parts.iter().map(|part| part.name.clone()).collect()
}

fn no_such(name: &str, known: &[String]) -> Mistakes {
    Mistakes(vec![match known {
        [] => format!("--source: `{name}`: the settings have no [[source]]: leave --source away"),
        known => format!("--source: `{name}`: there is no such [[source]]: {}", known.join(", ")),
    }])
}

fn needs_one(command: &str, known: &[String]) -> Mistakes {
    Mistakes(vec![format!(
        "`walpost {command}` is of one source: say of which by --source: {}",
        known.join(", ")
    )])
}

fn read_part(mut part: Part, env: &[(String, String)]) -> Result<Settings, Mistakes> {
    refuse_what_outboxes_above_say(&mut part);
    if part.says("database-url")
        && !part.says("monitor-database-url")
        && part.values.text("monitor-database-url").is_some()
    {
        part.values.mistake(
            "monitor-database-url is said above, of another database than this source's: say it in each source, or nowhere",
        );
    }
    // It is the address of another server: which one is meant is said by the host.
    let is_elsewhere =
        part.says("database-url") && part.values.text("database-url").is_some_and(|url| names_host(&url));
    let env: Vec<_> =
        env.iter().filter(|(name, _)| !(is_elsewhere && name == "PGHOSTADDR")).cloned().collect();
    let settings = Settings::read(part.values, &env)?;
    Ok(Settings { name: Some(part.name), ..settings })
}

/// An `[[outbox]]` above is nearer to the outbox than the source is, so what both say would be as it is above.
fn refuse_what_outboxes_above_say(part: &mut Part) {
    if part.has_entries() || part.values.entries().is_empty() {
        return;
    }
    if let Some(name) = OUTBOXES.into_iter().find(|name| part.says(name)) {
        part.values.mistake(format!(
            "{name}: the outboxes are those of [[outbox]] above: say what differs in a [[source.outbox]] of its own"
        ));
    }
    let (own, above) = (&*part, &mapping::own(&part.values));
    let (settings, maps) =
        TABLE.repeated.map_or_else(Default::default, |repeated| (repeated.settings, repeated.maps));
    let settings = settings.iter().filter(|name| !OUTBOXES.contains(name));
    let settings = settings
        .filter(|name| own.says(name) && above.iter().any(|entry| entry.text(name).is_some()))
        .map(|name| (*name).to_owned());
    let keys = maps.iter().flat_map(|map| {
        let given = own.keys(map).iter();
        let given = given.filter(move |key| above.iter().any(|entry| entry.map(map).contains_key(*key)));
        given.map(move |key| format!("{map} {key}"))
    });
    for name in settings.chain(keys).collect::<Vec<_>>() {
        part.values.mistake(format!(
            "{name}: an [[outbox]] above, or its preset, says it too, and would win: say it in a [[source.outbox]] of its own"
        ));
    }
}

/// The mistakes of each source with its name; what is wrong with all of them is wrong above them, and told once.
fn with_names(own: &[(String, Vec<String>)]) -> Vec<String> {
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut order = Vec::new();
    for (name, mistakes) in own {
        for mistake in mistakes {
            let having = names.entry(mistake).or_default();
            if having.is_empty() {
                order.push(mistake);
            }
            having.push(name);
        }
    }
    let named = |mistake: &String| match names[mistake.as_str()].as_slice() {
        all if own.len() > 1 && all.len() == own.len() => mistake.clone(),
        [one] => format!("source {one}: {mistake}"),
        some => format!("sources {}: {mistake}", some.join(", ")),
    };
    order.into_iter().map(named).collect()
}

/// What two sources would take from each other.
fn clashes(sources: &[Settings]) -> Vec<String> {
    let mut clashes = Vec::new();
    for (index, one) in sources.iter().enumerate() {
        for other in &sources[..index] {
            clashes.extend(clash(other, one));
        }
    }
    clashes
}

fn clash(one: &Settings, other: &Settings) -> Option<String> {
    let names = format!("sources {} and {}", shown(one), shown(other));
    let slot = &one.source.slot;
    if *slot == other.source.slot && on_one_server(one, other) {
        return Some(format!(
            "{names}: both have the slot `{slot}` on one server, whose slots have one name each in all of its databases: give one of \
             them another slot"
        ));
    }
    let topic = one.kafka.position_topic.as_ref()?;
    let is_shared =
        Some(topic) == other.kafka.position_topic.as_ref() && has_common(brokers(one), brokers(other));
    is_shared.then(|| {
        format!("{names}: both have the topic `{topic}` for their position: give one of them another position-topic")
    })
}

fn shown(settings: &Settings) -> &str {
    settings.name.as_deref().unwrap_or_default()
}

fn on_one_server(one: &Settings, other: &Settings) -> bool {
    let addresses = |settings: &Settings| settings.database.conninfo.addresses.clone();
    let other = addresses(other);
    addresses(one).iter().any(|address| other.iter().any(|other| are_one(address, other)))
}

/// Whether two addresses lead to one server, as far as their texts tell. Where both have a `hostaddr`, that alone counts.
fn are_one(one: &Address, other: &Address) -> bool {
    let names = |address: &Address| match &address.place {
        Place::Tcp { host, addr } => (plain_host(host), addr.map(|addr| plain_host(&addr.to_string()))),
        Place::Socket(folder) => (folder.display().to_string(), None),
    };
    let ((host, addr), (other_host, other_addr)) = (names(one), names(other));
    one.port == other.port
        && match (addr, other_addr) {
            (Some(addr), Some(other)) => addr == other,
            (addr, other) => host == other_host || addr.as_ref() == Some(&other_host) || other == Some(host),
        }
}

/// A host in one spelling: lower case, without the dot of a full name, addresses as they are usually written, and one name for
/// this machine.
fn plain_host(host: &str) -> String {
    let host = host.trim().trim_end_matches('.').to_lowercase();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    let host =
        host.parse::<IpAddr>().map_or_else(|_| host.to_owned(), |addr| addr.to_canonical().to_string());
    if matches!(host.as_str(), "127.0.0.1" | "::1") { "localhost".to_owned() } else { host }
}

fn brokers(settings: &Settings) -> Vec<String> {
    let plain = |broker: &str| {
        // The protocol before a broker is known elsewhere.
        let broker = broker.rsplit_once("://").map_or(broker, |(_, broker)| broker);
        let (host, port) = broker.rsplit_once(':').unwrap_or((broker, ""));
        format!("{}:{}", plain_host(host), port.trim())
    };
    settings.kafka.brokers.split(',').map(plain).collect()
}

fn has_common(one: Vec<String>, other: Vec<String>) -> bool {
    one.iter().any(|name| other.contains(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn load(name: &str, text: &str, args: &[&str]) -> Loaded {
        let path = std::env::temp_dir().join(format!("fleet-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let command = clap::Command::new("walpost").args(TABLE.args());
        let matches = command.get_matches_from(["walpost", "--config", &path].iter().chain(args));
        TABLE.load_parts(&[], &matches, &[])
    }

    fn read(name: &str, text: &str, args: &[&str]) -> Result<Fleet, String> {
        Fleet::read(load(name, text, args), &[], None).map_err(|mistakes| mistakes.to_string())
    }

    fn read_one(source: &str, text: &str, args: &[&str]) -> Result<Fleet, String> {
        Fleet::read(load(&format!("one-{source}"), text, args), &[], Some(source))
            .map_err(|mistakes| mistakes.to_string())
    }

    const TWO: &str = "topic = \"events\"\n\
        [[source]]\nname = \"orders\"\ndatabase_url = \"postgres://me@one/orders\"\n\
        [[source]]\nname = \"billing\"\ndatabase_url = \"postgres://me@two/billing\"\n";

    #[test]
    fn each_source_is_a_relay_of_its_own_with_what_is_said_above() {
        let text =
            format!("{TWO}slot = \"own\"\ntopic = \"bills\"\n[[source.outbox]]\ntable = \"a.outbox\"\n");
        let fleet = read("two", &text, &["--window-records=7"]).unwrap();
        let [orders, billing] = fleet.sources() else { panic!("{fleet:?}") };
        assert_eq!([&orders.name, &billing.name], [&Some("orders".to_owned()), &Some("billing".to_owned())]);
        assert_eq!((orders.source.slot.as_str(), billing.source.slot.as_str()), ("walpost", "own"));
        assert_eq!((orders.kafka.topics[0].as_str(), billing.kafka.topics[0].as_str()), ("events", "bills"));
        assert_eq!(billing.database.to_string(), "two:5432/billing as me");
        assert_eq!(billing.source.tables[0].name(), "a.outbox");
        assert_eq!((orders.window.records, billing.window.records), (7, 7));
        assert!(fleet.is_listed());
    }

    #[test]
    fn without_any_source_there_is_one_without_a_name() {
        let fleet = read("none", "topic = \"t\"\n", &["--database-url=postgres://me@db/shop"]).unwrap();
        assert!(!fleet.is_listed() && fleet.sources().len() == 1);
        let mistakes = read_one("x", "topic = \"t\"\n", &[]).unwrap_err();
        assert!(mistakes.contains("no [[source]]"), "{mistakes}");
    }

    #[test]
    fn a_preset_in_a_source_is_beneath_all_that_is_said() {
        let text = TWO.replace("name = \"billing\"", "name = \"billing\"\npreset = \"package-event\"");
        let fleet = read("preset", &text, &[]).unwrap();
        let billing = &fleet.sources()[1];
        assert_eq!(
            (billing.source.slot.as_str(), billing.kafka.topics[0].as_str()),
            ("package_event_relay", "events")
        );
        assert_eq!((billing.preset, fleet.sources()[0].preset), (Some("package-event"), None));
    }

    #[test]
    fn all_mistakes_of_all_sources_are_told_at_once_each_with_its_source() {
        let text = format!(
            "window_records = 0\n{}http_addr = \":1\"\n",
            TWO.replace("me@one/orders", "me@one/orders?oops=1")
        ) + "[[source]]\nname = \"third\"\nslot = \"Bad\"\ndatabase_url = \"postgres://me@three/x\"\n";
        let said = read("wrong", &text, &[]).unwrap_err();
        for part in [
            "source orders: database_url in [[source]] 1 of ",
            "source billing: [[source]] 2 of ",
            "`http_addr` is said once for all, above the first [[source]]",
            "source third: slot in [[source]] 3 of ",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(said.matches("window_records").count(), 1, "what is wrong above is told once: {said}");
        assert!(!said.contains(": window_records in /"), "{said}");
    }

    #[test]
    fn two_sources_that_would_take_from_each_other_are_refused_by_name() {
        let one_server = TWO.replace("@two/", "@one/");
        let said = read("slots", &one_server, &[]).unwrap_err();
        assert!(said.contains("sources orders and billing: both have the slot `walpost`"), "{said}");
        read("own-slots", &format!("{one_server}slot = \"own\"\n"), &[]).unwrap();
        let said = read("positions", TWO, &["--delivery=exactly-once"]).unwrap_err();
        assert!(said.contains("both have the topic `walpost-position-walpost`"), "{said}");
        let other_kafka = format!("{TWO}kafka_brokers = \"elsewhere:9092\"\n");
        read("own-kafka", &other_kafka, &["--delivery=exactly-once"]).unwrap();
    }

    #[test]
    fn outboxes_above_and_a_table_of_a_source_do_not_go_together() {
        let text = format!(
            "{}table = \"b.outbox\"\n",
            TWO.replacen("[[source]]", "[[outbox]]\ntable = \"a.outbox\"\n[[source]]", 1)
        );
        let said = read("outboxes", &text, &[]).unwrap_err();
        assert!(said.contains("source billing: table: ") && said.contains("[[source.outbox]]"), "{said}");
    }

    #[test]
    fn what_a_source_and_an_outbox_above_both_say_is_refused() {
        let above = "[headers]\nfar = \"1\"\n[[outbox]]\ntable = \"a.outbox\"\ntopic = \"a\"\n[outbox.headers]\nnear = \"2\"\n\
                     [[outbox]]\npreset = \"debezium\"\n[[source]]";
        let with = |own: &str| format!("{}{own}", TWO.replacen("[[source]]", above, 1));
        for (own, named) in [
            ("topic = \"bills\"\n", "topic"),
            ("[source.headers]\nnear = \"3\"\n", "header near"),
            ("[source.headers]\nid = \"{id}\"\n", "header id"),
            ("preset = \"cap\"\n", "preset"),
            ("key = \"{id}\"\n", "key"),
        ] {
            let said = read("said-twice", &with(own), &[]).unwrap_err();
            let start = format!("source billing: {named}: an [[outbox]] above, or its preset, says it too");
            assert!(said.contains(&start) && said.contains("[[source.outbox]]"), "{start}: {said}");
        }
        read("said-once", &with("[source.headers]\nfar = \"3\"\nother = \"4\"\n"), &[]).unwrap();
        let own = "topic = \"bills\"\n[[source.outbox]]\ntable = \"b.outbox\"\n";
        let fleet = read("own-outbox", &with(own), &[]).unwrap();
        assert_eq!(fleet.sources()[1].kafka.topics, ["bills"]);
        let tail = values_of(load("tail", &with("topic = \"bills\"\n"), &[]), "tail", Some("billing"));
        assert!(tail.unwrap().finish().unwrap_err().to_string().contains("topic: an [[outbox]] above"));
    }

    #[test]
    fn with_one_source_chosen_what_is_wrong_with_another_is_no_mistake_and_an_idle_flag_is() {
        let text = format!("{TWO}tabel = \"x\"\nwindow_records = 0\ntopic = \"bills\"\n");
        read("other-wrong", &text, &[]).unwrap_err();
        read_one("orders", &text, &["--topic=t"]).unwrap();
        let said = read_one("billing", &text, &["--topic=t"]).unwrap_err();
        for part in ["source billing: [[source]] 2 of ", "--topic: the source billing says it itself"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let said = read_one("orders", &format!("windowrecords = 1\n{TWO}"), &[]).unwrap_err();
        assert!(said.contains("`windowrecords` is not a setting"), "what is wrong above is: {said}");
    }

    #[test]
    fn servers_are_told_apart_by_what_they_are_and_not_by_how_they_are_spelled() {
        let both = |one: &str, other: &str| {
            let text =
                TWO.replace("me@one/", &format!("me@{one}/")).replace("me@two/", &format!("me@{other}/"));
            read("spelled", &text, &[]).map(drop)
        };
        for (one, other) in [
            ("DB.shop.", "db.shop"),
            ("localhost", "127.0.0.1"),
            ("[::1]:5432", "localhost"),
            ("db,standby", "Standby"),
            ("x:5432", "x"),
        ] {
            let said = both(one, other).unwrap_err();
            assert!(said.contains("both have the slot"), "{one} {other}: {said}");
        }
        both("localhost:5432", "127.0.0.1:5433").unwrap();
        both("10.0.0.1", "10.0.0.2").unwrap();
        let by_address = |one: &str, other: &str| {
            let text = TWO
                .replace("postgres://me@one/orders", &format!("user=me dbname=a {one}"))
                .replace("postgres://me@two/billing", &format!("user=me dbname=b {other}"));
            read("addresses", &text, &[]).map(drop)
        };
        by_address("host=db hostaddr=10.0.0.1", "host=10.0.0.1").unwrap_err();
        by_address("host=db hostaddr=10.0.0.1", "host=other hostaddr=10.0.0.1").unwrap_err();
        by_address("host=db hostaddr=10.0.0.1", "host=db hostaddr=10.0.0.2").unwrap();
        let brokers =
            format!("kafka_brokers = \"Kafka-0:9092\"\n{TWO}kafka_brokers = \"SSL://kafka-0.:9092, k:1\"\n");
        let said = read("brokers", &brokers, &["--delivery=exactly-once"]).unwrap_err();
        assert!(said.contains("for their position"), "{said}");
    }

    #[test]
    fn a_source_that_names_a_host_is_not_led_to_another_by_a_variable() {
        let env = [("PGHOSTADDR".to_owned(), "10.0.0.9".to_owned())];
        let read = |name: &str, text: &str| Fleet::read(load(name, text, &[]), &env, None).unwrap();
        let address =
            |fleet: &Fleet, at: usize| match &fleet.sources()[at].database.conninfo.addresses[0].place {
                Place::Tcp { addr, .. } => addr.map(|addr| addr.to_string()),
                Place::Socket(_) => None,
            };
        let text = TWO.replace("@two/", "@/") + "slot = \"own\"\n";
        let fleet = read("hostaddr", &text);
        assert_eq!((address(&fleet, 0), address(&fleet, 1)), (None, Some("10.0.0.9".to_owned())));
        let alone = read("hostaddr-alone", "database_url = \"postgres://me@one/orders\"\n");
        assert_eq!(address(&alone, 0).as_deref(), Some("10.0.0.9"), "as libpq has it");
    }

    #[test]
    fn another_judge_speaks_of_each_source_by_name_and_of_all_at_once() {
        let fleet = |name: &str, text: &str| read(name, text, &["--topic=t"]).unwrap();
        let of = |settings: &Settings| match settings.database.conninfo.database.as_str() {
            "orders" => vec!["both".to_owned(), "one".to_owned()],
            _ => vec!["both".to_owned()],
        };
        let said = fleet("judged", TWO).judged(of).unwrap_err();
        assert_eq!(said.0, ["both", "source orders: one"]);
        let alone = fleet("judged-alone", "database_url = \"postgres://me@one/orders\"\n");
        assert_eq!(alone.clone().judged(of).unwrap_err().0, ["both", "one"]);
        alone.judged(|_| Vec::new()).unwrap();
    }

    #[test]
    fn nobody_is_asked_of_a_database_how_another_is() {
        let url = "monitor_database_url = \"postgres://monitor@one/orders\"\n";
        let said = read("monitor", &format!("{url}{TWO}"), &[]).unwrap_err();
        assert!(said.contains("monitor-database-url is said above"), "{said}");
        read("own-monitor", &TWO.replace("name = ", &format!("{url}name = ")), &[]).unwrap();
    }

    #[test]
    fn commands_in_what_is_said_of_a_source_name_it() {
        let fleet = read("commands", TWO, &[]).unwrap();
        let text = "run `walpost init` or `walpost recover --anew`, then `walpost run`".to_owned();
        assert_eq!(
            fleet.sources()[0].with_source(text.clone()),
            "run `walpost init --source=orders` or `walpost recover --source=orders --anew`, then `walpost run`"
        );
        let alone = read("alone", "topic = \"t\"\n", &["--database-url=postgres://me@db/shop"]).unwrap();
        assert_eq!(alone.sources()[0].with_source(text.clone()), text);
    }

    #[test]
    fn a_command_of_one_source_wants_to_know_which() {
        let fleet = || read("choose", TWO, &[]).unwrap();
        let said = fleet().only("recover").unwrap_err().to_string();
        assert!(said.contains("`walpost recover`") && said.ends_with("--source: orders, billing"), "{said}");
        let chosen = read_one("billing", TWO, &[]).unwrap();
        assert!(!chosen.is_listed());
        assert_eq!(chosen.only("recover").unwrap().name.as_deref(), Some("billing"));
        let said = read_one("bills", TWO, &[]).unwrap_err();
        assert!(said.contains("`bills`") && said.contains("orders, billing"), "{said}");
        let of = |name| values_of(load("values", TWO, &[]), "tail", name);
        assert_eq!(
            of(Some("billing")).unwrap().text("database-url").as_deref(),
            Some("postgres://me@two/billing")
        );
        assert!(of(None).err().unwrap().to_string().contains("--source"));
    }
}
