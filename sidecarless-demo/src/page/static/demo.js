// The demo's page: asks for the state every second and shows it. Whatever comes from outside is put in as text.

import { drawSplit, drawTimes } from "/plots.js";
import { drawTown, tell } from "/graph.js";

const EVERY = 1000;
/** More seconds than a plot shows. */
const KEPT = 240;

const byId = (id) => document.getElementById(id);
const views = new Map();
let seconds = [];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// ===== acts and steps

/** The card of an act, made once; what changes in it is changed in place, so that nobody's typing is lost. */
function actOf(step) {
  const id = `act-${step.act}`;
  if (!views.has(id)) {
    const state = element("span", { class: "state" });
    const summary = element("summary", {}, element("span", { class: "number" }, String(step.act)), element("span", { class: "title" }, step.actTitle), state);
    const card = element("details", { class: "act", id, name: "acts" }, summary);
    card.open = location.hash ? location.hash === `#${id}` : step.act === 3;
    // Whoever loads the page anew is where they were.
    card.addEventListener("toggle", () => {
      if (card.open && location.hash !== `#${id}`) history.replaceState(null, "", `#${id}`);
    });
    byId("acts").append(card);
    views.set(id, { card, state });
  }
  return views.get(id);
}

function stepView(step) {
  if (views.has(step.id)) return views.get(step.id);
  const { card } = actOf(step);
  const badge = element("span", { class: "badge" });
  const lines = element("ul", { class: "lines", "aria-live": "polite" });
  const view = { badge, lines, buttons: [], text: null, choices: [], shown: 0 };
  const section = element("div", { class: "step", "data-step": step.id }, element("h3", {}, step.title, badge), element("p", {}, step.about));
  const bar = element("div", { class: "bar" });
  const button = (label, kind, action) => {
    const made = element("button", { type: "button", class: kind }, label);
    made.addEventListener("click", () => act(step.id, action()));
    view.buttons.push(made);
    return made;
  };
  if (step.runs) {
    bar.append(button(step.id === "clean" ? "Clean up" : "Look", "main run", () => ({ do: "run" })));
  } else {
    view.text = element("textarea", { spellcheck: "false", rows: Math.min(22, lineCount(step.choices[0].yaml)), "aria-label": `${step.title}: YAML` });
    view.text.value = step.now ?? step.choices[0].yaml;
    view.text.addEventListener("input", () => press(view));
    for (const choice of step.choices) {
      const made = element("button", { type: "button", class: "choice" }, choice.name);
      made.addEventListener("click", () => {
        view.text.value = choice.yaml;
        view.text.rows = Math.min(22, lineCount(choice.yaml));
        press(view);
      });
      view.choices.push([made, choice.yaml]);
      if (step.choices.length > 1) bar.append(made);
    }
    // Somebody may have applied something in another window.
    view.current = element("button", { type: "button", class: "choice current" }, "what is in force");
    view.current.addEventListener("click", () => {
      view.text.value = view.now;
      press(view);
    });
    bar.append(view.current);
    bar.append(
      element("span", { class: "grow" }),
      button("Apply", "main apply", () => ({ do: "apply", yaml: view.text.value })),
      button("Delete", "delete", () => ({ do: "delete" })),
    );
    section.append(view.text);
    press(view);
  }
  section.append(bar, lines);
  card.append(section);
  views.set(step.id, view);
  return view;
}

const lineCount = (text) => text.trimEnd().split("\n").length;

function press(view) {
  for (const [button, yaml] of view.choices) button.setAttribute("aria-pressed", String(yaml === view.text.value));
  view.current.hidden = view.now == null || view.now === view.text.value || view.choices.some(([, yaml]) => yaml === view.now);
}

