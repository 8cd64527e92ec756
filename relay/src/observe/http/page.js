// Draws what /events says. Texts come from servers: they are set with textContent only, never as HTML.

import { addPoints, drawPlots, setHistory, setWalLimit, startPlots } from "./plots.js";
import { follow } from "./live.js";
import { STATE_LEVEL, LAG_WARN_S, LAG_BAD_S, sampleIsOld, judgeLag, judgeDisk } from "./judge.js";
import { byId, fill, setText, make, worst, isTrouble, UNKNOWN, known, number, count, perSecond, age, bytes, milliseconds, duration, clock, announce, drawQuoted, drawTab } from "./words.js";

const LEVEL_WORD = { none: "unknown", ok: "ok", warn: "warning", bad: "danger" };

// ---- Judgements: a level, and a word or sentence that says why ----

function judgeThroughput(s) {
  const rate = s.relay.events_per_second;
  if (s.state === "standby") return { level: "calm", word: "standing by" };
  if (s.state === "halted" || s.state === "stalled") return { level: "bad", word: s.state };
  if (s.state === "retrying") return { level: worst("warn", judgeLag(s)), word: "retrying" };
  if (s.state === "starting" || !known(rate)) return { level: "none", word: s.state };
  if (rate > 0) return { level: "ok", word: "flowing" };
  return s.window.records > 0 ? { level: judgeLag(s), word: "waiting" } : { level: "ok", word: "idle" };
}

function judgeDatabase(s) {
  // The errors of a session name the server as this page does.
  if (s.state === "retrying" && s.peer === "postgres") return { level: "bad", word: "away" };
  if (sampleIsOld(s)) return { level: "warn", word: "old numbers" };
  return known(s.sampled_ms) ? { level: "ok", word: "answers" } : { level: "none", word: UNKNOWN };
}

function judgeSlot({ slot }, disk) {
  if (slot.exists === null) return { level: "none", word: UNKNOWN };
  if (!slot.exists) return { level: "bad", word: "missing", gone: true };
  if (slot.wal_status === "lost" || slot.invalidation_reason) return { level: "bad", word: "lost", gone: true };
  if (disk.word) return { level: disk.level, word: disk.word };
  if (isTrouble(disk.level)) return { level: disk.level, word: known(slot.wal_keep_max_bytes) ? "near its limit" : "keeps much WAL" };
  return { level: "ok", word: slot.active ? "in use" : "free" };
}

function judgeWindow(s) {
  const { window: w, state } = s, level = state === "backfilling" ? "ok" : judgeLag(s);
  const share = Math.max(w.records / w.records_max, w.bytes / w.bytes_max) || 0;
  if (state === "halted" || state === "stalled") return { level: "bad", word: state, share };
  if (state === "retrying") return { level: "warn", word: "waiting", share };
  if (state === "standby") return { level: "calm", word: "standing by", share };
  if (state === "starting") return { level: "none", word: state, share };
  return { level, share, word: share >= 0.95 ? "full" : isTrouble(level) ? "behind" : w.records > 0 ? "moving" : "empty" };
}

function judgeKafka(s) {
  const { brokers_up: up, rtt_p99_ms: rtt } = s.kafka;
  if (s.state === "retrying" && s.peer === "kafka") return { level: "bad", word: "away" };
  if (!known(up)) return { level: "none", word: UNKNOWN };
  // Without records librdkafka may close its connections; that is no trouble.
  if (up === 0) return s.window.records > 0 ? { level: "bad", word: "away" } : { level: "none", word: "not connected" };
  return rtt >= 1000 ? { level: "warn", word: "slow" } : { level: "ok", word: "connected" };
}

// ---- The banner ----

const HEADLINE = {
  starting: () => "Starting: connecting and checking",
  standby: () => "Standing by: another relay has the slot; this one takes over when it is free",
  backfilling: (inFlight) => `Backfilling: publishing the rows from before the slot was made, ${inFlight}`,
  retrying: () => "Retrying: no events flow until this is over",
  stalled: () => "Stalled: events wait and do not move",
  draining: (inFlight) => `Draining: stopping when Kafka has acknowledged what was read, ${inFlight}`,
  halted: () => "Halted for safety",
  streaming(inFlight, { records, lag_seconds: lag }) {
    if (lag >= LAG_WARN_S) return `Streaming, but ${duration(lag)} behind, ${inFlight}`;
    return records > 0 ? `Streaming, ${inFlight}, ${duration(lag)} behind` : "Streaming: every event that was read is in Kafka";
  },
};

