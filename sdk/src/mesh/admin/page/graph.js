// Who calls whom, drawn in columns: callers to the left of what they call.

import { account, bytes, h, milliseconds, plain, put, rate, s, share } from './data.js';

const WIDTH = 180;
const HEIGHT = 50;
const COLUMN = WIDTH + 140;
const ROW = HEIGHT + 36;
/** How much of the drawing's foot the legend takes, in pixels. */
const LEGEND = 38;
/** How many calls are listed beside the drawing. */
const LISTED = 60;
/** How many bends are thought about; beyond, long lines are drawn straight through what is in their way. */
const BENDS = 1500;

/** The part of a graph that is drawn: what is looked for and its neighbours, else the busiest calls. */
export function choose(graph, { search, most, collapse, fold, idle }) {
  const { nodes, edges } = collapse ? byNamespace(graph) : fold ? folded(graph) : graph;
  const known = new Map(nodes.map(node => [node.id, node]));
  const wanted = search.trim().toLowerCase();
  const weight = edge => (edge.rate ?? 0) * 1e6 + edge.requests + (edge.connections?.opened ?? 0);
  let chosen = edges.filter(edge => idle || weight(edge) >= 1e3 || edge.connections?.open > 0);
  if (wanted) {
    const hits = new Set(nodes.filter(node => text(node).includes(wanted)).map(node => node.id));
    chosen = edges.filter(edge => hits.has(edge.source) || hits.has(edge.target));
  }
  const all = chosen.length;
  chosen = [...chosen].sort((a, b) => weight(b) - weight(a) || (a.source + a.target < b.source + b.target ? -1 : 1));
  chosen = chosen.slice(0, most);
  const ids = new Set(chosen.flatMap(edge => [edge.source, edge.target]));
  return { nodes: [...ids].map(id => known.get(id)).filter(Boolean), edges: chosen, all, total: edges.length, known };
}

const text = node => `${node.namespace}/${node.name} ${node.workload ?? ''} ${node.id}`.toLowerCase();

/** A service that one workload alone serves, which nobody calls otherwise, is drawn as one with it. */
function folded(graph) {
  const serves = new Map();
  const called = new Map();
  for (const edge of graph.edges) {
    serves.set(edge.source, (serves.get(edge.source) ?? new Set()).add(edge.target));
    called.set(edge.target, (called.get(edge.target) ?? new Set()).add(edge.source));
  }
  const nodes = new Map(graph.nodes.map(node => [node.id, node]));
  const into = new Map();
  for (const node of graph.nodes) {
    const behind = node.kind === 'service' ? [...serves.get(node.id) ?? []] : [];
    const workload = behind.length === 1 ? nodes.get(behind[0]) : null;
    if (workload?.kind !== 'workload' || called.get(workload.id).size > 1) continue;
    into.set(workload.id, node.id);
    nodes.set(node.id, { ...node, kind: 'both', version: workload.version, identity: workload.identity, workload: workload.name });
    nodes.delete(workload.id);
  }
  const edges = graph.edges.filter(edge => into.get(edge.target) !== edge.source);
  return { nodes: [...nodes.values()], edges: edges.map(edge => (into.has(edge.source) ? { ...edge, source: into.get(edge.source) } : edge)) };
}

function byNamespace(graph) {
  const of = new Map();
  const nodes = new Map();
  for (const node of graph.nodes) {
    const name = node.namespace || 'unknown';
    of.set(node.id, `namespace:${name}`);
    nodes.set(name, { id: `namespace:${name}`, kind: 'namespace', name, namespace: '', version: '', identity: '' });
  }
  const edges = new Map();
  const service = new Set(graph.nodes.filter(node => node.kind === 'service').map(node => node.id));
  for (const edge of graph.edges) {
    // A call counts once: on its way to the service, not on from there.
    if (service.has(edge.source)) continue;
    const [source, target] = [of.get(edge.source), of.get(edge.target)];
    const key = `${source} ${target} ${edge.protocol}`;
    const sum = edges.get(key);
    if (!sum) {
      edges.set(key, { ...edge, source, target, sourceIdentity: '', targetIdentity: '' });
      continue;
    }
    const [a, b] = [sum.requests, edge.requests];
    const mean = (x, y) => (a + b ? (x * a + y * b) / (a + b) : 0);
    sum.failedShare = mean(sum.failedShare, edge.failedShare);
    sum.deniedShare = mean(sum.deniedShare, edge.deniedShare);
    sum.rate = sum.rate === null && edge.rate === null ? null : (sum.rate ?? 0) + (edge.rate ?? 0);
    sum.requests += edge.requests;
    sum.failed += edge.failed;
    sum.denied += edge.denied;
    sum.p50Ms = Math.max(sum.p50Ms ?? 0, edge.p50Ms ?? 0) || null;
    sum.p99Ms = Math.max(sum.p99Ms ?? 0, edge.p99Ms ?? 0) || null;
    sum.mtls = sum.mtls === false || edge.mtls === false ? false : sum.mtls ?? edge.mtls;
  }
  return { nodes: [...nodes.values()], edges: [...edges.values()] };
}

