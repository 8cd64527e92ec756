// What is thought of the numbers: a level, and a word or sentence that says why. For the page of a source, and that of all of them.

import { worst, isTrouble, known, age, bytes, about } from "./words.js";

// The same as the alerts: deploy/prometheus/rules.
export const LAG_WARN_S = 30, LAG_BAD_S = 300;
const WAL_WARN = 2 ** 30, WAL_BAD = 10 * 2 ** 30; // Where no limit is set: the size of the disk is not known.
const RUNS_OUT_WARN_S = 6 * 3600, RUNS_OUT_BAD_S = 3600; // Time for a person to come, and to act.
const SAMPLE_OLD_MS = 30_000; // Or three intervals of asking Postgres, where they are longer.
export const STATE_LEVEL = { streaming: "ok", backfilling: "ok", starting: "calm", standby: "calm", draining: "calm", retrying: "warn", stalled: "bad", halted: "bad" };

export const sampleIsOld = (s) => known(s.sampled_ms) && s.now_ms - s.sampled_ms > Math.max(SAMPLE_OLD_MS, 3 * s.sample_interval_ms);

// The rows of a backfill are as old as they are: that is no lag.
export function judgeLag({ state, window: { lag_seconds: lag } }) {
  if (["standby", "starting", "backfilling"].includes(state) || !known(lag)) return "none";
  return lag >= LAG_BAD_S ? "bad" : lag >= LAG_WARN_S ? "warn" : "ok";
}

export function judgeDisk(s) {
  const judged = judgeRoom(s.slot);
  if (!sampleIsOld(s)) return judged;
  const note = `${judged.note}; ${age(s.sampled_ms, s.now_ms)} ago`;
  return { ...judged, note, ...(judged.level === "ok" && { level: "none", word: "old numbers" }) };
}

function judgeRoom(slot) {
  const { retained_wal_bytes: kept, wal_keep_max_bytes: limit, safe_wal_bytes: room, exhausted_in_seconds: left } = slot;
  if (slot.exists === false) return { level: "none", note: "the slot does not exist: it keeps nothing" };
  if (slot.wal_status === "lost") return { level: "bad", word: "lost", note: "the slot is lost: Postgres removed WAL that was still needed" };
  if (!known(kept)) return { level: "none", note: "no answer from Postgres" };
  if (!known(limit)) {
    const level = kept >= WAL_BAD ? "bad" : kept >= WAL_WARN ? "warn" : "ok";
    const remedy = "set max_slot_wal_keep_size below the free space of the disk";
    return { level, remedy, note: `no limit is set, so it can fill the disk; warning from ${bytes(WAL_WARN)}, danger from ${bytes(WAL_BAD)}` };
  }
  const free = Math.max(0, room ?? limit - kept);
  const share = 1 - Math.min(1, free / limit);
  const runsOut = known(left) && share >= 0.25 ? left : Infinity; // A short burst far from the limit is no alarm.
  const level = slot.wal_status === "unreserved" || share >= 0.9 || runsOut < RUNS_OUT_BAD_S ? "bad"
    : share >= 0.5 || runsOut < RUNS_OUT_WARN_S ? "warn" : "ok";
  const end = (known(left) ? `, runs out in ${about(left)} at the present rate` : "") + (isTrouble(level) ? "; then the slot is lost" : "");
  const remedy = "find below what holds it up, or raise max_slot_wal_keep_size while the disk has room";
  return { level, share, remedy, note: `limit ${bytes(limit)}, room for ${bytes(free)}${end}` };
}
