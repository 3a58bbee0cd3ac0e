// The page: tabs, what is asked for while one of them is seen, and the keyboard.

import { account, ago, ask, bytes, clock, day, duration, h, lasting, many, milliseconds, plain, put, send, share } from './data.js';
import { Drawing, choose, side } from './graph.js';

const $ = id => document.getElementById(id);
const TABS = ['graph', 'requests', 'config', 'generations', 'certificates'];
/** How many requests are listed. */
const ROWS = 400;

let tab = 'graph';

// ===== header =====

async function pulse() {
  try {
    const now = await ask('/live/summary');
    put($('identity'), now.identity);
    put($('generation'), `generation ${now.generation}`);
    health(now.ready && !now.failed ? 'good' : 'bad', now.failed ? 'not in force' : now.ready ? 'ready' : 'not ready');
    const { errors, warnings, ignored } = now.problems;
    const wrong = errors + warnings;
    $('badge').hidden = wrong + ignored === 0;
    $('badge').className = `badge ${errors ? 'bad' : wrong ? 'warn' : 'dim'}`;
    put($('badge'), wrong || ignored);
    $('badge').title = [many(errors, 'error'), many(warnings, 'warning'), many(ignored, 'ignored field')].join(', ');
    document.title = `${wrong ? `(${wrong}) ` : ''}${plain(account(now.identity))} · inmesh`;
  } catch {
    health('gone', 'no answer');
  }
}

function health(kind, text) {
  $('health').className = `health ${kind}`;
  put($('health'), text);
}

// ===== graph =====

const view = { graph: null, picked: null };
const drawing = new Drawing($('graph-svg'), (kind, id) => pick(kind === null ? null : id));

function pick(...found) {
  view.picked = found.length > 1 ? found[1] : found[0];
  show();
}

async function readGraph() {
  view.graph = await ask('/live/graph');
  show();
}

function show() {
  const { graph } = view;
  if (!graph) return;
  const chosen = choose(graph, {
    search: $('graph-search').value, most: Number($('graph-most').value),
    collapse: $('graph-collapse').checked, fold: $('graph-fold').checked, idle: $('graph-idle').checked,
  });
  if (view.picked && !chosen.known.has(view.picked) && !chosen.edges.some(edge => view.picked.startsWith(edge.source))) view.picked = null;
  $('graph-empty').hidden = chosen.edges.length > 0;
  drawing.picked = view.picked;
  drawing.show(chosen);
  put($('graph-side'), ...side(chosen, view.picked, pick));
  const window = graph.windowSeconds === null ? 'since the beginning' : `over ${Math.round(graph.windowSeconds)} s`;
  const part = chosen.edges.length < chosen.all ? `${chosen.edges.length} of ${chosen.all.toLocaleString('en')} calls` : `${chosen.all.toLocaleString('en')} calls`;
  put($('graph-note'), `${part}, ${graph.nodes.length.toLocaleString('en')} workloads and services, ${window}`);
}

for (const id of ['graph-search', 'graph-most', 'graph-collapse', 'graph-fold', 'graph-idle']) $(id).addEventListener('input', show);

// ===== requests =====

const tap = { source: null, rows: [], seen: new Set(), lost: 0, paused: false, held: 0, at: -1, opened: null, timer: 0 };

function watch() {
  stop();
  const filter = encodeURIComponent($('filter').value.trim());
  const error = $('filter-error');
  ask(`/live/requests?limit=200&filter=${filter}`).then(found => {
    error.hidden = true;
    tap.rows = [];
    tap.seen.clear();
    found.requests.reverse().forEach(add);
    list();
    if (tab !== 'requests' || document.hidden || $('filter').value.trim() !== decodeURIComponent(filter)) return;
    stop();
    tap.source = new EventSource(`/live/stream?filter=${filter}`);
    tap.source.addEventListener('request', event => {
      if (tap.paused) tap.held += 1;
      else add(JSON.parse(event.data));
      later();
    });
    tap.source.addEventListener('lost', event => {
      tap.lost += JSON.parse(event.data).count;
      later();
    });
    tap.source.onopen = () => note();
    tap.source.onerror = () => note('no answer; trying again');
  }).catch(reason => {
    error.hidden = false;
    put(error, reason.message);
  });
}

function stop() {
  tap.source?.close();
  tap.source = null;
}

