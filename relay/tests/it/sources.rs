//! Several databases by one process: each `[[source]]` is a relay of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fantoccini::Locator;
use harness::http::{self, Response};
use harness::relay::source_entry;
use harness::{Browser, Proxy, Relay, RelayProcess, Topic, wait_until};
use serde_json::Value;

use crate::case::{Case, SOON};
use crate::systemd::Systemd;

/// The sources of one process, and how that is to run.
struct Fleet {
    relay: Relay,
    sources: Vec<Source>,
    settings: PathBuf,
}

struct Source {
    name: &'static str,
    case: Case,
    /// Its database.
    url: String,
    /// What it says for itself beside its database and topic.
    own: String,
}

impl Fleet {
    /// A database and a topic for each of these names.
    async fn of(names: &[&'static str]) -> Result<Self> {
        let mut sources = Vec::new();
        for name in names {
            let case = Case::new().await?;
            let url = case.database.relay_url.clone();
            sources.push(Source { name, case, url, own: String::new() });
        }
        let first = sources.first().context("a fleet has a source")?;
        let settings = std::env::temp_dir().join(format!("walpost-{}.toml", first.case.database.name()));
        let mut relay = first.case.relay.beside()?.env("WALPOST_CONFIG", &settings);
        for name in ["WALPOST_DATABASE_URL", "WALPOST_SLOT", "WALPOST_TOPIC"] {
            relay = relay.without_env(name);
        }
        let fleet = Self { relay, sources, settings };
        fleet.write()?;
        Ok(fleet)
    }

    /// Says something more of one source, at its end: it may be a table of its own.
    fn with_own(mut self, name: &str, own: &str) -> Result<Self> {
        self.source(name)?.own = own.to_owned();
        self.write()?;
        Ok(self)
    }

    /// Has one source go another way to its database.
    fn with_url(mut self, name: &str, url: String) -> Result<Self> {
        self.source(name)?.url = url;
        self.write()?;
        Ok(self)
    }

    fn source(&mut self, name: &str) -> Result<&mut Source> {
        self.sources.iter_mut().find(|source| source.name == name).context("no such source")
    }

    fn write(&self) -> Result<()> {
        let mut text = String::new();
        for Source { name, case, url, own } in &self.sources {
            text += &source_entry(name, url, &case.database.slot_name(), &case.topic);
            text += own;
        }
        Ok(std::fs::write(&self.settings, text)?)
    }

    fn case(&self, name: &str) -> &Case {
        let source = self.sources.iter().find(|source| source.name == name);
        &source.unwrap_or_else(|| panic!("no source {name}")).case
    }

    /// Makes what each needs, and runs until all of them stream.
    async fn init_and_run(&self) -> Result<RelayProcess> {
        self.relay.init().await?;
        let process = self.relay.run()?;
        for source in &self.sources {
            is(&process, source.name, "streaming").await?;
        }
        Ok(process)
    }

    /// Each source carries what is committed from now on.
    async fn carries(&self, names: &[&str]) -> Result<()> {
        for name in names {
            self.case(name).commit(30, 5, 3).await?;
            self.case(name).audit().await.with_context(|| format!("of {name}"))?;
        }
        Ok(())
    }
}

fn json(response: &Response) -> Result<Value> {
    serde_json::from_str(&response.body).with_context(|| format!("JSON: {}", response.body))
}

/// Waits until a source does this.
async fn is(process: &RelayProcess, source: &str, state: &str) -> Result<()> {
    let (path, what) = (format!("/sources/{source}/ready"), format!("{source} is {state}"));
    let waited = wait_until(&what, SOON, async || {
        let Ok(response) = process.get(&path).await else { return Ok(false) };
        Ok(json(&response)?["state"] == state)
    });
    waited.await.with_context(|| process.log_tail())
}

/// The names of the sources that an answer names as not well.
fn named(answer: &Value, key: &str) -> Vec<String> {
    answer[key].as_object().map(|sources| sources.keys().cloned().collect()).unwrap_or_default()
}

#[tokio::test]
async fn a_source_that_halts_is_named_and_harms_no_other() -> Result<()> {
    let fleet = Fleet::of(&["orders", "billing", "stock"]).await?;
    let mut process = fleet.init_and_run().await?;
    ensure!(process.get("/ready").await?.status == 200 && process.get("/healthy").await?.status == 200);
    fleet.carries(&["orders", "billing", "stock"]).await?;

    fleet.case("billing").database.execute("drop publication package_event_pub").await?;
    is(&process, "billing", "halted").await?;
    fleet.carries(&["orders", "stock"]).await?;
    let own = process.get("/sources/billing/ready").await?;
    ensure!(
        own.status == 503
            && json(&own)?["remedy"]
                .as_str()
                .is_some_and(|text| text.contains("walpost init --source=billing"))
    );
    for (path, key) in [("/ready", "not_ready"), ("/healthy", "not_healthy")] {
        let all = process.get(path).await?;
        let said = json(&all)?;
        ensure!(all.status == 503 && named(&said, key) == ["billing"], "{path}: {said}");
        ensure!(said[key]["billing"]["reason"].is_string(), "{said}");
        ensure!(process.get(&format!("/sources/orders{path}")).await?.status == 200);
    }
    ensure!(process.get("/live").await?.status == 200);
    ensure!(process.get("/sources/none/ready").await?.status == 404);
    let status = json(&process.get("/status").await?)?;
    let state = |name: &str| status["sources"][name]["state"].clone();
    ensure!(state("billing") == "halted" && state("stock") == "streaming", "{status}");

    // Recovered alone, beside the process in which it has halted; then all of them begin anew, and nothing is lost.
    let sql = "create publication package_event_pub for table package_event with (publish = 'insert')";
    fleet.case("billing").database.execute(sql).await?;
    fleet.case("billing").commit(20, 5, 1).await?;
    let mut recovered = fleet.relay.beside()?.recover_with(&["--source=billing"])?;
    is(&recovered, "billing", "streaming").await?;
    fleet.carries(&["orders", "billing", "stock"]).await?;
    ensure!(recovered.terminate(SOON).await?.code() == Some(0), "{}", recovered.log_tail());
    ensure!(process.terminate(SOON).await?.code() == Some(1), "as of one that has halted");
    let process = fleet.init_and_run().await?;
    fleet.carries(&["orders", "billing", "stock"]).await.with_context(|| process.log_tail())
}

#[tokio::test]
async fn each_series_and_each_line_of_the_log_says_of_which_source_it_is() -> Result<()> {
    let fleet = Fleet::of(&["orders", "billing"]).await?;
    let mut process = fleet.init_and_run().await?;
    fleet.carries(&["orders"]).await?;
    let published =
        |source: &str| format!("walpost_events_total{{source=\"{source}\",outcome=\"published\"}}");
    wait_until("its events are counted", SOON, async || {
        Ok(process.metric(&published("orders")).await? >= 30.0)
    })
    .await?;
    ensure!(process.metric(&published("billing")).await? == 0.0);
    let own = process.get("/sources/orders/metrics").await?.body;
    ensure!(http::metric(&own, &published("orders")).is_some() && !own.contains("billing"), "{own}");
    let page = process.get("/metrics").await?.body;
    let unlabelled = page.lines().find(|line| line.starts_with("walpost_") && !line.contains("source=\""));
    ensure!(unlabelled.is_none(), "{unlabelled:?}");

    fleet.case("billing").database.execute("drop publication package_event_pub").await?;
    is(&process, "billing", "halted").await?;
    let log = process.log();
    let halt = log.lines().find(|line| line.contains("halted")).context("the halt is in the log")?;
    ensure!(halt.contains("source=\"billing\""), "{halt}");
    process.kill()?;

    let mut process =
        fleet.relay.clone().env("WALPOST_LOG_FORMAT", "json").env("WALPOST_LOG_LEVEL", "error").run()?;
    is(&process, "billing", "halted").await?;
    let line = wait_for_line(&process, "halted").await?;
    let line: Value = serde_json::from_str(&line)?;
    ensure!(line["span"]["source"] == "billing", "{line}");
    process.expect_running()
}

async fn wait_for_line(process: &RelayProcess, part: &str) -> Result<String> {
    wait_until("it is in the log", SOON, async || Ok(process.log().contains(part))).await?;
    let log = process.log();
    Ok(log.lines().find(|line| line.contains(part)).unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_stop_drains_all_of_them_and_a_restart_repeats_nothing() -> Result<()> {
    let fleet = Fleet::of(&["orders", "billing"]).await?;
    let mut process = fleet.init_and_run().await?;
    for source in &fleet.sources {
        source.case.commit(500, 5, 1).await?;
    }
    ensure!(process.terminate(SOON).await?.code() == Some(0), "{}", process.log_tail());
    let process = fleet.init_and_run().await?;
    for source in &fleet.sources {
        let audit = source.case.audit().await.with_context(|| process.log_tail())?;
        ensure!((audit.published, audit.duplicates) == (500, 0), "{}: {audit}", source.name);
    }
    Ok(())
}

#[tokio::test]
async fn sources_deliver_exactly_once_each_with_a_position_of_its_own() -> Result<()> {
    let mut fleet = Fleet::of(&["orders", "billing"]).await?;
    fleet.relay = fleet.relay.clone().env("WALPOST_DELIVERY", "exactly-once");
    let mut process = fleet.init_and_run().await?;
    for source in &fleet.sources {
        source.case.commit(500, 5, 1).await?;
    }
    process.kill()?;
    let process = fleet.init_and_run().await?;
    for source in &fleet.sources {
        source.case.commit(200, 5, 1).await?;
        let audit = source.case.audit().await.with_context(|| process.log_tail())?;
        ensure!((audit.published, audit.duplicates) == (700, 0), "{}: {audit}", source.name);
    }
    drop(process);
    for Source { case, .. } in &fleet.sources {
        let name = format!("walpost-position-{}", case.database.slot_name());
        Topic::expected(&name, &case.topic.brokers, 1).delete().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_second_process_stands_by_for_each_and_takes_over() -> Result<()> {
    let fleet = Fleet::of(&["orders", "billing"]).await?;
    let mut first = fleet.init_and_run().await?;
    let second = fleet.relay.beside()?.run()?;
    for source in &fleet.sources {
        is(&second, source.name, "standby").await?;
    }
    ensure!(second.get("/healthy").await?.status == 200, "a rolling update waits for it");
    let ready = second.get("/ready").await?;
    ensure!(ready.status == 503 && named(&json(&ready)?, "not_ready").len() == 2, "{}", ready.body);
    // One that has halted gives its slot free, and the other process takes that source alone.
    fleet.case("billing").database.execute("drop publication package_event_pub").await?;
    is(&first, "billing", "halted").await?;
    is(&second, "billing", "halted").await?;
    is(&second, "orders", "standby").await?;
    first.kill()?;
    is(&second, "orders", "streaming").await?;
    fleet.carries(&["orders"]).await
}

#[tokio::test]
async fn a_database_that_is_away_at_the_start_harms_no_other_and_is_followed_when_it_is_there() -> Result<()>
{
    let fleet = Fleet::of(&["orders", "billing"]).await?;
    fleet.relay.init().await?;
    let database = &fleet.case("billing").database;
    let proxy = Proxy::start(database.addr()?).await?;
    proxy.refuse();
    let url = database.relay_url_by(proxy.addr())?;
    let fleet = fleet.with_url("billing", url)?;
    let process = fleet.relay.run()?;
    is(&process, "billing", "retrying").await?;
    is(&process, "orders", "streaming").await?;
    fleet.carries(&["orders"]).await?;
    ensure!(named(&json(&process.get("/ready").await?)?, "not_ready") == ["billing"]);
    proxy.heal();
    is(&process, "billing", "streaming").await?;
    fleet.carries(&["billing"]).await
}

#[tokio::test]
async fn a_producer_that_cannot_be_made_harms_no_other_and_is_made_when_it_can() -> Result<()> {
    let fleet = Fleet::of(&["orders", "billing"]).await?;
    fleet.relay.init().await?;
    let authorities = fleet.settings.with_extension("pem");
    let own = format!(
        "[source.kafka.properties]\n\"security.protocol\" = \"SSL\"\n\"ssl.ca.location\" = \"{}\"\n",
        authorities.display()
    );
    let fleet = fleet.with_own("billing", &own)?;
    let process = fleet.relay.run()?;
    is(&process, "billing", "retrying").await?;
    is(&process, "orders", "streaming").await?;
    let said = json(&process.get("/sources/billing/ready").await?)?;
    ensure!(said["reason"].as_str().is_some_and(|reason| reason.contains("ssl.ca.location")), "{said}");
    let authority = harness::secure::Certificates::for_name("localhost")?;
    std::fs::copy(authority.authority(), &authorities)?;
    // The broker speaks no TLS: what follows is another story, which the producer itself tells.
    wait_until("a producer is made", SOON, async || {
        let said = json(&process.get("/sources/billing/ready").await?)?;
        Ok(!said["reason"].as_str().is_some_and(|reason| reason.contains("ssl.ca.location")))
    })
    .await?;
    fleet.carries(&["orders"]).await
}

#[tokio::test]
async fn it_exits_on_a_halt_when_each_of_them_has_halted() -> Result<()> {
    let fleet = Fleet::of(&["orders", "billing"]).await?;
    fleet.relay.init().await?;
    let mut process = fleet.relay.run_with(&["--exit-on-halt"])?;
    is(&process, "orders", "streaming").await?;
    is(&process, "billing", "streaming").await?;
    fleet.case("billing").database.execute("drop publication package_event_pub").await?;
    is(&process, "billing", "halted").await?;
    fleet.carries(&["orders"]).await?;
    process.expect_running()?;
    fleet.case("orders").database.execute("drop publication package_event_pub").await?;
    ensure!(process.exit(SOON).await?.code() == Some(3), "{}", process.log_tail());
    Ok(())
}

#[tokio::test]
async fn mistakes_of_all_sources_are_told_at_once() -> Result<()> {
    let fleet = Fleet::of(&["orders", "billing"]).await?;
    let fleet = fleet.with_own("orders", "tabel = \"x\"\n")?.with_own("billing", "window_records = 0\n")?;
    for arguments in [&["run"][..], &["check"], &["status"]] {
        let ended = fleet.relay.command(arguments).await?;
        ensure!(ended.code() == 2, "{}", ended.stderr);
        for part in [
            "source orders: [[source]] 1 of",
            "`tabel` is not a setting",
            "source billing: window_records in [[source]] 2",
        ] {
            ensure!(ended.stderr.contains(part), "{arguments:?}: {part}: {}", ended.stderr);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_mistake_in_one_source_does_not_stop_a_command_for_another() -> Result<()> {
    let fleet = Fleet::of(&["orders", "billing"]).await?;
    fleet.relay.init().await?;
    let fleet = fleet.with_own("billing", "window_records = 0\n")?;
    let relay = fleet.relay.clone().env("WALPOST_SOURCE_BILLING_DATABASE_URL_FILE", "/no/such/file");
    relay.command(&["check", "--source=orders"]).await?.success()?;
    relay.command(&["recover", "--source=orders", "--dry-run"]).await?.success()?;
    for arguments in [&["check"][..], &["check", "--source=billing"]] {
        let ended = relay.command(arguments).await?;
        ensure!(ended.code() == 2 && ended.stderr.contains("/no/such/file"), "{}", ended.stderr);
    }
    let idle = relay.command(&["check", "--source=orders", "--slot=another"]).await?;
    ensure!(
        idle.code() == 2 && idle.stderr.contains("--slot: the source orders says it itself"),
        "{}",
        idle.stderr
    );
    let unknown = relay.env("WALPOST_SOURCE_ORDERS_SLTO", "x").command(&["check", "--source=orders"]).await?;
    ensure!(unknown.code() == 2 && unknown.stderr.contains("nearest: SLOT"), "{}", unknown.stderr);
    Ok(())
}

#[tokio::test]
async fn a_kafka_property_that_is_misspelt_in_a_source_is_a_mistake_at_once() -> Result<()> {
    let fleet = Fleet::of(&["orders", "billing"]).await?;
    let fleet = fleet.with_own("billing", "[source.kafka.properties]\n\"linger.mss\" = \"5\"\n")?;
    let ended = fleet.relay.command(&["run"]).await?;
    ensure!(
        ended.code() == 2 && ended.stderr.contains("source billing: kafka property `linger.mss`: No such"),
        "{}",
        ended.stderr
    );
    Ok(())
}

#[tokio::test]
async fn what_another_tool_has_published_is_said_of_one_source() -> Result<()> {
    let fleet = Fleet::of(&["orders", "billing"]).await?;
    for flags in [&["--rows-before=published"][..], &["--publication-is-older"]] {
        let refused = fleet.relay.command(&[&["init"], flags].concat()).await?;
        ensure!(
            refused.code() == 2 && refused.stderr.contains("--source: orders, billing"),
            "{flags:?}: {}",
            refused.stderr
        );
    }
    fleet.relay.command(&["init", "--rows-before=unpublished"]).await?.success().map(drop)
}

#[tokio::test]
async fn systemd_hears_that_all_have_started_though_one_waits_for_its_database() -> Result<()> {
    let fleet = Fleet::of(&["orders", "billing"]).await?;
    fleet.relay.init().await?;
    let fleet = fleet.with_url("billing", "postgres://nobody@127.0.0.1:9/nowhere".to_owned())?;
    let systemd = Systemd::listen(fleet.case("orders"))?;
    let process = fleet.relay.clone().env("NOTIFY_SOCKET", systemd.path.as_os_str()).run()?;
    systemd.hear("READY=1").await.with_context(|| process.log_tail())?;
    is(&process, "billing", "retrying").await?;
    is(&process, "orders", "streaming").await?;
    ensure!(process.get("/healthy").await?.status == 503, "it names the one that is not");
    Ok(())
}

#[tokio::test]
async fn as_many_files_may_be_open_as_the_process_may_have() -> Result<()> {
    let open_files = |process: u32| -> Result<(u64, u64)> {
        let limits = std::fs::read_to_string(format!("/proc/{process}/limits"))?;
        let line =
            limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("its limits")?;
        let mut limits = line.split_whitespace().map(str::parse);
        Ok((limits.next().context("the soft one")??, limits.next().context("the hard one")??))
    };
    let fleet = Fleet::of(&["orders"]).await?;
    fleet.relay.init().await?;
    // What it starts with is this process's: one file less than it may have.
    let own = std::process::id();
    let (_, most) = open_files(own)?;
    let mut lower = std::process::Command::new("prlimit");
    lower.arg(format!("--pid={own}")).arg(format!("--nofile={}:{most}", most - 1));
    ensure!(lower.status()?.success());
    let process = fleet.relay.run()?;
    is(&process, "orders", "streaming").await?;
    ensure!(open_files(process.id())? == (most, most) && open_files(own)? == (most - 1, most));
    Ok(())
}

#[tokio::test]
async fn commands_go_over_all_sources_or_are_told_which() -> Result<()> {
    let fleet = Fleet::of(&["orders", "billing"]).await?;
    let said = fleet.relay.command(&["init"]).await?.success()?.stdout;
    let heads: Vec<_> = said.lines().filter(|line| line.starts_with("== ")).collect();
    ensure!(heads == ["== orders", "== billing"], "{said}");
    fleet.case("billing").database.drop_slot(&fleet.case("billing").database.slot_name()).await?;
    let checked = fleet.relay.command(&["check"]).await?;
    ensure!(checked.code() == 1 && checked.stdout.contains("== orders\n"), "{}", checked.stdout);
    let checked: Value = serde_json::from_str(&fleet.relay.command(&["check", "--json"]).await?.stdout)?;
    ensure!(checked["sources"]["orders"]["failures"] == 0, "{checked}");
    ensure!(checked["sources"]["billing"]["failures"] != 0, "{checked}");
    ensure!(
        checked.to_string().contains("--source=billing"),
        "what mends it is said of that source: {checked}"
    );
    let one = fleet.relay.command(&["check", "--json", "--source=orders"]).await?.success()?;
    ensure!(serde_json::from_str::<Value>(&one.stdout)?["failures"] == 0, "{}", one.stdout);
    fleet.relay.command(&["init", "--source", "billing"]).await?.success()?;

    for command in [&["recover"][..], &["replay", "--where=true"], &["audit"], &["preview"], &["tail"]] {
        let refused = fleet.relay.command(command).await?;
        ensure!(
            refused.code() == 2 && refused.stderr.contains("--source: orders, billing"),
            "{command:?}: {}",
            refused.stderr
        );
    }
    fleet.case("billing").commit(3, 1, 1).await?;
    let preview = fleet.relay.command(&["preview", "--source=billing", "--json"]).await?.success()?;
    ensure!(preview.stdout.contains(&fleet.case("billing").topic.name), "{}", preview.stdout);
    let unknown = fleet.relay.command(&["run", "--source=stock"]).await?;
    ensure!(unknown.code() == 2 && unknown.stderr.contains("`stock`"), "{}", unknown.stderr);

    // That one alone; the other is followed by nobody.
    let mut alone = fleet.relay.run_with(&["--source=billing"])?;
    is(&alone, "billing", "streaming").await?;
    fleet.case("billing").audit().await?;
    let status = fleet.relay.command(&["status"]).await?;
    ensure!(status.code() == 1, "nobody follows one of them: {}", status.stdout);
    let lines: Vec<_> =
        status.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    ensure!(
        lines[0][..2] == ["SOURCE", "STATE"] && lines[1][0] == "orders" && lines[1][1] == "not",
        "{}",
        status.stdout
    );
    ensure!(lines.iter().any(|line| line.starts_with(&["billing", "streaming"])), "{}", status.stdout);
    let status: Value = serde_json::from_str(&fleet.relay.command(&["status", "--json"]).await?.stdout)?;
    ensure!(status["sources"]["billing"]["relay"]["state"] == "streaming", "{status}");
    let one = fleet.relay.command(&["status", "--source=billing"]).await?.success()?;
    ensure!(one.stdout.contains("relay") && !one.stdout.contains("SOURCE"), "{}", one.stdout);
    alone.terminate(SOON).await.map(drop)
}

#[tokio::test]
async fn the_page_of_all_sources_shows_the_worst_first_and_leads_to_each() -> Result<()> {
    let Some(browser) = Browser::open(1280, 900).await? else { return Ok(()) };
    let fleet = Fleet::of(&["orders", "billing", "stock"]).await?;
    let mut process = fleet.init_and_run().await?;
    let shows = async |css: &str| {
        let found = browser.wait().at_most(SOON).for_element(Locator::Css(css)).await;
        found.map(drop).with_context(|| css.to_owned())
    };
    browser.goto(&format!("http://{}/", process.http_addr())).await?;
    shows("#sources tbody tr:nth-child(3)[data-level=ok]").await?;
    shows("#sources tbody tr:nth-child(1)[data-source=orders][data-state=streaming]").await?;
    fleet.case("stock").database.execute("drop publication package_event_pub").await?;
    shows("#sources tbody tr:nth-child(1)[data-source=stock][data-state=halted]").await?;
    let row = browser.find(Locator::Css("#sources tbody tr:nth-child(1)")).await?.text().await?;
    ensure!(row.contains("package_event_pub") && row.contains("walpost init"), "{row}");
    ensure!(browser.title().await?.contains("1 of 3 sources in trouble"), "{}", browser.title().await?);
    browser.photograph("fleet-halted").await?;

    browser.find(Locator::Css("#sources tbody tr:nth-child(1) a")).await?.click().await?;
    shows("#state[data-state=halted]").await?;
    ensure!(browser.current_url().await?.path() == "/sources/stock/");
    ensure!(browser.find(Locator::Css("#source")).await?.text().await? == "stock");
    browser.photograph("fleet-source").await?;
    browser.find(Locator::LinkText("all sources")).await?.click().await?;
    shows("#sources tbody tr:nth-child(3)").await?;
    process.kill()?;
    shows("#connection[data-old=true]").await
}

#[tokio::test]
async fn the_pages_of_all_sources_load_nothing_from_elsewhere() -> Result<()> {
    let fleet = Fleet::of(&["orders"]).await?;
    let process = fleet.init_and_run().await?;
    for path in [
        "/",
        "/page.css",
        "/fleet.js",
        "/live.js",
        "/judge.js",
        "/words.js",
        "/sources/orders/",
        "/sources/orders/page.js",
    ] {
        let page = process.get(path).await?;
        ensure!(page.status == 200, "{path}: {}", page.status);
        ensure!(page.head.contains("content-security-policy: default-src 'none'"), "{path}: {}", page.head);
        let body = page.body.replace("http://www.w3.org/", "");
        ensure!(!body.contains("http://") && !body.contains("https://"), "{path} names another place");
        ensure!(!body.contains("innerHTML"), "{path} writes what servers say as HTML");
    }
    let moved = process.get("/sources/orders").await?;
    ensure!(moved.status == 308 && moved.head.contains("location: orders/"), "{}", moved.head);
    Ok(())
}

/// Files of tests that ended are left in /tmp by no one else.
impl Drop for Fleet {
    fn drop(&mut self) {
        let remove = |path: &Path| drop(std::fs::remove_file(path));
        remove(&self.settings);
        remove(&self.settings.with_extension("pem"));
    }
}