async function act(id, action) {
  const view = views.get(id);
  // A second click of the same finger asks for nothing more.
  if (view.asking) return;
  view.asking = true;
  view.buttons.forEach((button) => (button.disabled = true));
  try {
    const answer = await fetch(`/api/steps/${id}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(action),
    });
    if (!answer.ok) complain(view, (await answer.text()).trim());
    await refresh();
  } catch (error) {
    complain(view, String(error));
  } finally {
    view.asking = false;
    view.buttons.forEach((button) => (button.disabled = false));
  }
}

function complain(view, text) {
  view.lines.append(lineItem("failed", "", "✗", text));
  view.lines.scrollTop = view.lines.scrollHeight;
}

function lineItem(kind, time, mark, text) {
  return element("li", { class: kind }, element("time", {}, time), element("span", { class: "mark" }, mark), element("span", {}, text));
}

const MARKS = { did: "›", saw: "✓", failed: "✗" };

function showSteps(steps, lines) {
  const inForce = new Map();
  for (const step of steps) {
    const view = stepView(step);
    view.now = step.now;
    if (view.text) press(view);
    const choice = step.choices.find((each) => each.yaml === step.now);
    const state = step.runs ? "" : step.now == null ? "not applied" : choice ? (step.choices.length > 1 ? `in force: ${choice.name}` : "in force") : "in force, changed";
    if (view.badge.textContent !== state) view.badge.textContent = state;
    view.badge.hidden = state === "";
    view.badge.classList.toggle("on", !step.runs && step.now != null);
    if (!step.runs && step.now != null) inForce.set(step.act, (inForce.get(step.act) ?? 0) + 1);
    showLines(view, lines.filter((line) => line.step === step.id));
  }
  for (const act of new Set(steps.map((step) => step.act))) {
    const { card, state } = views.get(`act-${act}`);
    const count = inForce.get(act) ?? 0;
    card.classList.toggle("on", count > 0);
    state.textContent = count > 0 ? "in force" : "";
  }
}

function showLines(view, lines) {
  const newest = lines.at(-1);
  if (!newest || newest.number === view.shown) return;
  view.shown = newest.number;
  // What was seen of the last time something was done, and of the time before that.
  const begins = lines.flatMap((line, at) => (line.kind === "did" && line.after < 50 ? [at] : []));
  const from = begins.at(-2) ?? 0;
  const items = lines.slice(from).filter((line) => line.kind !== "done").map((line) => {
    const item = lineItem(line.kind, `+${(line.after / 1000).toFixed(2)} s`, MARKS[line.kind], line.text);
    item.title = new Date(line.at).toLocaleTimeString();
    return item;
  });
  if (newest.kind !== "done") items.push(lineItem("busy", "", "…", "looking"));
  view.lines.replaceChildren(...items);
  view.lines.scrollTop = view.lines.scrollHeight;
}

// ===== tables

function row(...cells) {
  const cell = (content) => {
    if (!Array.isArray(content)) return element("td", {}, content ?? "");
    return element("td", { class: content[0] }, content[1]);
  };
  return element("tr", {}, ...cells.map(cell));
}

function link(text, href) {
  return element("a", { href, target: "_blank", rel: "noreferrer" }, text);
}

/** Shows rows, if they are others than those that are shown: so that a link can be clicked that does not change. */
function showRows(table, told, rows) {
  const key = JSON.stringify(told);
  if (table.dataset.key === key) return;
  table.dataset.key = key;
  table.tBodies[0].replaceChildren(...told.map(rows));
}

function showPods(pods) {
  showRows(byId("pods"), pods, (pod) => {
    const state = element("span", {}, element("i", { class: `dot ${pod.phase}` }), pod.phase);
    const restarts = element("span", { class: pod.restarts > 0 ? "warn" : "" }, String(pod.restarts));
    const ended = pod.ended ? element("small", {}, ` ${pod.ended}`) : "";
    const made = row(pod.key, state, element("code", {}, pod.address), ["n", String(pod.process ?? "–")], element("span", {}, restarts, ended), element("code", {}, pod.identity), link("live view", pod.admin));
    made.dataset.pod = pod.key;
    return made;
  });
}

const clock = (at) => new Date(at).toLocaleTimeString("en-GB");

function showPages(pages, traces) {
  showRows(byId("pages"), pages, (page) => {
    const answer = page.fault ? element("span", { class: "bad" }, page.fault) : "whole";
    const trace = page.trace ? link("trace", `${traces}/${encodeURIComponent(page.trace)}`) : "";
    return row(clock(page.at), answer, page.served_by, element("code", {}, page.peer), ["n", `${(page.micros / 1000).toFixed(1)} ms`], trace);
  });
}

function showTotals(totals) {
  byId("requests").textContent = totals.requests.toLocaleString("en");
  byId("failed").textContent = totals.failed.toLocaleString("en");
  byId("failed").classList.toggle("bad", totals.failed > 0);
  byId("failures").hidden = totals.failed === 0;
  const which = totals.failures.length < totals.failed ? `the last ${totals.failures.length} of ${totals.failed.toLocaleString("en")}` : "all of them";
  byId("failures-title").textContent = `Requests that failed, ${which}`;
  showRows(byId("failures-table"), totals.failures, (failure) => row(clock(failure.at), failure.stream, element("span", { class: "bad" }, failure.fault)));
  const recent = seconds.slice(-5);
  const asked = recent.flatMap((second) => [...Object.values(second.split), second.direct?.count ?? 0, second.through?.count ?? 0]);
  byId("rate").textContent = recent.length ? (asked.reduce((all, each) => all + each, 0) / recent.length).toFixed(0) : "–";
}

// ===== the call that somebody points at

let pointed = null;

function point(call) {
  pointed = [call.from, call.to];
  showCall(call);
}

function showCall(call) {
  const { ends, figures, identities } = tell(call);
  byId("call").replaceChildren(element("b", {}, ends), element("span", {}, figures), element("code", {}, identities));
}

// ===== the whole

function show(state) {
  seconds = [...seconds, ...state.seconds].slice(-KEPT);
  byId("entrance").href = `http://${state.entrance}/productpage`;
  byId("traces").href = state.traces;
  byId("folder").textContent = state.folder;
  byId("prometheus").textContent = state.prometheus;
  showTotals(state.totals);
  showSteps(state.steps, state.lines);
  drawTown(byId("town"), state.pods, state.edges, point);
  const call = pointed && state.edges.find((edge) => edge.from === pointed[0] && edge.to === pointed[1]);
  if (call) showCall(call);
  drawSplit(byId("split"), byId("split-figures"), seconds, state.at);
  drawTimes(byId("time"), byId("time-figures"), seconds, state.at);
  showPods(state.pods);
  showPages(state.pages, state.traces);
  // Where a plot is wider than the screen, what is now is seen first.
  if (!document.body.dataset.shown) for (const plot of ["split", "time"]) byId(plot).parentElement.scrollLeft = byId(plot).parentElement.scrollWidth;
  document.body.dataset.shown = String(state.at);
}

let asking = null;

/** Asks once at a time: whoever asks meanwhile waits for the same answer. */
function refresh() {
  asking ??= (async () => {
    try {
      const answer = await fetch(`/api/state?since=${seconds.at(-1)?.at ?? 0}`);
      show(await answer.json());
      byId("lost").hidden = true;
    } finally {
      asking = null;
    }
  })();
  return asking;
}

async function follow() {
  for (;;) {
    try {
      await refresh();
    } catch (error) {
      byId("lost").hidden = false;
      console.debug(error);
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY));
  }
}

follow();