function add(request) {
  if (tap.seen.has(request.id)) return;
  tap.seen.add(request.id);
  tap.rows.unshift(request);
  while (tap.rows.length > ROWS) tap.seen.delete(tap.rows.pop().id);
}

// At most five times a second, however many come.
function later() {
  if (!tap.timer) tap.timer = setTimeout(() => {
    tap.timer = 0;
    list();
  }, 200);
}

function list() {
  const body = $('rows');
  const old = new Map([...body.children].map(row => [row.dataset.id, row]));
  const chosen = tap.opened;
  // Rows that stay are the same elements, so that they can be clicked while others come.
  const rows = tap.rows.map(request => old.get(String(request.id)) ?? row(request));
  body.replaceChildren(...rows);
  for (const one of rows) one.classList.toggle('picked', one.dataset.id === String(chosen));
  $('rows-empty').hidden = rows.length > 0;
  note();
}

function note(text) {
  const parts = [text ?? (tap.paused ? `paused${tap.held ? `, ${tap.held} held back` : ''}` : 'live')];
  if (tap.lost) parts.push(`${tap.lost.toLocaleString('en')} not shown: too many at once`);
  put($('tap-note'), parts.join(' · '));
  $('tap-note').className = `note ${text || tap.paused ? '' : 'live'}`;
}

const who = end => (end.workload ? [end.namespace, end.workload].filter(Boolean).join('/') : account(end.identity) || end.address || 'unknown');
/** The name first: where there is little room, the namespace goes. */
const party = (end, whom) => (end.workload ? [h('bdi', {}, end.workload), end.namespace ? h('span', { class: 'dim' }, ' ', h('bdi', {}, end.namespace)) : null]
  : h('bdi', {}, (whom && end.service) || who(end)));

function row(request) {
  const status = request.status === 0 ? '–' : request.grpcStatus === null ? request.status : `${request.status} · grpc ${request.grpcStatus}`;
  return h('tr', { class: request.outcome, 'data-id': String(request.id), onclick: () => open(request.id) },
    h('td', { class: 'mono' }, clock(request.timeMs)),
    h('td', {}, h('span', { class: `status ${request.outcome}` }, status)),
    h('td', { class: 'mono' }, request.method),
    h('td', { class: 'mono path', title: plain(`${request.host}${request.path}`) }, h('bdi', {}, request.path)),
    h('td', { title: plain(request.source.identity) }, request.mtls ? '' : h('span', { class: 'open', title: 'not mutual TLS' }, '⚠ '), party(request.source, false)),
    h('td', { title: plain(request.destination.address) }, party(request.destination, true)),
    h('td', { class: 'mono' }, h('bdi', {}, request.outcome === 'denied' ? request.policy ?? request.refused ?? '' : request.rule ?? request.refused ?? '')),
    h('td', { class: 'mono' }, request.flags === '-' ? '' : request.flags, request.attempts > 1 ? ` ×${request.attempts}` : ''),
    h('td', { class: 'n mono' }, milliseconds(request.durationUs / 1000)));
}

async function open(id) {
  tap.opened = id;
  tap.at = tap.rows.findIndex(request => request.id === id);
  for (const one of $('rows').children) one.classList.toggle('picked', one.dataset.id === String(id));
  const detail = $('detail');
  detail.hidden = false;
  try {
    put(detail, ...told(await ask(`/live/requests/${id}`)));
  } catch (error) {
    put(detail, closer(), h('p', { class: 'wrong' }, error.message));
  }
  location.replace(`#requests/${id}`);
}

function closeDetail() {
  tap.opened = null;
  $('detail').hidden = true;
  for (const one of $('rows').children) one.classList.remove('picked');
  location.replace('#requests');
}

const closer = () => h('button', { class: 'quiet close', title: 'Esc', 'aria-label': 'close', onclick: closeDetail }, '✕');
const entry = (name, value, attributes) => (value === null || value === undefined || value === '' ? [] : [h('dt', {}, name), h('dd', attributes ?? {}, value)]);

