// What the page asks for, and how it writes it. Text only ever becomes text: nothing here, or anywhere on the page, makes
// markup of what it was told.

/** Asks for a document. */
export async function ask(path) {
  const response = await fetch(path, { cache: 'no-store', credentials: 'same-origin' });
  if (!response.ok) throw new Error((await response.text()).trim() || `status ${response.status}`);
  return response.json();
}

/** Sends a document. */
export async function send(path, document) {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(path, { method: 'POST', headers, body: JSON.stringify(document) });
  if (!response.ok) throw new Error((await response.text()).trim() || `status ${response.status}`);
  return response.json();
}

// Characters that are not seen, or turn around what stands beside them: they are written as what they are.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Somebody else's text, so that it shows what it is. */
export function plain(text) {
  return String(text ?? '').replace(UNSEEN, c => '\\u' + c.codePointAt(0).toString(16).padStart(4, '0'));
}

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(plain(child)));
  }
  return element;
}

/** An element. Whatever is no element becomes text. */
export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);

/** An element of a drawing. */
export const s = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/** Puts these in place of what is there. */
export function put(element, ...children) {
  element.replaceChildren();
  return fill(element, {}, children);
}

export function milliseconds(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms < 1) return ms.toFixed(2);
  if (ms < 10) return ms.toFixed(1);
  return Math.round(ms).toLocaleString('en');
}

export function duration(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms < 0.1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 1000) return `${milliseconds(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
}

export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return '–';
  if (perSecond === 0) return '0';
  if (perSecond < 10) return perSecond.toFixed(1);
  if (perSecond < 10000) return Math.round(perSecond).toString();
  return `${(perSecond / 1000).toFixed(1)}k`;
}

export function share(part) {
  if (!part) return '0 %';
  const percent = part * 100;
  return percent < 1 ? '< 1 %' : `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
}

export function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let index = 0;
  while (count >= 1024 && index < units.length - 1) {
    count /= 1024;
    index += 1;
  }
  return `${index === 0 ? count : count.toFixed(1)} ${units[index]}`;
}

/** So many of them. */
export const many = (count, name) => `${count.toLocaleString('en')} ${name}${count === 1 ? '' : 's'}`;

export function clock(ms) {
  const time = new Date(ms);
  const two = number => String(number).padStart(2, '0');
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${String(time.getMilliseconds()).padStart(3, '0')}`;
}

export function day(ms) {
  return new Date(ms).toISOString().replace('T', ' ').slice(0, 16) + ' UTC';
}

export function lasting(seconds) {
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60]]) {
    if (seconds >= size * 2) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
}

export function ago(ms) {
  return `${lasting(Math.max(0, (Date.now() - ms) / 1000))} ago`;
}

/** The end of a SPIFFE id that tells who it is. */
export function account(identity) {
  const found = /\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(identity ?? '');
  return found ? `${found[1]}/${found[2]}` : identity ?? '';
}
