// The plots of the last 15 minutes: time to the right, one cursor over all of them.

import { fill, byId, setText, make, known, TIME, number, perSecond, bytes, milliseconds } from "./words.js";

const POINTS_MAX = 450, SPAN_MS = 900_000;
const MARGIN = { left: 58, right: 8, top: 8, bottom: 20 };
let points = [], stepMs = 2000, cursor = null, walLimit = null;

const PLOTS = [
  { id: "plot-throughput", name: "Events per second", series: [["events_per_second", ""]], format: (v) => perSecond(v, number), scale: linear(10), area: true },
  { id: "plot-latency", name: "Latency from commit to acknowledgement", series: [["latency_p50_ms", "p50 "], ["latency_p99_ms", "p99 "]], format: milliseconds, scale: logarithmic,
    tick: (v) => (v < 1000 ? `${v} ms` : `${number(v / 1000)} s`) },
  { id: "plot-wal", name: "WAL kept on the disk of Postgres", series: [["retained_wal_bytes", ""]], format: bytes, scale: linear(1024), area: true, limit: () => walLimit },
];

/** Up to five ticks, at 1, 2 or 5 times a power of ten of the unit (1024: of B, KiB, MiB ...). */
function linear(base) {
  return (_, highest) => {
    const top = Math.max(highest, base === 1024 ? 1024 : 1);
    const unit = base === 1024 ? 1024 ** Math.floor(Math.log2(top) / 10) : 1;
    const size = unit * 10 ** Math.floor(Math.log10(top / unit / 4));
    const step = size * [1, 2, 5, 10].find((factor) => factor * size * 4 >= top * 0.999);
    const steps = Math.ceil(top / step - 0.001);
    return { ticks: Array.from({ length: steps + 1 }, (_, i) => i * step), place: (v) => v / (steps * step) };
  };
}

/** Whole decades: a second of trouble and the usual milliseconds stay readable together. */
function logarithmic(lowest, highest) {
  const from = Math.floor(Math.log10(Math.max(0.1, lowest)));
  const decades = Math.max(1, Math.ceil(Math.log10(Math.max(0.1, highest))) - from);
  return { ticks: Array.from({ length: decades + 1 }, (_, i) => Number(`1e${from + i}`)), place: (v) => Math.max(0, (Math.log10(v) - from) / decades) };
}

function svg(parent, name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  parent?.append(element);
  return element;
}

/** Runs of points without a gap in value or time. */
function runs(key) {
  const found = [];
  let last = -Infinity;
  for (const point of points) {
    if (!known(point[key])) last = -Infinity;
    else {
      if (point.at_ms - last > 3 * stepMs) found.push([]);
      found.at(-1).push(point);
      last = point.at_ms;
    }
  }
  return found;
}

function drawPlot(plot) {
  const element = byId(plot.id), { clientWidth: width, clientHeight: height } = element;
  const values = plot.series.flatMap(([key]) => points.map((point) => point[key]).filter(known));
  const highest = Math.max(0, ...values), limit = plot.limit?.(), limitShown = known(limit) && highest >= limit / 4;
  const { ticks, place } = plot.scale(values.length ? Math.min(...values) : 1, limitShown ? Math.max(highest, limit) : highest);
  const end = points.at(-1)?.at_ms ?? Date.now(), right = width - MARGIN.right, bottom = height - MARGIN.bottom;
  const frame = {
    root: svg(null, "svg", { viewBox: `0 0 ${width} ${height}` }), end, right, bottom,
    x: (ms) => MARGIN.left + ((ms - end + SPAN_MS) / SPAN_MS) * (right - MARGIN.left),
    y: (value) => bottom - place(value) * (bottom - MARGIN.top),
  };
  drawAxes(frame, ticks, plot.tick ?? plot.format);
  if (limitShown) drawLimit(frame, limit);
  plot.series.forEach(([key], i) => drawSeries(frame, key, i ? "second" : "", plot.area));
  if (!values.length) svg(frame.root, "text", { x: (width + MARGIN.left) / 2, y: height / 2, "text-anchor": "middle" }, "no data");
  drawCursor(frame, plot.series);
  drawReading(plot, element, values);
  element.replaceChildren(frame.root);
}