function told(it) {
  const end = (name, end) => [
    ...entry(name, who(end) === 'unknown' ? end.service : who(end)),
    ...entry('', end.identity, { class: 'mono wrap dim' }),
    ...entry('', [end.service, end.address].filter(Boolean).join('  ·  '), { class: 'mono wrap dim' }),
  ];
  return [
    closer(),
    h('h2', { class: 'mono wrap' }, h('span', { class: `status ${it.outcome}` }, it.status || '–'), ' ', it.method, ' ', h('bdi', {}, it.path)),
    h('p', { class: 'dim' }, `${it.direction}, ${duration(it.durationUs / 1000)}, ${bytes(it.requestBytes)} in, ${bytes(it.responseBytes)} out, `,
      it.mtls ? 'mutual TLS' : h('span', { class: 'bad' }, 'not mutual TLS'), `, ${ago(it.timeMs)}`),
    it.refusal ? h('p', { class: 'wrong' }, it.refusal.why) : null,
    h('h3', {}, 'Where the time went'), waterfall(it),
    h('h3', {}, 'Decision'), ...decision(it),
    h('h3', {}, 'Route'), ...routing(it),
    it.attemptList?.length ? h('h3', {}, 'Attempts') : null, it.attemptList?.length ? attempts(it.attemptList) : null,
    h('h3', {}, 'Who and what'),
    h('dl', {}, ...end('from', it.source), ...end('to', it.destination),
      ...entry('host', it.host, { class: 'mono wrap' }), ...entry('response flags', it.flags), ...entry('generation', it.generation),
      ...entry('request id', it.requestId, { class: 'mono wrap' }), ...entry('trace id', it.traceId, { class: 'mono wrap' }),
      ...entry('cluster', it.cluster, { class: 'mono wrap' })),
  ];
}

function waterfall(it) {
  const bars = it.waterfall ?? [];
  const total = Math.max(1, it.durationUs);
  const rows = bars.map(bar => {
    const track = h('span', { class: 'track' });
    const block = h('span', { class: `block d${bar.depth} ${bar.failed ? 'bad' : ''}` });
    block.style.setProperty('left', `${Math.min(99.6, bar.startUs / total * 100)}%`);
    block.style.setProperty('width', `${Math.max(0.4, Math.min(100, bar.durationUs / total * 100))}%`);
    track.append(block);
    return h('li', { class: `bar-row d${bar.depth}`, title: plain(bar.note) },
      h('span', { class: 'bar-name' }, bar.name, bar.note ? h('span', { class: 'dim' }, ` ${bar.note}`) : null), track,
      h('span', { class: 'bar-time mono' }, duration(bar.durationUs / 1000)));
  });
  return [h('ol', { class: 'waterfall', id: 'waterfall' }, rows),
    it.followed ? null : h('p', { class: 'dim' }, 'Nobody looked when this request began, so only how it ended was kept.')];
}

function decision(it) {
  const { decision: made, explanation } = it;
  const rules = explanation?.authorization?.rules ?? [];
  const summary = made
    ? h('p', { id: 'decision' }, h('b', { class: made.allowed ? 'good' : 'bad' }, made.allowed ? 'allowed' : 'denied'),
      made.policy ? [' by ', h('b', {}, made.policy), `, rule ${made.rule}`] : ' by no policy',
      made.clause ? [', ', h('code', {}, made.clause)] : '', `, in ${duration(made.costNs / 1e6)}`)
    : h('p', { id: 'decision', class: 'dim' }, it.refusal?.policy ? [h('b', { class: 'bad' }, 'denied'), ' by ', h('b', {}, it.refusal.policy), `, rule ${it.refusal.rule}`]
      : it.direction === 'outbound' ? 'The callee decides.' : 'It was not asked for here.');
  return [summary,
    made?.inputs ? h('p', { class: 'dim' }, 'rests on ', h('code', {}, made.inputs)) : null,
    rules.length ? h('ul', { class: 'verdicts' }, rules.map(rule => h('li', { class: rule.decides ? 'won' : '' },
      h('span', { class: 'verdict' }, rule.decides ? '●' : rule.matches ? '○' : '·'), h('b', {}, `${rule.action} `), `${rule.policy} rule ${rule.rule}`,
      h('span', { class: 'dim' }, rule.decides ? ' decides' : rule.matches === null ? ' cannot be told' : rule.matches ? ' matches' : ' does not match', rule.dryRun ? ', only watched' : ''),
      asks(rule.asks, ask => `${ask.clause} ${ask.of}`)))) : null,
    ...(explanation?.authorization?.remarks ?? []).map(remark => h('p', { class: 'dim' }, remark))];
}