/**
 * Places nodes: those that have to do with each other together, the largest group first, and the groups in rows. A line that
 * passes columns gets a place in each, as if something stood there.
 */
export function layout(nodes, edges, aspect = 1.6) {
  const group = new Map(nodes.map(node => [node.id, node.id]));
  const root = id => {
    while (group.get(id) !== id) {
      group.set(id, group.get(group.get(id)));
      id = group.get(id);
    }
    return id;
  };
  for (const edge of edges) if (group.has(edge.source) && group.has(edge.target)) group.set(root(edge.source), root(edge.target));
  const groups = new Map();
  for (const node of nodes) groups.set(root(node.id), [...groups.get(root(node.id)) ?? [], node]);
  const parts = [...groups].map(([id, members]) => {
    const here = edges.filter(edge => group.has(edge.source) && group.has(edge.target) && root(edge.source) === id);
    const places = columns(members, here, groups.size > 1 ? Infinity : aspect);
    const [xs, ys] = [[...places.values()].map(place => place.x), [...places.values()].map(place => place.y)];
    const top = Math.min(...ys);
    return { places, top, w: Math.max(...xs) + COLUMN, h: Math.max(...ys) - top + ROW + 16 };
  });
  parts.sort((a, b) => b.places.size - a.places.size || b.h - a.h);
  const area = parts.reduce((sum, part) => sum + part.w * part.h, 0);
  const width = Math.max(Math.sqrt(area * aspect), ...parts.map(part => part.w));
  const places = new Map();
  let [x, y, high] = [0, 0, 0];
  for (const part of parts) {
    if (x > 0 && x + part.w > width) [x, y, high] = [0, y + high, 0];
    for (const [id, place] of part.places) places.set(id, { x: x + place.x, y: y + place.y - part.top });
    x += part.w;
    high = Math.max(high, part.h);
  }
  return places;
}

/** The name of the place that a line has in the columns between its ends, counted from 1. */
const bendOf = (edge, index) => `${id(edge)} ${index}`;