function drawState(s, disk) {
  const section = byId("state"), level = worst(STATE_LEVEL[s.state] ?? "none", ...[judgeLag(s), disk.level].filter(isTrouble));
  Object.assign(section.dataset, { state: s.state, level });
  setText(byId("headline"), HEADLINE[s.state]?.(`${count(s.window.records, "event")} in flight`, s.window) ?? s.state);
  drawQuoted(byId("reason"), s.reason);
  byId("remedy-box").hidden = !s.remedy;
  if (drawQuoted(byId("remedy"), s.remedy)) drawCopyButtons(byId("remedy"));
  const found = [];
  if (isTrouble(disk.level) && s.state !== "halted") found.push(`WAL on the disk of Postgres: ${[disk.note, disk.remedy].filter(Boolean).join(". What to do: ")}`);
  if (sampleIsOld(s)) found.push(`Postgres was last asked ${age(s.sampled_ms, s.now_ms)} ago: its numbers are old`);
  fill(byId("findings"), found.length, () => make("li"), (item, i) => setText(item, found[i]));
  setText(byId("since"), `${s.state} since ${clock(s.since_ms, s.now_ms)}, for ${age(s.since_ms, s.now_ms)}`);
  announce([s.state, s.reason, s.remedy && `What to do: ${s.remedy}`].filter(Boolean).join(". "));
  drawTab([s.state, s.source].filter(Boolean).join(" "), level);
}

/** A button for each command in the remedy; for the whole text where it has none. */
function drawCopyButtons(remedy) {
  const commands = [...remedy.querySelectorAll("code")];
  byId("copy").replaceChildren(...(commands.length ? commands : [remedy]).map((target) => {
    const label = target === remedy ? "Copy this text" : `Copy ${target.textContent}`;
    const button = Object.assign(make("button", label), { type: "button" });
    button.addEventListener("click", () => {
      // The clipboard API is missing over plain HTTP, where this page mostly is: select, and copy that.
      getSelection().selectAllChildren(target);
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected, not copied";
      setTimeout(() => { button.textContent = label; }, 2000);
    });
    return button;
  }));
}

// ---- Figures, stations, lists ----

function drawFigure(id, text, { level, word = LEVEL_WORD[level], note, share }) {
  const element = byId(id), figure = element.parentElement;
  figure.dataset.level = level;
  setText(figure.querySelector(".level"), word);
  setText(figure.querySelector(".note"), note);
  drawBar(figure.querySelector(".bar"), share);
  if (element.textContent === text) return;
  // Units are smaller than their numbers.
  element.replaceChildren(...text.split(/(?<=\d)( [A-Za-z/]+)/).map((part, i) => make(i % 2 ? "small" : "span", part)));
}

function drawBar(bar, share) {
  if (!bar) return;
  bar.hidden = share === undefined;
  bar.firstElementChild.style.width = `${Math.round(100 * Math.min(1, share ?? 0))}%`;
}

function drawFigures(s, disk) {
  const { relay: r, window: w } = s, throughput = judgeThroughput(s);
  throughput.note = known(r.latency_p50_ms) ? `commit to Kafka: p50 ${milliseconds(r.latency_p50_ms)}, p99 ${milliseconds(r.latency_p99_ms)}`
    : throughput.word === "idle" ? "nothing waits" : "";
  drawFigure("events-per-second", known(r.events_per_second) ? `${number(r.events_per_second)} events/s` : UNKNOWN, throughput);
  const upperBound = ["retrying", "halted", "stalled"].includes(s.state) && w.records === 0 && w.lag_seconds > 0;
  const lag = { level: judgeLag(s), note: `age of the oldest event not in Kafka; warning from ${LAG_WARN_S} s, danger from ${LAG_BAD_S} s` };
  if (upperBound) lag.note = "at most: time since the stream was last followed";
  if (s.state === "standby") drawFigure("lag", "standing by", { level: "calm", word: "", note: "the relay that has the slot knows" });
  else if (s.state === "backfilling") drawFigure("lag", "backfilling", { level: "calm", word: "", note: "rows from before the slot was made: as old as they are" });
  else drawFigure("lag", lag.level === "none" ? UNKNOWN : `${upperBound ? "≤ " : ""}${duration(w.lag_seconds)}`, lag);
  drawFigure("retained", bytes(s.slot.retained_wal_bytes), disk);
}