const asks = (list, of) => (list?.length ? h('ul', { class: 'asks' }, list.map(ask => h('li', { class: ask.holds ? 'good' : 'bad' },
  ask.holds ? '✓ ' : '✗ ', h('span', {}, `${of(ask)}: `), h('code', {}, ask.asked), h('span', { class: 'dim' }, ' — '), ask.given === null ? h('i', {}, 'nothing') : h('code', {}, ask.given)))) : null);

function routing(it) {
  const routing = it.explanation?.routing;
  const chosen = h('p', { id: 'route' }, it.rule ? ['rule ', h('b', { class: 'mono' }, it.rule)] : 'no rule was needed', it.cluster ? [' to ', h('b', { class: 'mono' }, it.cluster)] : '');
  if (!routing) return [it.rule || it.cluster ? chosen : h('p', { id: 'route', class: 'dim' }, it.direction === 'inbound' ? 'It ends here.' : it.explanationLeftOut ?? 'Not told of.')];
  return [chosen,
    routing.candidates.length ? h('ul', { class: 'verdicts' }, routing.candidates.map(candidate => h('li', { class: candidate.decides ? 'won' : '' },
      h('span', { class: 'verdict' }, candidate.decides ? '●' : '·'), h('b', { class: 'mono' }, candidate.rule), ` match ${candidate.matchIndex}`,
      h('span', { class: 'dim' }, ` ${candidate.verdict}`), asks(candidate.asks, ask => ask.of)))) : null,
    routing.backends.length ? h('ul', { class: 'verdicts' }, routing.backends.map(backend => h('li', {},
      h('span', { class: 'verdict' }, '→'), h('b', {}, backend.service ?? 'nobody'), ` ${share(backend.share)}`,
      h('span', { class: 'dim' }, ` ${backend.via ?? ''}, ${many(backend.endpointCount, 'endpoint')}`), backend.error ? h('span', { class: 'bad' }, ` ${backend.error}`) : null))) : null];
}

function attempts(list) {
  return h('ol', { class: 'attempts' }, list.map(attempt => h('li', {},
    h('b', {}, attempt.workload), ' ', h('span', { class: 'mono dim' }, `${attempt.address}${attempt.tunnelled ? `, tunnel to ${attempt.dialled}` : ''}`), ' ',
    attempt.failed ? h('span', { class: 'bad' }, attempt.failed) : h('span', { class: 'good' }, String(attempt.status ?? '')),
    ` in ${attempt.durationUs === null ? '–' : duration(attempt.durationUs / 1000)}`)));
}

$('filter').addEventListener('input', () => {
  clearTimeout(tap.typing);
  tap.typing = setTimeout(watch, 250);
});
$('pause').addEventListener('click', pause);
$('clear').addEventListener('click', () => {
  tap.rows = [];
  tap.lost = 0;
  list();
});

function pause() {
  tap.paused = !tap.paused;
  tap.held = 0;
  $('pause').setAttribute('aria-pressed', String(tap.paused));
  put($('pause'), tap.paused ? 'go on' : 'pause');
  if (tap.paused) note();
  else watch();
}

// ===== configuration =====

async function readConfig() {
  pulse();
  const config = await ask('/live/config');
  const problems = config.problems.filter(problem => problem.severity !== 'ignored');
  const ignored = config.problems.filter(problem => problem.severity === 'ignored');
  const { dump } = config;
  put($('config-body'),
    config.failed ? h('p', { class: 'wrong' }, 'What is written now is not in force: ', config.failed.text) : null,
    h('div', { class: 'cards' },
      card(config.generation, 'generation', config.publishedMs ? ago(config.publishedMs) : ''), card(config.resources, 'resources'),
      card(dump.services.length, 'services'), card(dump.clusters.length, 'destinations'),
      card(problems.filter(problem => problem.severity === 'error').length + config.unserved.length, 'errors', '', 'bad'),
      card(problems.filter(problem => problem.severity === 'warning').length, 'warnings', '', 'warn'), card(ignored.length, 'ignored fields')),
    h('h2', {}, 'Problems'),
    problems.length + config.unserved.length === 0 ? h('p', { class: 'good' }, 'None. Everything that is written applies.') : null,
    config.unserved.map(it => h('p', { class: 'wrong' }, `listener ${it.listener} cannot be served: ${it.text}`)),
    problems.length ? problemTable(problems) : null,
    h('h2', {}, 'Written, but not enforced'),
    ignored.length ? problemTable(ignored) : h('p', { class: 'good' }, 'Nothing.'),
    h('h2', {}, 'Logging'), logging(),
    h('h2', {}, 'Services'), services(dump));
}

