// Draws what /events says of all sources, the worst first. Texts come from servers: they are set with textContent only.

import { follow } from "./live.js";
import { STATE_LEVEL, judgeDisk, judgeLag } from "./judge.js";
import { RANK, announce, age, byId, bytes, count, drawQuoted, drawTab, duration, fill, isTrouble, make, number, setText, worst } from "./words.js";

function judge(s) {
  const disk = judgeDisk(s), lag = judgeLag(s);
  const level = worst(STATE_LEVEL[s.state] ?? "none", ...[lag, disk.level].filter(isTrouble));
  return { ...s, disk, lag, level };
}

/** The worst first; those that are alike as in the settings, so that no row moves without a reason. */
const byTrouble = (a, b) => RANK[b.level] - RANK[a.level];

function why(s) {
  const disk = isTrouble(s.disk.level) && s.state !== "halted" && `WAL on the disk of Postgres: ${s.disk.note}`;
  return [s.reason, s.remedy && `What to do: ${s.remedy}`, disk].filter(Boolean).join(". ");
}

// The rows of a backfill are as old as they are.
const behind = (s) => (s.lag === "none" || s.window.records === 0 && s.window.lag_seconds === 0 ? "–" : duration(s.window.lag_seconds));

function drawRow(row, s) {
  row.dataset.level = s.level;
  row.dataset.source = s.source;
  row.dataset.state = s.state;
  const [name, state, lag, rate, kept, text] = fill(row, 6, () => Object.assign(make("td"), { role: "cell" }), () => {});
  const [link] = fill(name, 1, () => make("a"), () => {});
  link.setAttribute("href", `sources/${s.source}/`);
  setText(link, s.source);
  const [word] = fill(state, 1, () => Object.assign(make("span"), { className: "level" }), () => {});
  setText(word, `${s.state} for ${age(s.since_ms, s.now_ms)}`);
  setText(lag, behind(s));
  lag.dataset.level = isTrouble(s.lag) ? s.lag : "none";
  setText(rate, number(s.relay.events_per_second));
  setText(kept, bytes(s.slot.retained_wal_bytes));
  kept.dataset.level = isTrouble(s.disk.level) ? s.disk.level : "none";
  const [reason] = fill(text, 1, () => make("span"), () => {});
  drawQuoted(reason, why(s));
}

let shown = null;
function draw(fleet) {
  // Another version brings another page.
  if (shown && (shown.version !== fleet.version || shown.revision !== fleet.revision)) return location.reload();
  shown = fleet;
  const sources = fleet.sources.map(judge).sort(byTrouble);
  const level = worst("none", ...sources.map((s) => s.level)), bad = sources.filter((s) => isTrouble(s.level));
  byId("state").dataset.level = level;
  const all = count(sources.length, "source");
  const headline = bad.length === 0 ? `${all}, none in trouble` : `${number(bad.length)} of ${all} in trouble: ${bad.map((s) => s.source).join(", ")}`;
  setText(byId("headline"), headline);
  announce([headline, ...bad.map((s) => `${s.source}: ${s.state}`)].join(". "));
  drawTab(bad.length === 0 ? all : `${number(bad.length)} of ${all} in trouble`, level);
  fill(byId("sources").tBodies[0], sources.length, () => Object.assign(make("tr"), { role: "row" }), (row, i) => drawRow(row, sources[i]));
  setText(byId("version"), `walpost ${fleet.version}, revision ${fleet.revision?.slice(0, 12)}`);
}

follow({ snapshot: draw });