/** Rows of [label, value, level]. */
function drawRows(list, rows) {
  const shownRows = rows.filter(Boolean);
  fill(list, shownRows.length * 2, () => make(list.children.length % 2 ? "dd" : "dt"), (node, i) => {
    const [label, value, level = ""] = shownRows[i >> 1];
    setText(node, i % 2 ? value ?? UNKNOWN : label);
    node.dataset.level = i % 2 ? level : "";
    node.classList.toggle("lsn", i % 2 === 1 && label.endsWith("LSN"));
  });
}

function drawStation(name, { level, word, share, trouble = false }, where, rows) {
  const station = byId(`station-${name}`);
  Object.assign(station.dataset, { level, trouble });
  setText(station.querySelector(".level"), trouble ? `${word}: look here` : word);
  setText(station.querySelector(".where"), where);
  drawBar(station.querySelector(".bar"), share);
  drawRows(station.querySelector("dl"), rows);
}

function drawLink(id, ...lines) {
  lines.forEach((texts, line) => fill(byId(id).children[line], 2, () => make("span"), (node, i) => {
    setText(node, texts[i]);
    node.classList.toggle("lsn", texts[i].includes("/") && !texts[i].includes(" "));
  }));
}

/** The worst one; of equals the one furthest down the path, which holds up the others. A slot that is gone comes first. */
function markTrouble(judged) {
  const order = judged.slot.gone ? ["slot"] : ["kafka", "window", "slot", "database"];
  const level = worst(...order.map((name) => judged[name].level));
  if (isTrouble(level)) judged[order.find((name) => judged[name].level === level)].trouble = true;
}

function drawPath(s, disk) {
  const { database, outbox, slot, window: w, relay, kafka, now_ms: now } = s;
  const judged = { database: judgeDatabase(s), slot: judgeSlot(s, disk), window: judgeWindow(s), kafka: judgeKafka(s) };
  markTrouble(judged);
  drawStation("database", judged.database, `${database.place}, table ${outbox.table}`, [
    ["PostgreSQL", database.server_version],
    ["rows in outbox", number(outbox.rows)],
    ["oldest row", known(outbox.oldest_row_ms) ? `${age(outbox.oldest_row_ms, now)} old` : UNKNOWN],
    ["end LSN", database.wal_end],
    known(database.wal_directory_bytes) && ["pg_wal", bytes(database.wal_directory_bytes)],
    ["sample age", known(s.sampled_ms) ? age(s.sampled_ms, now) : "no sample", sampleIsOld(s) ? "warn" : ""],
  ]);
  const holder = slot.active ? (s.state === "standby" ? "another relay" : "a relay") : "nobody";
  drawStation("slot", judged.slot, slot.name, [
    ["wal_status", slot.wal_status, { lost: "bad", unreserved: "bad" }[slot.wal_status]],
    slot.invalidation_reason && ["cause", slot.invalidation_reason],
    ["held by", slot.active === null ? UNKNOWN : holder],
    known(slot.inactive_since_ms) && ["free for", age(slot.inactive_since_ms, now)],
    ["WAL kept", bytes(slot.retained_wal_bytes), known(slot.retained_wal_bytes) ? disk.level : ""],
    ["not confirmed", bytes(slot.confirm_lag_bytes)],
    ["restart LSN", slot.restart_lsn],
    ["confirmed LSN", slot.confirmed_lsn],
    slot.failover !== null && ["failover", slot.failover ? "yes" : "no"],
  ]);
  drawStation("window", judged.window, "read, not yet acknowledged", [
    ["in flight", `${number(w.records)} / ${number(w.records_max)}`],
    ["bytes", `${bytes(w.bytes)} / ${bytes(w.bytes_max)}`],
    ["oldest waits", w.records === 0 ? "none waits" : s.state === "backfilling" ? "an old row" : duration(w.lag_seconds)],
    ["published", perSecond(relay.bytes_per_second, bytes)],
    ["latency p50", milliseconds(relay.latency_p50_ms)],
    ["latency p99", milliseconds(relay.latency_p99_ms)],
  ]);
  drawStation("kafka", judged.kafka, `${kafka.brokers}, topic ${kafka.topic}`, [
    ["brokers up", known(kafka.brokers_up) ? `${number(kafka.brokers_up)} of ${number(kafka.brokers_known)}` : UNKNOWN],
    ["partitions", number(kafka.partitions)],
    ["delivery", known(kafka.position_topic) ? "exactly once" : "at least once"],
    ["client queue", number(kafka.queue_messages)],
    ["round trip p50", milliseconds(kafka.rtt_p50_ms)],
    ["round trip p99", milliseconds(kafka.rtt_p99_ms)],
  ]);
  drawLink("link-written", ["WAL written", perSecond(database.wal_bytes_per_second, bytes)]);
  drawLink("link-read", ["received", relay.received_lsn ?? "no stream"], ["confirmed", relay.confirmed_lsn ?? "no stream"]);
  drawLink("link-sent", ["sent", known(relay.events_per_second) ? `${number(relay.events_per_second)} events/s` : UNKNOWN], ["acknowledged", relay.acknowledged_lsn ?? "no stream"]);
}