/** Places nodes in columns by who calls them, and in each near what they are connected to. */
function columns(nodes, edges, aspect) {
  const out = new Map(nodes.map(node => [node.id, []]));
  const into = new Map(nodes.map(node => [node.id, []]));
  for (const edge of edges) {
    if (edge.source === edge.target) continue;
    out.get(edge.source)?.push(edge.target);
    into.get(edge.target)?.push(edge.source);
  }
  // Depth first, without recursion; what leads back to where one is coming from does not count.
  const state = new Map();
  const order = [];
  const back = new Set();
  const roots = [...nodes].sort((a, b) => into.get(a.id).length - into.get(b.id).length || (a.id < b.id ? -1 : 1));
  for (const root of roots) {
    if (state.has(root.id)) continue;
    const stack = [[root.id, 0]];
    state.set(root.id, 1);
    while (stack.length) {
      const top = stack[stack.length - 1];
      const next = out.get(top[0])[top[1]++];
      if (next === undefined) {
        state.set(top[0], 2);
        order.push(top[0]);
        stack.pop();
      } else if (!state.has(next)) {
        state.set(next, 1);
        stack.push([next, 0]);
      } else if (state.get(next) === 1) {
        back.add(`${top[0]} ${next}`);
      }
    }
  }
  const rank = new Map(nodes.map(node => [node.id, 0]));
  for (const id of order.reverse()) {
    for (const next of out.get(id)) {
      if (!back.has(`${id} ${next}`)) rank.set(next, Math.max(rank.get(next), rank.get(id) + 1));
    }
  }
  const ranks = [];
  for (const node of nodes) (ranks[rank.get(node.id)] ??= []).push(node.id);
  let bends = 0;
  for (const edge of edges) {
    const [from, to] = [rank.get(edge.source), rank.get(edge.target)];
    if (to - from < 2 || (bends += to - from - 1) > BENDS) continue;
    out.get(edge.source).splice(out.get(edge.source).indexOf(edge.target), 1);
    into.get(edge.target).splice(into.get(edge.target).indexOf(edge.source), 1);
    let before = edge.source;
    for (let column = from + 1; column < to; column += 1) {
      const bend = bendOf(edge, column - from);
      ranks[column].push(bend);
      into.set(bend, [before]);
      out.set(bend, []);
      out.get(before).push(bend);
      before = bend;
    }
    out.get(before).push(edge.target);
    into.get(edge.target).push(before);
  }
  const at = new Map();
  ranks.forEach(column => column.sort().forEach((id, index) => at.set(id, index - (column.length - 1) / 2)));
  const middle = (ids, fallback) => (ids.length ? ids.reduce((sum, id) => sum + at.get(id), 0) / ids.length : fallback);
  for (let sweep = 0; sweep < 10; sweep += 1) {
    const walk = sweep % 2 ? [...ranks].reverse() : ranks;
    for (const column of walk) {
      if (!column) continue;
      const wish = new Map(column.map(id => {
        const near = sweep % 2 ? out.get(id) : into.get(id);
        return [id, middle(near.length ? near : [...out.get(id), ...into.get(id)], at.get(id))];
      }));
      column.sort((a, b) => wish.get(a) - wish.get(b) || (a < b ? -1 : 1));
      // Where they wish to be, but a row apart; then all moved so that on the whole the wish is met.
      let last = -Infinity;
      let off = 0;
      for (const id of column) {
        const place = Math.max(wish.get(id), last + 1);
        off += place - wish.get(id);
        at.set(id, place);
        last = place;
      }
      for (const id of column) at.set(id, at.get(id) - off / column.length);
    }
  }
  // Few rows are drawn further apart, as far as there is room: then what is written on the lines has it, too.
  const spread = Math.max(...at.values()) - Math.min(...at.values());
  const row = Math.min(ROW * 2.3, Math.max(ROW, ranks.length * COLUMN / aspect / (spread + 1.5)));
  const places = new Map();
  ranks.forEach((column, index) => column?.forEach(id => places.set(id, { x: index * COLUMN, y: at.get(id) * row })));
  return places;
}