const card = (figure, name, more, kind) => h('div', { class: `figure ${figure ? kind ?? '' : ''}` }, h('b', {}, figure.toLocaleString('en')), h('span', {}, name), more ? h('small', {}, more) : null);

function problemTable(problems) {
  return h('div', { class: 'scroll' }, h('table', { class: 'problems' }, h('thead', {}, h('tr', {}, ['', 'where', 'resource', 'what', 'what to do'].map(name => h('th', {}, name)))),
    h('tbody', {}, problems.slice(0, 300).map(problem => h('tr', {},
      h('td', {}, h('span', { class: `severity ${problem.severity}` }, problem.severity)),
      h('td', { class: 'mono place' }, h('bdi', {}, problem.place)),
      h('td', {}, h('bdi', {}, problem.resource ?? '')),
      h('td', {}, problem.field ? h('code', {}, problem.field) : null, problem.field ? ' ' : '', problem.text),
      h('td', { class: 'dim' }, problem.remedy))))),
    problems.length > 300 ? h('p', { class: 'dim' }, `and ${problems.length - 300} more: GET /problems`) : null);
}

function services(dump) {
  const clusters = new Map();
  for (const cluster of dump.clusters) {
    const key = `${cluster.service}:${cluster.port}`;
    clusters.set(key, [...(clusters.get(key) ?? []), cluster]);
  }
  const body = h('tbody', {});
  const find = h('input', { type: 'search', placeholder: 'find a service', 'aria-label': 'find a service', autocomplete: 'off', spellcheck: 'false' });
  const count = h('span', { class: 'note' });
  const fill = () => {
    const wanted = find.value.trim().toLowerCase();
    const found = dump.services.filter(service => `${service.name} ${service.host}`.toLowerCase().includes(wanted));
    put(count, found.length > 200 ? `the first 200 of ${found.length.toLocaleString('en')}` : `${found.length}`);
    put(body, found.slice(0, 200).map(service => service.ports.map((port, index) => {
      const reached = clusters.get(`${service.name}:${port.port}`) ?? [];
      const endpoints = reached.flatMap(cluster => cluster.endpoints);
      return h('tr', {}, h('td', { class: 'mono' }, index ? '' : h('bdi', {}, service.name)), h('td', { class: 'mono' }, port.port), h('td', {}, port.protocol),
        h('td', { class: 'mono' }, port.rules.length > 4 ? `${port.rules.slice(0, 4).join(', ')} and ${port.rules.length - 4} more` : port.rules.join(', ')),
        h('td', {}, [...new Set(reached.map(cluster => cluster.via))].join(', ')),
        h('td', { class: 'n', title: plain(endpoints.slice(0, 20).map(endpoint => `${endpoint.workload} ${endpoint.dial}`).join('\n')) }, endpoints.length));
    })));
  };
  find.addEventListener('input', fill);
  fill();
  return [h('p', { class: 'bar inline' }, find, ' ', count), h('div', { class: 'scroll' }, h('table', { class: 'problems' },
    h('thead', {}, h('tr', {}, ['service', 'port', 'protocol', 'routes', 'reached', 'endpoints'].map(name => h('th', {}, name)))), body))];
}

function logging() {
  const now = h('code', { id: 'directives' }, '…');
  const module = h('input', { class: 'mono', placeholder: 'module, such as inmesh::control (empty: all others)', 'aria-label': 'module', size: '44', autocomplete: 'off', spellcheck: 'false' });
  const level = h('select', { 'aria-label': 'level' }, ['off', 'error', 'warn', 'info', 'debug', 'trace'].map(name => h('option', { selected: name === 'debug' }, name)));
  const said = h('span', { class: 'bad' });
  const change = document => send('/logging', document).then(it => {
    put(now, it.directives);
    put(said);
  }).catch(error => put(said, error.message));
  ask('/logging').then(it => put(now, it.directives)).catch(error => put(now, error.message));
  return h('div', { class: 'bar inline' }, now, module, level,
    h('button', { onclick: () => change(module.value.trim() ? { module: module.value.trim(), level: level.value } : { level: level.value }) }, 'log from this level on'),
    h('button', { class: 'quiet', onclick: () => change({ reset: true }) }, 'as in the beginning'), said);
}