// Where there is more than one topic, or one that is not there.
function drawTopics({ kafka: { topics, more_topics: more }, now_ms: now }) {
  byId("topics-section").hidden = topics.length < 2 && !topics.some((topic) => topic.awaited);
  fill(byId("topics").tBodies[0], topics.length, () => Object.assign(make("tr"), { role: "row" }), (row, i) => {
    const t = topics[i];
    const last = t.awaited ? "is not there: records wait for it" : t.stored_ms ? `${age(t.stored_ms, now)} ago` : "–";
    const cells = [t.name, number(t.partitions), number(t.records), last];
    row.classList.toggle("bad", t.awaited);
    fill(row, cells.length, () => Object.assign(make("td"), { role: "cell" }), (cell, column) => setText(cell, cells[column]));
  });
  setText(byId("topics-more"), more > 0 ? `and ${number(more)} more` : "");
}

function drawHistory({ last_error: error, relay, outbox, started_ms: started, now_ms: now }) {
  const [text, remedy, when] = byId("last-error").children;
  drawQuoted(text, error ? error.text : "None since the start.");
  drawQuoted(remedy, error?.remedy ? `What to do: ${error.remedy}` : null);
  setText(when, error ? `${clock(error.at_ms, now)}, ${age(error.at_ms, now)} ago` : "");
  setText(byId("counts-title"), `Since the start, ${age(started, now)} ago`);
  drawRows(byId("counts"), [
    ["events published", number(relay.events_published)], ["dead letters", number(relay.dead_letters), relay.dead_letters > 0 ? "warn" : ""],
    ["repeats avoided", number(relay.repeats_avoided)], ["records retried", number(relay.records_retried)],
    ["reconnects", number(relay.reconnects)], ["producers replaced", number(relay.producer_restarts)],
    ["halts", number(relay.halts)], ["outbox rows removed", number(outbox.rows_removed)],
  ]);
}

function drawRecent({ recent, now_ms: now }) {
  byId("recent").hidden = recent.length === 0;
  byId("recent-none").hidden = recent.length > 0;
  // On a phone the rows are grids, which would take their roles from them.
  fill(byId("recent").tBodies[0], recent.length, () => Object.assign(make("tr"), { role: "row" }), (row, i) => {
    const e = recent[i];
    const cells = [e.key ?? "–", e.type ?? "–", clock(e.committed_ms, now), milliseconds(e.latency_ms), e.event_id ?? "–", `${e.lsn}, ${e.seq}`];
    fill(row, cells.length, () => Object.assign(make("td"), { role: "cell" }), (cell, column) => setText(cell, String(cells[column])));
  });
}

/** Where there are several, which it is, and the way to the others. */
function drawSource(name) {
  if (byId("source")) return;
  const all = Object.assign(make("a", "all sources"), { href: "../../" });
  byId("route").before(Object.assign(make("strong", name), { id: "source" }), " ", all, " ");
}

let shown = null;
function drawSnapshot(s) {
  // Another version brings another page.
  if (shown && (shown.version !== s.version || shown.revision !== s.revision)) return location.reload();
  const disk = judgeDisk(s);
  shown = s;
  drawState(s, disk);
  drawFigures(s, disk);
  drawPath(s, disk);
  drawTopics(s);
  drawHistory(s);
  drawRecent(s);
  setWalLimit(s.slot.wal_keep_max_bytes);
  if (s.source) drawSource(s.source);
  setText(byId("route"), `${s.outbox.table} → ${s.kafka.topic}`);
  setText(byId("version"), `walpost ${s.version}, revision ${s.revision?.slice(0, 12) || UNKNOWN}`);
}

// ---- The start ----

setText(byId("zone"), `Times: ${Intl.DateTimeFormat().resolvedOptions().timeZone ?? "of this browser"}`);
startPlots();
const tick = follow({ history: setHistory, point: addPoints, snapshot: drawSnapshot });
document.addEventListener("visibilitychange", () => { drawPlots(); tick(); });
