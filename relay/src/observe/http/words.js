// The page's parts that others use: elements, and numbers in words. A value that is not known is said to be so.

export const RANK = { none: 0, calm: 1, ok: 1, warn: 2, bad: 3 };
export const byId = (id) => document.getElementById(id);
export const setText = (element, text) => { if (element.textContent !== text) element.textContent = text; };
export const make = (name, text) => Object.assign(document.createElement(name), { textContent: text });
export const worst = (...levels) => levels.reduce((a, b) => (RANK[b] > RANK[a] ? b : a));
export const isTrouble = (level) => RANK[level] >= RANK.warn;

/** Keeps `length` children, draws them in place and gives them: a text that someone selects stays selected. */
export function fill(parent, length, create, draw) {
  while (parent.children.length > length) parent.lastElementChild.remove();
  while (parent.children.length < length) parent.append(create());
  const children = [...parent.children];
  children.forEach(draw);
  return children;
}

// ---- What both pages have: what is read out, text with commands in it, the tab ----

let announced = null;

export function announce(text) {
  if (text !== announced) setText(byId("announce"), text);
  announced = text;
}

/** Text whose `quoted` parts become code; true when it changed. */
export function drawQuoted(element, text) {
  element.hidden = !text;
  if (element.dataset.text === (text ?? "")) return false;
  element.dataset.text = text ?? "";
  element.replaceChildren(...element.dataset.text.split("`").map((part, i) => make(i % 2 ? "code" : "span", part)));
  return true;
}

const TAB = {
  none: ["?", "#888"], calm: ["◌", "#5b7fab"], ok: ["●", "#2e9e5b"],
  warn: ["▲", "#d98a00", "M8 1 15.5 15H.5z"], bad: ["■", "#d93025", "M2 2h12v12H2z"],
};

export function drawTab(words, level) {
  const [mark, colour, shape = "M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1z"] = TAB[level];
  if (document.title === `${mark} ${words} - walpost`) return;
  document.title = `${mark} ${words} - walpost`;
  const image = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path fill="${colour}" d="${shape}"/></svg>`;
  byId("icon").href = `data:image/svg+xml,${encodeURIComponent(image)}`;
}

// ---- Numbers in words ----

export const UNKNOWN = "unknown";
export const known = Number.isFinite;
export const FORMATS = [0, 1].map((digits) => new Intl.NumberFormat("en-US", { maximumFractionDigits: digits }));
export const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const number = (value) => (known(value) ? FORMATS[Math.abs(value) < 100 ? 1 : 0].format(value) : UNKNOWN);
export const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
export const perSecond = (value, unit) => (known(value) ? `${unit(value)}/s` : UNKNOWN);
export const age = (ms, now) => (known(ms) ? duration(Math.max(0, Math.round((now - ms) / 1000))) : UNKNOWN);

export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  const unit = Math.min(4, Math.floor(Math.log2(Math.max(1, Math.abs(value))) / 10));
  return `${number(value / 1024 ** unit)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

export function milliseconds(value) {
  if (!known(value)) return UNKNOWN;
  if (value >= 1000) return duration(value / 1000);
  return value > 0 && value < 0.1 ? "< 0.1 ms" : `${value < 10 ? number(value) : number(Math.round(value))} ms`;
}

export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 10) return seconds > 0 && seconds < 0.1 ? "< 0.1 s" : `${number(seconds)} s`;
  const s = Math.round(seconds);
  const parts = [[Math.floor(s / 86400), "d"], [Math.floor(s / 3600) % 24, "h"], [Math.floor(s / 60) % 60, "min"], [s % 60, "s"]];
  const first = parts.findIndex(([amount]) => amount > 0);
  return parts.slice(first, first + 2).filter(([amount]) => amount > 0).map((part) => part.join(" ")).join(" ");
}

export function about(seconds) {
  const [size, unit] = seconds >= 172800 ? [86400, "d"] : seconds >= 5400 ? [3600, "h"] : seconds >= 90 ? [60, "min"] : [1, "s"];
  return `~${number(Math.max(0, Math.round(seconds / size)))} ${unit}`;
}

export function clock(ms, now) {
  if (!known(ms)) return UNKNOWN;
  return (DAY.format(ms) === DAY.format(now) ? "" : `${DAY.format(ms)} `) + TIME.format(ms);
}
