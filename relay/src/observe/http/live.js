// The stream that a page lives by, and what the page says while it is silent.

import { announce, byId, drawTab, duration, setText } from "./words.js";

const SILENCE_MS = 4_000; // A snapshot comes each second.
const RECONNECT_MS = 10_000; // For a connection that is dead without an error.

let source = null, connectedAt = 0, heardAt = null, broken = false;
const openedAt = Date.now();

/** Calls `uses[name]` with what each event of that name says; gives what looks whether the stream still lives. */
export function follow(uses) {
  const connect = () => {
    source?.close();
    connectedAt = Date.now();
    source = new EventSource("events");
    for (const [name, use] of Object.entries(uses)) {
      source.addEventListener(name, ({ data }) => {
        use(JSON.parse(data));
        // One that cannot be read or drawn does not count as heard, so the page then says that its numbers are old.
        if (name === "snapshot") heard();
      });
    }
    source.addEventListener("error", () => { broken = true; drawConnection(); });
  };
  const tick = () => {
    drawConnection();
    const limit = source.readyState === EventSource.CLOSED ? SILENCE_MS : RECONNECT_MS; // Closed: the browser gave it up.
    if (Date.now() - Math.max(connectedAt, heardAt ?? 0) > limit) connect();
  };
  connect();
  setInterval(tick, 1000);
  return tick;
}

function heard() {
  heardAt = Date.now();
  broken = false;
  drawConnection();
}

function drawConnection() {
  const silence = Date.now() - (heardAt ?? openedAt);
  const old = broken || silence >= SILENCE_MS, live = heardAt !== null && !old;
  const element = byId("connection");
  Object.assign(element.dataset, { live, old });
  document.body.classList.toggle("old", old);
  if (!old) return setText(element, live ? "Live" : "Connecting to walpost");
  setText(element, heardAt ? `No connection to walpost: these numbers are ${duration(Math.round(silence / 1000))} old. Trying again.`
    : "No connection to walpost, and no numbers yet. Trying again.");
  drawTab("no connection", "none");
  announce("No connection to walpost. The numbers are old.");
}