/** A drawing that keeps its places from one reading to the next, as long as the same are drawn. */
export class Drawing {
  constructor(svg, pick) {
    this.svg = svg;
    this.pick = pick;
    this.key = null;
    this.view = null;
    this.picked = null;
    this.edges = new Map();
    this.nodes = new Map();
    this.moved = false;
    svg.addEventListener('wheel', event => {
      event.preventDefault();
      const box = svg.getBoundingClientRect();
      this.zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    }, { passive: false });
    svg.addEventListener('pointerdown', event => {
      if (event.target.closest('.node, .edge')) return;
      const from = { x: event.clientX, y: event.clientY, view: { ...this.view } };
      svg.setPointerCapture(event.pointerId);
      const move = event => {
        const scale = this.scale();
        this.look({ ...this.view, x: from.view.x - (event.clientX - from.x) * scale, y: from.view.y - (event.clientY - from.y) * scale });
      };
      const end = () => {
        svg.removeEventListener('pointermove', move);
        svg.removeEventListener('pointerup', end);
      };
      svg.addEventListener('pointermove', move);
      svg.addEventListener('pointerup', end);
    });
    svg.addEventListener('keydown', event => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (step) this.look({ ...this.view, x: this.view.x + step[0] * this.view.w / 10, y: this.view.y + step[1] * this.view.h / 10 });
      else if (event.key === '+') this.zoom(1 / 1.2, 0.5, 0.5);
      else if (event.key === '-') this.zoom(1.2, 0.5, 0.5);
      else if (event.key === '0') this.fit();
      else return;
      event.preventDefault();
    });
  }

  scale() {
    const box = this.svg.getBoundingClientRect();
    return Math.max(this.view.w / box.width, this.view.h / box.height);
  }

  zoom(by, x, y) {
    const { view } = this;
    if (!view) return;
    const w = Math.min(Math.max(view.w * by, 200), 60000);
    const h = view.h * w / view.w;
    this.look({ x: view.x + (view.w - w) * x, y: view.y + (view.h - h) * y, w, h });
  }

  look(view, moved = true) {
    this.view = view;
    this.moved = moved;
    this.svg.setAttribute('viewBox', `${view.x} ${view.y} ${view.w} ${view.h}`);
  }

  fit() {
    const places = [...this.places.values()];
    const xs = places.map(place => place.x);
    const ys = places.map(place => place.y);
    const [left, top] = [Math.min(...xs) - 40, Math.min(...ys) - 50];
    const w = Math.max(...xs) + WIDTH + 40 - left;
    const hh = Math.max(...ys) + HEIGHT + 50 - top;
    const box = this.svg.getBoundingClientRect();
    // Below, the legend stands.
    const room = Math.max(box.height - LEGEND, box.height / 2);
    const aspect = box.width && room ? box.width / room : 1.6;
    // No larger than it is meant to be, and in the middle.
    const grown = Math.max(w, hh * aspect, Math.min(box.width, 1100) / 1.15);
    const view = { w: grown, h: room ? grown * box.height / box.width : grown / aspect };
    this.look({ ...view, x: left - (grown - w) / 2, y: top - (grown / aspect - hh) / 2 }, false);
  }

  show(chosen) {
    const key = JSON.stringify([chosen.nodes.map(node => node.id).sort(), chosen.edges.map(id).sort()]);
    if (key !== this.key) {
      this.key = key;
      const box = this.svg.getBoundingClientRect();
      this.places = layout(chosen.nodes, chosen.edges, box.height ? box.width / box.height : undefined);
      this.build(chosen);
      if (chosen.nodes.length) this.fit();
    }
    for (const edge of chosen.edges) this.paint(edge);
    for (const node of chosen.nodes) this.nodes.get(node.id)?.group.classList.toggle('picked', node.id === this.picked);
  }

  build(chosen) {
    this.edges.clear();
    this.nodes.clear();
    const lines = s('g', { class: 'edges' });
    const boxes = s('g', { class: 'nodes' });
    const labels = s('g', { class: 'labels' });
    const [leaving, arriving] = [new Map(), new Map()];
    for (const edge of chosen.edges) {
      leaving.set(edge.source, (leaving.get(edge.source) ?? 0) + 1);
      arriving.set(edge.target, (arriving.get(edge.target) ?? 0) + 1);
    }
    for (const edge of chosen.edges) {
      const [from, to] = [this.places.get(edge.source), this.places.get(edge.target)];
      if (!from || !to) continue;
      // Where several leave or arrive, nearer to the other end.
      const bends = [];
      for (let index = 1, bend; (bend = this.places.get(bendOf(edge, index))); index += 1) bends.push(bend);
      const { path, x, y } = bends.length ? detour(from, bends, to)
        : curve(from, to, 0.5 + (leaving.get(edge.source) > 1 ? 0.12 : 0) - (arriving.get(edge.target) > 1 ? 0.12 : 0));
      const pick = () => this.pick('edge', id(edge));
      const line = s('path', { class: 'line', d: path });
      const flow = s('path', { class: 'flow', d: path });
      const title = s('title');
      const group = s('g', { class: 'edge', 'data-source': edge.source, 'data-target': edge.target, onclick: pick }, title, s('path', { class: 'hit', d: path }), line, flow);
      const label = s('text', { class: 'edge-label', x, y: y - 13, onclick: pick });
      const second = s('text', { class: 'edge-label dim', x, y: y + 22, onclick: pick });
      // A padlock, closed where both proved who they are.
      const lock = s('g', { transform: `translate(${x} ${y})`, onclick: pick },
        s('circle', { r: 9 }), s('path', { class: 'shackle', d: 'M-2.6 -1V-3a2.6 2.6 0 0 1 5.2 0V-1' }), s('rect', { x: -4, y: -1, width: 8, height: 6, rx: 1.4 }));
      lines.append(group);
      labels.append(lock, label, second);
      this.edges.set(id(edge), { group, line, flow, title, label, second, lock });
    }
    for (const node of chosen.nodes) {
      const { x, y } = this.places.get(node.id);
      const pick = () => this.pick('node', node.id);
      const below = node.kind === 'service' ? node.namespace
        : [node.namespace, node.version].filter(Boolean).join(' · ') || (node.kind === 'namespace' ? 'namespace' : '');
      const group = s('g', {
        'data-id': node.id, class: `node ${node.kind === 'both' ? 'service' : node.kind}`, transform: `translate(${x} ${y})`, tabindex: '0', role: 'button',
        'aria-label': `${node.kind} ${plain(node.namespace)}/${plain(node.name)}`, onclick: pick,
        onkeydown: event => {
          if (event.key === 'Enter' || event.key === ' ') {
            event.preventDefault();
            pick();
          }
        },
      },
        s('title', {}, `${node.workload ? `service, and workload ${node.workload}: ` : node.kind} ${node.namespace ? node.namespace + '/' : ''}${node.name}${node.identity ? '\n' + node.identity : ''}`),
        s('rect', { width: WIDTH, height: HEIGHT, rx: node.kind === 'service' || node.kind === 'both' ? HEIGHT / 2 : 8 }),
        mark(node.kind),
        s('text', { class: 'name', x: 40, y: below ? 22 : 31 }, cut(node.name, 17)),
        s('text', { class: 'below', x: 40, y: 39 }, cut(below, 20)));
      boxes.append(group);
      this.nodes.set(node.id, { group });
    }
    put(this.svg, lines, boxes, labels);
  }

  paint(edge) {
    const drawn = this.edges.get(id(edge));
    if (!drawn) return;
    const busy = edge.rate ?? 0;
    const classes = ['edge', health(edge), edge.mtls === false ? 'plain' : '', busy > 0 ? 'busy' : 'idle', id(edge) === this.picked ? 'picked' : ''];
    drawn.group.setAttribute('class', classes.filter(Boolean).join(' '));
    drawn.line.style.setProperty('stroke-width', String(1.2 + Math.min(4.5, Math.log10(1 + busy) * 1.8)));
    drawn.flow.style.setProperty('--pace', `${Math.max(0.5, 3.2 - Math.log10(1 + busy)).toFixed(2)}s`);
    const [first, second] = labels(edge);
    put(drawn.label, first);
    put(drawn.second, second);
    drawn.label.setAttribute('class', `edge-label ${health(edge)}`);
    drawn.lock.setAttribute('class', `lock ${edge.mtls === true ? 'closed' : edge.mtls === false ? 'open' : 'unknown'} ${health(edge)}`);
    put(drawn.title, describe(edge));
  }
}

