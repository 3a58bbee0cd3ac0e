// Plots as SVG: shares of a split, and times.

const SVG = "http://www.w3.org/2000/svg";
/** How much of the past a plot shows, and over how much of it a share is taken, in milliseconds. */
const SHOWN = 180_000;
const WINDOW = 15_000;
/** 95 of 100 shares lie this many standard deviations around the weight. */
const SIGMAS = 1.96;

const frame = { left: 58, right: 12, top: 8, bottom: 20 };

export function svg(name, attributes = {}, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

export function color(version) {
  const known = /-(v[123])$/.exec(version);
  return known ? `c-${known[1]}` : "c-other";
}

/** The area of a plot, with a time axis that ends at `until` and an axis from 0 to `most`. */
function axes(canvas, until, most, label) {
  const [, , width, height] = canvas.getAttribute("viewBox").split(" ").map(Number);
  const right = width - frame.right;
  const floor = height - frame.bottom;
  const x = (at) => right - ((until - at) / SHOWN) * (right - frame.left);
  const y = (value) => floor - (Math.min(value, most) / most) * (floor - frame.top);
  const parts = [];
  for (let step = 0; step <= 4; step += 1) {
    const value = (most * step) / 4;
    parts.push(svg("line", { class: "grid", x1: frame.left, x2: right, y1: y(value), y2: y(value) }));
    parts.push(svg("text", { x: frame.left - 6, y: y(value) + 4, "text-anchor": "end" }, label(value)));
  }
  for (let ago = 0; ago <= SHOWN; ago += 30_000) {
    const text = ago === 0 ? "now" : `${ago / 1000} s`;
    parts.push(svg("text", { x: x(until - ago), y: height - 4, "text-anchor": ago === 0 ? "end" : "middle" }, text));
  }
  return { x, y, parts };
}

/** A path through points; a gap where one is missing. */
function path(points) {
  let pen = "M";
  let text = "";
  for (const point of points) {
    if (!point) {
      pen = "M";
      continue;
    }
    text += `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
    pen = "L";
  }
  return text;
}

/** Areas between two edges; a gap where either is missing. */
function areas(upper, lower) {
  const runs = [];
  let run = null;
  upper.forEach((point, index) => {
    if (!point || !lower[index]) {
      run = null;
      return;
    }
    if (!run) runs.push((run = { up: [], down: [] }));
    run.up.push(point);
    run.down.unshift(lower[index]);
  });
  return runs.filter((each) => each.up.length > 1).map((each) => `${path([...each.up, ...each.down])}Z`);
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** What each second shows of the split: shares of a window that begins anew when the weights change. */
export function shares(seconds) {
  let began = 0;
  return seconds.map((second, index) => {
    const before = seconds[index - 1];
    // The second of the change itself is of both.
    if (before && !same(before.weights, second.weights)) began = index + 1;
    const counts = {};
    let sum = 0;
    for (let at = index; at >= began && second.at - seconds[at].at < WINDOW; at -= 1) {
      for (const [version, count] of Object.entries(seconds[at].split)) {
        counts[version] = (counts[version] ?? 0) + count;
        sum += count;
      }
    }
    return { at: second.at, counts, sum, weights: second.weights };
  });
}

const weight = (weights, version) => {
  const sum = Object.values(weights ?? {}).reduce((all, each) => all + each, 0);
  return sum > 0 ? (weights[version] ?? 0) / sum : null;
};

export function drawSplit(canvas, figures, seconds, until) {
  const points = shares(seconds).filter((point) => until - point.at < SHOWN);
  const { x, y, parts } = axes(canvas, until, 1, (value) => `${value * 100} %`);
  const versions = new Set(points.flatMap((point) => [...Object.keys(point.counts), ...Object.keys(point.weights ?? {})]));
  const last = points.at(-1);
  const list = [];
  for (const version of [...versions].sort()) {
    const kind = color(version);
    const band = (sign) =>
      points.map((point) => {
        const p = weight(point.weights, version);
        if (p === null || point.sum === 0) return null;
        const off = SIGMAS * Math.sqrt((p * (1 - p)) / point.sum);
        return [x(point.at), y(Math.min(1, Math.max(0, p + sign * off)))];
      });
    for (const area of areas(band(1), band(-1))) parts.push(svg("path", { class: `band ${kind}`, d: area }));
    const configured = points.map((point) => {
      const p = weight(point.weights, version);
      return p === null ? null : [x(point.at), y(p)];
    });
    parts.push(svg("path", { class: `weight ${kind}`, d: path(configured) }));
    const measured = points.map((point) => (point.sum > 0 ? [x(point.at), y((point.counts[version] ?? 0) / point.sum)] : null));
    parts.push(svg("path", { class: `line ${kind}`, d: path(measured) }));
    if (last && last.sum > 0) {
      const p = weight(last.weights, version);
      const share = (last.counts[version] ?? 0) / last.sum;
      if (share === 0 && !p) continue;
      const expected = p === null ? "no weight configured" : `of ${(p * 100).toFixed(0)} % configured`;
      list.push([kind, `${(share * 100).toFixed(1)} %`, `${version}, ${expected}`]);
    }
  }
  if (last && last.sum > 0) list.push([null, last.sum.toLocaleString("en"), "requests in the window"]);
  canvas.replaceChildren(...parts);
  show(figures, list);
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor((sorted.length - 1) / 2)] : null;
};

/** The least round number that is not smaller. */
function round(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 0.001)));
  return [1, 2, 4, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999) ?? value;
}

export function drawTimes(canvas, figures, seconds, until) {
  const points = seconds.filter((point) => until - point.at < SHOWN);
  const kinds = ["direct", "through"];
  const tops = points.flatMap((point) => kinds.map((kind) => point[kind]?.p90).filter(Boolean)).sort((a, b) => a - b);
  // A few bad seconds must not flatten all the others.
  const most = round(((tops[Math.floor((tops.length - 1) * 0.8)] ?? 1000) / 1000) * 1.4);
  const { x, y, parts } = axes(canvas, until, most, (value) => `${+value.toPrecision(3)} ms`);
  const list = [];
  const medians = {};
  for (const kind of kinds) {
    const edge = (key) => points.map((point) => (point[kind] ? [x(point.at), y(point[kind][key] / 1000)] : null));
    for (const area of areas(edge("p90"), edge("p50"))) parts.push(svg("path", { class: `band c-${kind}`, d: area }));
    parts.push(svg("path", { class: `line c-${kind}`, d: path(edge("p50")) }));
    const recent = points.filter((point) => until - point.at < WINDOW && point[kind]).map((point) => point[kind]);
    medians[kind] = median(recent.map((spread) => spread.p50));
    const what = kind === "direct" ? "straight to the workload" : "through a waypoint";
    if (medians[kind] === null) {
      list.push([`c-${kind}`, "–", kind === "through" ? "no waypoint is in the way: enrol the namespace in act 2" : what]);
    } else {
      const p99 = median(recent.map((spread) => spread.p99));
      list.push([`c-${kind}`, `${(medians[kind] / 1000).toFixed(2)} ms`, `${what}, p99 ${(p99 / 1000).toFixed(2)} ms`]);
    }
  }
  if (medians.direct && medians.through) {
    list.push([null, `+${((medians.through - medians.direct) / 1000).toFixed(2)} ms`, `for the waypoint, ${(medians.through / medians.direct).toFixed(1)} times`]);
  }
  canvas.replaceChildren(...parts);
  show(figures, list);
}

function show(figures, list) {
  const items = list.map(([kind, figure, text]) => {
    const item = document.createElement("li");
    const big = document.createElement("b");
    const small = document.createElement("span");
    if (kind) {
      const key = document.createElement("i");
      key.className = `key ${kind}`;
      big.append(key);
    }
    big.append(figure);
    small.textContent = text;
    item.append(big, small);
    return item;
  });
  figures.replaceChildren(...items);
}
