//! What one process follows: one source, or each `[[source]]` of the file.

use std::collections::BTreeMap;

use settings::{Loaded, Mistakes, Part, Values};

use super::Settings;

/// What one process follows: the settings of each source.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// At least one.
    sources: Vec<Settings>,
    /// By `--source`.
    is_chosen: bool,
}

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
        Self { sources: vec![settings], is_chosen: true }
    }
}

impl Fleet {
    /// Turns what was typed into what it means. `env` serves the libpq variables.
    ///
    /// # Errors
    /// Every mistake of every source, together.
    pub fn read(loaded: Loaded, env: &[(String, String)]) -> Result<Self, Mistakes> {
        let Loaded { values, parts } = loaded;
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
        if wrong.is_empty() { Ok(Self { sources, is_chosen: false }) } else { Err(Mistakes(wrong)) }
    }

    /// The source that `--source` names, alone; all of them where it is not given.
    ///
    /// # Errors
    /// When there is no such source.
    pub fn choose(mut self, name: Option<&str>) -> Result<Self, Mistakes> {
        let Some(name) = name else { return Ok(self) };
        let known = self.names();
        self.sources.retain(|settings| settings.name.as_deref() == Some(name));
        self.is_chosen = true;
        if self.sources.is_empty() { Err(no_such(name, &known)) } else { Ok(self) }
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
        !self.is_chosen
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
    let Loaded { values, mut parts } = loaded;
    let known: Vec<_> = parts.iter().map(|part| part.name.clone()).collect();
    if let Some(name) = name {
        parts.retain(|part| part.name == name);
        if parts.is_empty() {
            return Err(no_such(name, &known));
        }
    }
    let Some(part) = parts.pop() else { return Ok(values) };
    if !parts.is_empty() {
        return Err(needs_one(command, &known));
    }
    let mut own = part.values;
    own.note(values);
    Ok(own)
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
    if !part.has_entries()
        && !part.values.entries().is_empty()
        && let Some(name) = ["table", "messages"].into_iter().find(|name| part.says(name))
    {
        part.values.mistake(format!(
            "{name}: the outboxes are those of [[outbox]] above: say what differs in a [[source.outbox]] of its own"
        ));
    }
    if part.says("database-url")
        && !part.says("monitor-database-url")
        && part.values.text("monitor-database-url").is_some()
    {
        part.values.mistake(
            "monitor-database-url is said above, of another database than this source's: say it in each source, or nowhere",
        );
    }
    let settings = Settings::read(part.values, env)?;
    Ok(Settings { name: Some(part.name), ..settings })
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
    let addresses = |settings: &Settings| {
        settings.database.conninfo.addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    has_common(addresses(one), addresses(other))
}

fn brokers(settings: &Settings) -> Vec<String> {
    settings.kafka.brokers.split(',').map(|broker| broker.trim().to_owned()).collect()
}

fn has_common(one: Vec<String>, other: Vec<String>) -> bool {
    one.iter().any(|name| other.contains(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::TABLE;

    fn load(name: &str, text: &str, args: &[&str]) -> Loaded {
        let path = std::env::temp_dir().join(format!("fleet-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let command = clap::Command::new("walpost").args(TABLE.args());
        let matches = command.get_matches_from(["walpost", "--config", &path].iter().chain(args));
        TABLE.load_parts(&[], &matches, &[])
    }

    fn read(name: &str, text: &str, args: &[&str]) -> Result<Fleet, String> {
        Fleet::read(load(name, text, args), &[]).map_err(|mistakes| mistakes.to_string())
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
        let mistakes = fleet.choose(Some("x")).unwrap_err().to_string();
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
        let chosen = fleet().choose(Some("billing")).unwrap().only("recover").unwrap();
        assert_eq!(chosen.name.as_deref(), Some("billing"));
        let said = fleet().choose(Some("bills")).unwrap_err().to_string();
        assert!(said.contains("`bills`") && said.contains("orders, billing"), "{said}");
        let of = |name| values_of(load("values", TWO, &[]), "tail", name);
        assert_eq!(
            of(Some("billing")).unwrap().text("database-url").as_deref(),
            Some("postgres://me@two/billing")
        );
        assert!(of(None).err().unwrap().to_string().contains("--source"));
    }
}