export const id = edge => `${edge.source}→${edge.target}→${edge.protocol}→${edge.reporter}`;

/** In a word, how the calls are doing. */
export function health(edge) {
  if (edge.failedShare >= 0.05) return 'bad';
  if (edge.failedShare > 0) return 'some';
  if (edge.deniedShare > 0) return 'denied';
  return 'ok';
}

function labels(edge) {
  if (edge.connections && !edge.requests) return [`${edge.connections.open} open`, bytes(edge.connections.receivedBytes + edge.connections.sentBytes)];
  const first = edge.rate === null ? `${edge.requests}` : edge.rate > 0 ? `${rate(edge.rate)}/s` : 'idle';
  const wrong = edge.failedShare > 0 ? ` · ${share(edge.failedShare)} failed` : edge.deniedShare > 0 ? ` · ${share(edge.deniedShare)} denied` : '';
  return [first + wrong, edge.p99Ms === null || (edge.rate !== null && !edge.rate) ? '' : `${milliseconds(edge.p50Ms)} / ${milliseconds(edge.p99Ms)} ms`];
}

function describe(edge) {
  const secured = edge.mtls === true ? 'mutual TLS' : edge.mtls === false ? 'NOT mutual TLS' : 'security not known here';
  return `${edge.protocol}, ${secured}\n${account(edge.sourceIdentity)} → ${account(edge.targetIdentity)}\n${edge.requests} requests, ${edge.failed} failed, ${edge.denied} denied`;
}