function drawAxes({ root, end, right, bottom, x, y }, ticks, format) {
  for (const tick of ticks) {
    svg(root, "line", { class: "grid", x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick) });
    svg(root, "text", { x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end" }, format(tick));
  }
  for (let at = Math.ceil((end - SPAN_MS) / 300_000) * 300_000; at <= end; at += 300_000) {
    svg(root, "line", { class: "grid", x1: x(at), x2: x(at), y1: bottom, y2: bottom + 4 });
    svg(root, "text", { x: Math.min(x(at), right - 16), y: bottom + 16, "text-anchor": "middle" }, TIME.format(at).slice(0, 5));
  }
}

function drawLimit({ root, right, y }, limit) {
  svg(root, "line", { class: "limit", x1: MARGIN.left, x2: right, y1: y(limit), y2: y(limit) });
  svg(root, "text", { class: "limit-name", x: MARGIN.left + 4, y: y(limit) + 13 }, `limit ${bytes(limit)}`);
}

function drawSeries({ root, bottom, x, y }, key, kind, area) {
  for (const run of runs(key)) {
    const line = run.map((point) => `${x(point.at_ms).toFixed(1)} ${y(point[key]).toFixed(1)}`).join("L");
    if (area) svg(root, "path", { class: "area", d: `M${x(run[0].at_ms)} ${bottom}L${line}L${x(run.at(-1).at_ms)} ${bottom}z` });
    svg(root, "path", { class: `line ${kind}`, d: `M${line}${run.length === 1 ? "h1" : ""}` });
  }
}

function pointAtCursor() {
  const distance = (point) => Math.abs(point.at_ms - cursor);
  return cursor === null || !points.length ? null : points.reduce((best, point) => (distance(point) < distance(best) ? point : best));
}

function drawCursor({ root, bottom, x, y }, series) {
  const point = pointAtCursor();
  if (!point) return;
  svg(root, "line", { class: "cursor", x1: x(point.at_ms), x2: x(point.at_ms), y1: MARGIN.top, y2: bottom });
  series.forEach(([key], i) => known(point[key]) && svg(root, "circle", { class: i ? "second" : "", cx: x(point.at_ms), cy: y(point[key]), r: 4 }));
}

function drawReading({ series, format, name }, element, values) {
  const point = pointAtCursor(), now = points.at(-1);
  const texts = (p) => series.map(([key, label]) => label + format(p?.[key]));
  const parts = [point ? TIME.format(point.at_ms) : "now", ...texts(point ?? now)];
  fill(element.parentElement.querySelector(".reading"), parts.length, () => make("span"), (part, i) => setText(part, parts[i]));
  const range = values.length ? `Lowest ${format(Math.min(...values))}, highest ${format(Math.max(...values))}.` : "No data.";
  element.setAttribute("aria-label", `${name}, last 15 minutes. Now ${texts(now).join(", ")}. ${range}`);
}

export const drawPlots = () => { if (!document.hidden) PLOTS.forEach(drawPlot); };

function moveCursor(at) {
  cursor = at;
  drawPlots();
}

function listenToPlot({ id }) {
  const element = byId(id);
  const follow = ({ clientX }) => {
    const { left, width } = element.getBoundingClientRect();
    const share = (clientX - left - MARGIN.left) / (width - MARGIN.left - MARGIN.right);
    if (points.length) moveCursor(points.at(-1).at_ms - SPAN_MS * (1 - share));
  };
  for (const name of ["pointerdown", "pointermove"]) element.addEventListener(name, follow);
  for (const name of ["pointerleave", "blur"]) element.addEventListener(name, () => moveCursor(null));
  element.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") moveCursor(null);
    if (!steps || !points.length) return;
    event.preventDefault();
    const from = points.indexOf(pointAtCursor() ?? points.at(-1));
    moveCursor(points[Math.min(points.length - 1, Math.max(0, from + steps))].at_ms);
  });
}

/** The limit that the log kept is drawn against; null: none. */
export function setWalLimit(bytes) {
  walLimit = bytes;
}

/** Begins anew with what the relay remembers. */
export function setHistory(history) {
  stepMs = history.step_seconds * 1000;
  points = [];
  addPoints(history.points);
}

/** Draws the plots at the size they have now. */
export function startPlots() {
  PLOTS.forEach(listenToPlot);
  new ResizeObserver(drawPlots).observe(document.querySelector(".plots"));
}

export function addPoints(added) {
  points = points.concat(added).slice(-POINTS_MAX);
  points = points.filter((point) => point.at_ms >= points.at(-1).at_ms - SPAN_MS);
  drawPlots();
}