// ===== generations =====

const past = { list: [], at: null };

async function readGenerations() {
  const { generations, current } = await ask('/live/generations');
  const key = JSON.stringify(generations.map(it => it.generation));
  if (key === past.key) return;
  past.key = key;
  past.list = generations;
  put($('generation-list'), h('ol', { class: 'generations' }, generations.map(it => h('li', {},
    h('button', { 'data-id': String(it.generation), class: it.generation === past.at ? 'picked' : '', onclick: () => openGeneration(it.generation) },
      h('b', {}, `generation ${it.generation}`), it.generation === current ? h('span', { class: 'chip good' }, 'in force') : null,
      h('span', { class: 'dim right' }, `${clock(it.publishedMs).slice(0, 8)} · ${duration(it.compileMs)}`),
      h('span', { class: 'line' }, it.summary.length ? [it.summary.map(text => h('span', { class: `change ${text.split(' ')[0]}` }, h('bdi', {}, text))),
        it.changeCount > it.summary.length ? h('span', { class: 'dim' }, ` and ${it.changeCount - it.summary.length} more`) : null] : h('span', { class: 'dim' }, 'nothing that is written: time, names or files changed')),
      it.appeared || it.resolved ? h('span', { class: 'line' }, it.appeared ? h('span', { class: 'bad' }, `+${many(it.appeared, 'problem')} `) : null, it.resolved ? h('span', { class: 'good' }, `${it.resolved} resolved`) : null) : null)))));
  if (past.at === null && generations.length) openGeneration(generations[0].generation);
}

async function openGeneration(number) {
  past.at = number;
  for (const one of $('generation-list').querySelectorAll('button')) one.classList.toggle('picked', one.dataset.id === String(number));
  const it = await ask(`/live/generations/${number}`);
  put($('generation-detail'),
    h('h2', {}, `Generation ${it.generation}`),
    h('p', { class: 'dim' }, `${day(it.publishedMs)}, compiled in ${duration(it.compileMs)} from ${many(it.resources, 'resource')}, ${many(it.problems, 'problem')}`),
    it.changes.map(change => h('div', { class: `diff ${change.kind}` },
      h('h3', {}, h('span', { class: `change ${change.kind}` }, change.kind), ' ', h('bdi', {}, change.resource), h('span', { class: 'mono dim right' }, h('bdi', {}, change.place))),
      change.fields.length ? h('table', { class: 'fields' }, h('tbody', {}, change.fields.map(field => h('tr', {},
        h('td', { class: 'mono' }, field.field),
        h('td', {}, field.before === null ? null : h('del', {}, field.before), ' ', field.after === null ? null : h('ins', {}, field.after)))))) : null)),
    it.changeCount > it.changes.length ? h('p', { class: 'dim' }, `and ${it.changeCount - it.changes.length} more`) : null,
    it.changeCount === 0 ? h('p', { class: 'dim' }, 'Nothing that is written changed.') : null,
    it.appeared.length ? [h('h3', {}, 'Problems that came'), problemTable(it.appeared)] : null,
    it.resolved.length ? [h('h3', {}, 'Problems that went'), problemTable(it.resolved)] : null);
}

// ===== certificates =====

async function readCertificates() {
  const { certificates, nowMs } = await ask('/live/certificates');
  // What ends first comes first, but our own before all.
  const order = it => (it.role === 'own' ? 0 : it.notAfterMs);
  put($('certificate-body'), h('div', { class: 'certificates' }, [...certificates].sort((a, b) => order(a) - order(b)).map(it => {
    const whole = Math.max(1, it.notAfterMs - it.notBeforeMs);
    const left = Math.max(0, Math.min(1, (it.notAfterMs - nowMs) / whole));
    const bar = h('span', { class: `life ${it.expired ? 'bad' : left < 0.1 ? 'bad' : left < 0.25 ? 'warn' : ''}` }, h('i'));
    bar.firstChild.style.setProperty('width', `${left * 100}%`);
    return h('article', { class: 'certificate' },
      h('h2', {}, h('span', { class: 'chip' }, it.role), ' ', h('bdi', {}, it.names[0] ?? it.subject)),
      h('p', {}, it.expired ? h('b', { class: 'bad' }, 'expired') : [h('b', {}, lasting(it.secondsLeft)), ' left'], h('span', { class: 'dim' }, ` · until ${day(it.notAfterMs)}`)), bar,
      h('dl', {}, ...entry('of', it.of, { class: 'mono wrap' }), ...entry('subject', it.subject, { class: 'mono wrap' }), ...entry('issuer', it.issuer, { class: 'mono wrap' }),
        ...entry('serial', it.serial, { class: 'mono wrap' }), ...entry('names', it.names.slice(0, 20).join(', '), { class: 'mono wrap' }), ...entry('valid from', day(it.notBeforeMs))));
  })));
}

