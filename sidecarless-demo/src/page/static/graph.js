// The town: who calls whom.

import { svg } from "/plots.js";

const SIZE = { width: 150, height: 40 };
/** Where services stand, from left to right; what is not listed stands with the services in the middle. */
const COLUMNS = [["other", "curl"], ["productpage"], ["details", "reviews"], ["ratings"]];
const MIDDLE = 2;

function column(pod) {
  if (pod.role === "client" || pod.role === "gateway") return 0;
  const found = COLUMNS.findIndex((apps) => apps.some((app) => pod.workload.startsWith(app)));
  return found < 0 ? MIDDLE : found;
}

/** The browser's way in above, whoever calls everything below: so no line crosses a box. */
const rank = (pod) => (pod.role === "gateway" ? 0 : pod.workload === "curl" ? 2 : 1);

/** The middle of each workload. */
function places(pods, width, height) {
  const waypoints = pods.filter((pod) => pod.role === "waypoint");
  const others = pods.filter((pod) => pod.role !== "waypoint");
  const floor = waypoints.length > 0 ? height - SIZE.height - 34 : height;
  const spots = new Map();
  const left = SIZE.width / 2 + 4;
  const step = (width - 2 * left) / (COLUMNS.length - 1);
  COLUMNS.forEach((_, at) => {
    // Whoever stands alone at the end stands between two rows: lines that lead there from a waypoint pass between boxes.
    const last = at === COLUMNS.length - 1;
    const here = others.filter((pod) => column(pod) === at).sort((a, b) => rank(a) - rank(b));
    here.forEach((pod, index) => {
      spots.set(pod.workload, { x: left + at * step, y: ((index + 0.5) * floor) / Math.max(last ? 1 : 3, here.length) });
    });
  });
  waypoints.forEach((pod, index) => {
    const x = width / 2 + (index - (waypoints.length - 1) / 2) * (SIZE.width + 40);
    spots.set(pod.workload, { x, y: height - SIZE.height / 2 - 6, waypoint: true });
  });
  return spots;
}

/** A curve between a box and a waypoint below it: sideways out of the box, and down to the waypoint's top, or back. */
function elbow(box, waypoint, away) {
  const right = waypoint.x > box.x ? 1 : -1;
  const side = { x: box.x + (right * SIZE.width) / 2, y: box.y + (away ? 6 : -6) };
  const top = { x: waypoint.x - right * (away ? 8 : 24), y: waypoint.y - SIZE.height / 2 };
  const bend = { x: top.x, y: side.y };
  const d = away
    ? `M${side.x} ${side.y}C${bend.x} ${bend.y} ${bend.x} ${bend.y} ${top.x} ${top.y}`
    : `M${top.x} ${top.y}C${bend.x} ${bend.y} ${bend.x} ${bend.y} ${side.x} ${side.y}`;
  // A curve's middle, where both bends are the same point.
  const half = (a, b, c) => a / 8 + (6 * b) / 8 + c / 8;
  return { d, x: half(side.x, bend.x, top.x), y: half(side.y, bend.y, top.y) };
}

/** A curve from one box to another: sideways between columns, up or down within one. */
function curve(from, to) {
  if (to.waypoint && !from.waypoint) return elbow(from, to, true);
  if (from.waypoint && !to.waypoint) return elbow(to, from, false);
  const ahead = to.x >= from.x ? 1 : -1;
  if (Math.abs(to.x - from.x) > SIZE.width) {
    const a = { x: from.x + (ahead * SIZE.width) / 2, y: from.y + ahead * 5 };
    const b = { x: to.x - (ahead * SIZE.width) / 2, y: to.y + ahead * 5 };
    const middle = (a.x + b.x) / 2;
    return { d: `M${a.x} ${a.y}C${middle} ${a.y} ${middle} ${b.y} ${b.x} ${b.y}`, x: middle, y: (a.y + b.y) / 2 };
  }
  const down = to.y >= from.y ? 1 : -1;
  const a = { x: from.x + down * 12, y: from.y + (down * SIZE.height) / 2 };
  const b = { x: to.x + down * 12, y: to.y - (down * SIZE.height) / 2 };
  const middle = (a.y + b.y) / 2;
  return { d: `M${a.x} ${a.y}C${a.x} ${middle} ${b.x} ${middle} ${b.x} ${b.y}`, x: (a.x + b.x) / 2, y: middle };
}