/** The line from one to another past what stands between them, and a point on its way. */
function detour(from, bends, to) {
  let [x, y] = [from.x + WIDTH, from.y + HEIGHT / 2];
  let path = `M${x} ${y}`;
  const lead = (toX, toY) => {
    const bend = Math.max(40, (toX - x) * 0.5);
    path += `C${x + bend} ${y} ${toX - bend} ${toY} ${toX} ${toY}`;
    [x, y] = [toX, toY];
  };
  for (const bend of bends) {
    lead(bend.x, bend.y + HEIGHT / 2);
    x += WIDTH;
    path += `L${x} ${y}`;
  }
  lead(to.x - 3, to.y + HEIGHT / 2);
  const middle = bends[Math.floor((bends.length - 1) / 2)];
  return { path, x: middle.x + WIDTH / 2, y: middle.y + HEIGHT / 2 };
}

/** The line from one to another, and the point at a share of it. */
function curve(from, to, share) {
  const [x1, y1] = [from.x + WIDTH, from.y + HEIGHT / 2];
  const [x2, y2] = [to.x, to.y + HEIGHT / 2];
  if (x2 > x1) {
    const bend = Math.max(50, (x2 - x1) * 0.45);
    const rest = 1 - share;
    const [a, b, c, d] = [rest ** 3, 3 * rest ** 2 * share, 3 * rest * share ** 2, share ** 3];
    return {
      path: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2 - 3} ${y2}`,
      x: a * x1 + b * (x1 + bend) + c * (x2 - bend) + d * x2, y: (a + b) * y1 + (c + d) * y2,
    };
  }
  // Back to the left, or to itself: around below.
  const low = Math.max(y1, y2) + HEIGHT + 24;
  return { path: `M${x1} ${y1}C${x1 + 80} ${low} ${x2 - 80} ${low} ${x2 - 3} ${y2}`, x: (x1 + x2) / 2, y: low - HEIGHT / 3 };
}

function mark(kind) {
  const group = s('g', { class: 'mark', transform: 'translate(21 25)' });
  if (kind === 'both') group.append(s('path', { d: 'M0 -9L8 -4.5V4.5L0 9L-8 4.5V-4.5Z' }), s('circle', { r: 2.5, class: 'dot' }));
  else if (kind === 'service') group.append(s('circle', { r: 7 }), s('circle', { r: 2.5, class: 'dot' }));
  else if (kind === 'namespace') group.append(s('rect', { x: -8, y: -8, width: 16, height: 16, rx: 3, 'stroke-dasharray': '3 2' }));
  else if (kind === 'unknown') group.append(s('circle', { r: 7, 'stroke-dasharray': '3 3' }));
  else group.append(s('path', { d: 'M0 -8L7 -4V4L0 8L-7 4V-4Z' }));
  return group;
}

function cut(text, most) {
  const shown = [...plain(text)];
  return shown.length > most ? shown.slice(0, most - 1).join('') + '…' : shown.join('');
}

/** The calls as a list: all that are drawn, what is wrong first, or those of what was picked. */
export function side(chosen, picked, pick) {
  const name = id => {
    const node = chosen.known.get(id);
    return node ? `${node.namespace ? node.namespace + '/' : ''}${node.name}` : id;
  };
  const item = edge => h('button', { class: `call ${health(edge)} ${edge.mtls === false ? 'plain' : ''}`, onclick: () => pick('edge', id(edge)) },
    h('span', { class: 'pair' }, h('bdi', {}, name(edge.source)), h('span', { class: 'arrow' }, ' → '), h('bdi', {}, name(edge.target))),
    h('span', { class: 'figures' },
      h('b', {}, edge.connections && !edge.requests ? `${edge.connections.open} open` : edge.rate === null ? `${edge.requests} calls` : `${rate(edge.rate)}/s`),
      h('span', {}, `p50 ${milliseconds(edge.p50Ms)}`), h('span', {}, edge.p99Ms === null ? 'p99 –' : `p99 ${milliseconds(edge.p99Ms)} ms`),
      edge.failedShare > 0 ? h('span', { class: 'bad' }, `${share(edge.failedShare)} failed`) : null,
      edge.deniedShare > 0 ? h('span', { class: 'denied' }, `${share(edge.deniedShare)} denied`) : null,
      edge.mtls === false ? h('span', { class: 'open' }, 'not mutual TLS') : null));
  const list = edges => [edges.slice(0, LISTED).map(item),
    edges.length > LISTED ? h('p', { class: 'dim' }, `and ${(edges.length - LISTED).toLocaleString('en')} more: look for one above, or pick it in the drawing`) : null];
  const back = h('button', { class: 'quiet', onclick: () => pick(null) }, 'show all  (Esc)');
  const node = chosen.known.get(picked);
  if (node) return [card(node, back), list(chosen.edges.filter(edge => edge.source === picked || edge.target === picked))];
  if (picked) return [h('h2', {}, 'One call'), chosen.edges.filter(edge => id(edge) === picked).map(edge => [item(edge), whole(edge)]), back];
  const odd = chosen.edges.filter(edge => health(edge) !== 'ok' || edge.mtls === false);
  const fine = chosen.edges.filter(edge => !odd.includes(edge));
  return [sum(chosen), odd.length ? [h('h3', {}, 'Look at these'), list(odd)] : null, fine.length ? [h('h3', {}, 'Busiest calls'), list(fine)] : null];
}

function card(node, back) {
  return h('div', { class: 'card' }, h('h2', {}, node.name), h('dl', {},
    h('dt', {}, node.kind === 'both' ? 'service' : node.kind), h('dd', {}, `${node.namespace ? node.namespace + '/' : ''}${node.name}`),
    node.workload ? [h('dt', {}, 'workload'), h('dd', {}, node.workload)] : [],
    node.version ? [h('dt', {}, 'version'), h('dd', {}, node.version)] : [],
    node.identity ? [h('dt', {}, 'identity'), h('dd', { class: 'mono wrap' }, node.identity)] : []), back);
}

/** All that is drawn, in four figures. A call counts once: on its way to a service, not on from there. */
function sum(chosen) {
  const counted = chosen.edges.filter(edge => chosen.known.get(edge.source)?.kind !== 'service');
  const total = of => counted.reduce((all, edge) => all + of(edge), 0);
  const calls = total(edge => edge.rate ?? 0);
  const part = of => (calls ? total(edge => (edge.rate ?? 0) * of(edge)) / calls : 0);
  const [failed, denied] = [part(edge => edge.failedShare), part(edge => edge.deniedShare)];
  const open = chosen.edges.filter(edge => edge.mtls === false).length;
  const figure = (figure, name, kind) => h('div', { class: kind ?? '' }, h('b', {}, figure), h('span', {}, name));
  return h('div', { class: 'sum', id: 'graph-sum' },
    figure(`${rate(calls)}/s`, 'requests'),
    figure(share(failed), 'failed', failed >= 0.05 ? 'bad' : failed ? 'warn' : ''),
    figure(share(denied), 'denied', denied ? 'denied' : ''),
    figure(open || '✓', open ? 'not mutual TLS' : 'mutual TLS', open ? 'warn' : 'good'));
}

function whole(edge) {
  const secured = edge.mtls === true ? 'mutual TLS' : edge.mtls === false ? 'NOT mutual TLS' : 'not known here';
  return h('dl', {},
    h('dt', {}, 'protocol'), h('dd', {}, edge.protocol),
    h('dt', {}, 'security'), h('dd', { class: edge.mtls === false ? 'bad' : '' }, secured),
    h('dt', {}, 'caller'), h('dd', { class: 'mono wrap' }, edge.sourceIdentity || '–'),
    h('dt', {}, 'callee'), h('dd', { class: 'mono wrap' }, edge.targetIdentity || '–'),
    h('dt', {}, 'counted by'), h('dd', {}, edge.reporter),
    h('dt', {}, 'requests'), h('dd', {}, `${edge.requests}, ${edge.failed} failed, ${edge.denied} denied`),
    edge.connections ? [h('dt', {}, 'connections'), h('dd', {}, `${edge.connections.opened} opened, ${edge.connections.open} open, ${bytes(edge.connections.receivedBytes)} received, ${bytes(edge.connections.sentBytes)} sent`)] : []);
}