// ===== tabs, time, keyboard =====

const READ = { graph: readGraph, config: readConfig, generations: readGenerations, certificates: readCertificates };

function go(to) {
  tab = to;
  for (const name of TABS) {
    $(name).hidden = name !== to;
    $(`tab-${name}`).setAttribute('aria-selected', String(name === to));
    $(`tab-${name}`).tabIndex = name === to ? 0 : -1;
  }
  if (to === 'requests') watch();
  else stop();
  READ[to]?.().catch(() => health('gone', 'no answer'));
  if (!location.hash.startsWith(`#${to}`)) location.replace(`#${to}`);
}

for (const name of TABS) $(`tab-${name}`).addEventListener('click', () => go(name));

// What nobody sees is not asked for.
document.addEventListener('visibilitychange', () => (document.hidden ? stop() : go(tab)));

setInterval(() => {
  if (!document.hidden && (tab === 'graph' || tab === 'generations')) READ[tab]().catch(() => health('gone', 'no answer'));
}, 2000);
setInterval(() => {
  if (!document.hidden) pulse();
}, 4000);

// Somebody went back, or wrote another address.
window.addEventListener('hashchange', () => {
  const [to, id] = location.hash.slice(1).split('/');
  if (!TABS.includes(to)) return;
  if (to !== tab) go(to);
  if (to === 'requests' && /^\d+$/.test(id ?? '') && Number(id) !== tap.opened) open(Number(id));
});

// Among tabs as tabs are: arrows lead from one to the next.
document.querySelector('nav').addEventListener('keydown', event => {
  const step = { ArrowLeft: -1, ArrowRight: 1, Home: -TABS.length, End: TABS.length }[event.key];
  if (!step) return;
  event.preventDefault();
  const at = TABS.indexOf(tab) + step;
  go(TABS[Math.abs(step) > 1 ? Math.max(0, Math.min(TABS.length - 1, at)) : (at + TABS.length) % TABS.length]);
  $(`tab-${tab}`).focus();
});

document.addEventListener('keydown', event => {
  const typing = event.target.matches('input, select, textarea');
  if (event.key === 'Escape') {
    if (typing) event.target.blur();
    else if (tab === 'requests' && tap.opened !== null) closeDetail();
    else if (view.picked) pick(null);
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const number = Number(event.key);
  if (number >= 1 && number <= TABS.length) go(TABS[number - 1]);
  else if (event.key === '/') (tab === 'requests' ? $('filter') : tab === 'graph' ? $('graph-search') : document.body).focus();
  else if (event.key === 't') turn();
  else if (tab === 'requests' && event.key === 'p') pause();
  else if (tab === 'requests' && event.target.closest('button') === null && event.key in STEPS) step(STEPS[event.key]);
  else return;
  event.preventDefault();
});

/** Keys among requests: one down, one up, open it. */
const STEPS = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1, Enter: 0 };

function step(by) {
  const rows = [...$('rows').children];
  if (!rows.length) return;
  if (by) {
    const now = rows.findIndex(row => row.classList.contains('picked'));
    tap.at = Math.max(0, Math.min(rows.length - 1, now + by));
  }
  const row = rows[Math.max(0, Math.min(rows.length - 1, tap.at))];
  row.scrollIntoView({ block: 'nearest' });
  open(Number(row.dataset.id));
}

function turn() {
  const now = document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark');
  theme(now === 'light' ? 'dark' : 'light');
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem('theme', name);
  } catch {
    // Then it is forgotten.
  }
}

$('theme').addEventListener('click', turn);
try {
  const kept = localStorage.getItem('theme');
  if (kept === 'dark' || kept === 'light') theme(kept);
} catch {
  // As the system has it.
}

const [first, id] = location.hash.slice(1).split('/');
go(TABS.includes(first) ? first : 'graph');
if (first === 'requests' && /^\d+$/.test(id ?? '')) open(Number(id));
pulse();