const rate = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1));

const kindOf = (call) => (call.failed > 0 ? "failing" : call.denied > 0 ? "denied" : call.mutual_tls ? "mutual" : "");

/** Everything that is known of a call, in words. */
export function tell(call) {
  const security = { true: "mutual TLS", false: "not mutual TLS", null: "security not known" }[call.mutual_tls];
  const ms = (value) => (value === null ? "–" : `${value.toFixed(value < 10 ? 1 : 0)} ms`);
  const parts = [`${rate(call.rate)} requests per second`, `median ${ms(call.p50)}, p99 ${ms(call.p99)}`, security];
  if (call.failed > 0) parts.push(`${rate(call.failed)} per second failed`);
  if (call.denied > 0) parts.push(`${rate(call.denied)} per second refused`);
  return {
    ends: `${call.from} → ${call.to}`,
    figures: parts.join(" · "),
    identities: `${call.caller || "unknown"} → ${call.identity || "unknown"}`,
  };
}

function edge(call, spots, pick) {
  const line = curve(spots.get(call.from), spots.get(call.to));
  const told = tell(call);
  const group = svg("g", {
    class: `edge ${kindOf(call)}`, "data-from": call.from, "data-to": call.to, tabindex: "0", role: "button", "aria-label": `${told.ends}: ${told.figures}`,
  });
  for (const event of ["click", "focus", "pointerenter"]) group.addEventListener(event, () => pick(call));
  group.append(svg("title", {}, `${told.ends}\n${told.figures}\n${told.identities}`));
  const width = 1.4 + Math.min(3.2, Math.log10(1 + call.rate) * 1.5);
  group.append(svg("path", { d: line.d, class: "hit" }), svg("path", { d: line.d, "stroke-width": width }));
  if (call.rate > 0) group.append(svg("path", { d: line.d, class: "flow", "stroke-width": Math.max(1.2, width - 1) }));
  const extra = call.denied > 0 ? ` · ${rate(call.denied)} refused` : call.failed > 0 ? ` · ${rate(call.failed)} failed` : "";
  group.append(svg("text", { x: line.x, y: line.y - 4 }, `${rate(call.rate)}/s${extra}`));
  return group;
}

function node(pod, spot, quiet) {
  const group = svg("g", { class: `node ${pod.role} ${pod.phase}${quiet ? " quiet" : ""}`, "data-workload": pod.workload });
  const account = pod.identity.split("/").at(-1);
  group.append(svg("title", {}, `${pod.key}\n${pod.identity}\n${pod.address}, ${pod.phase}`));
  const corner = { x: spot.x - SIZE.width / 2, y: spot.y - SIZE.height / 2 };
  group.append(svg("rect", { ...corner, width: SIZE.width, height: SIZE.height, rx: 8 }));
  group.append(svg("text", { class: "name", x: spot.x, y: spot.y - 2 }, short(pod.workload, 22)));
  const what = pod.role === "service" ? `sa/${account}` : `${pod.role}, sa/${account}`;
  group.append(svg("text", { class: "what", x: spot.x, y: spot.y + 12 }, short(what, 28)));
  return group;
}

const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** Draws the town; `pick` is told of the call that somebody points at. */
export function drawTown(canvas, pods, edges, pick) {
  const [, , width, height] = canvas.getAttribute("viewBox").split(" ").map(Number);
  const spots = places(pods, width, height);
  const known = edges.filter((call) => spots.has(call.from) && spots.has(call.to));
  const busy = new Set(known.flatMap((call) => [call.from, call.to]));
  // What somebody is at by keyboard stays so when it is drawn anew.
  const { from, to } = canvas.contains(document.activeElement) ? document.activeElement.dataset : {};
  const lines = known.map((call) => edge(call, spots, pick));
  const boxes = pods.map((pod) => node(pod, spots.get(pod.workload), !busy.has(pod.workload)));
  canvas.replaceChildren(...lines, ...boxes);
  if (from) lines.find((line) => line.dataset.from === from && line.dataset.to === to)?.focus({ preventScroll: true });
}
