// The page: tabs, the key, and small helpers. Text of models and servers is only ever set as text.
import { startLive } from "./live.js";
import { startRows } from "./rows.js";
import { pieces, plain } from "./visible.js";

/** Finds an element by its id. */
export const byId = (id) => document.getElementById(id);

/** Makes an element with text and attributes; nothing is ever parsed as HTML. */
export function make(tag, { text, className, ...attributes } = {}, children = []) {
  const element = document.createElement(tag);
  if (text !== undefined) element.append(...shown(pieces(String(text))));
  if (className !== undefined) element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, plain(value));
  element.append(...children);
  return element;
}

/** Pieces of a text as nodes; marks for what cannot be seen look like none of the text. */
export function shown(pieces) {
  return pieces.map(({ text, isMark }) => {
    if (!isMark) return document.createTextNode(text);
    const mark = document.createElement("span");
    mark.className = "unseen";
    mark.textContent = text;
    return mark;
  });
}

/** Says something in an element that is there. */
export function say(element, text) {
  const words = plain(String(text));
  if (element.textContent !== words) element.textContent = words;
}

/** A header carries these characters and no others; the program has no other keys either. */
const isKey = (text) => /^[\x21-\x7e]+$/.test(text);

function keptKey() {
  const key = sessionStorage.getItem("key");
  if (key === null || isKey(key)) return key;
  sessionStorage.removeItem("key");
  return null;
}

/** Asks the program; with the key, when there is one. */
export async function ask(path, options = {}) {
  const key = keptKey();
  const headers = key === null ? {} : { authorization: `Bearer ${key}` };
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) {
    // One that is wrong is not kept: nothing would go before another is given.
    if (sessionStorage.getItem("key") === key) sessionStorage.removeItem("key");
    if (key !== null) say(byId("key-told"), "That is not the key.");
    byId("key-form").hidden = false;
  }
  return answer;
}

/** The same for an answer in JSON; an error is thrown with what the program said. */
export async function askJson(path, options) {
  const answer = await ask(path, options);
  const body = await answer.json();
  if (!answer.ok || body.error !== undefined) {
    throw new Error(body.error ?? `status ${answer.status}`);
  }
  return body;
}

/** A number for people. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value)
    ? value.toLocaleString("en")
    : String(Number(value.toPrecision(4)));
}

const tabs = ["live", "rows"];

function show(name) {
  for (const tab of tabs) {
    byId(tab).hidden = tab !== name;
    byId(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
    byId(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
  }
  history.replaceState(null, "", `#${name}`);
}

for (const tab of tabs) {
  byId(`tab-${tab}`).addEventListener("click", () => show(tab));
  byId(`tab-${tab}`).addEventListener("keydown", ({ key }) => {
    if (key !== "ArrowLeft" && key !== "ArrowRight") return;
    const there = tabs.filter((one) => !byId(`tab-${one}`).hidden);
    const next = there[(there.indexOf(tab) + 1) % there.length];
    show(next);
    byId(`tab-${next}`).focus();
  });
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  // Spaces and line ends come along when it is copied.
  const key = byId("key").value.trim();
  byId("key").value = "";
  if (!isKey(key)) {
    say(
      byId("key-told"),
      key === ""
        ? "Give the key."
        : "A key has letters a to z, digits and signs of ASCII, and no spaces. Is the keyboard " +
          "set to another language?",
    );
    return;
  }
  say(byId("key-told"), "");
  sessionStorage.setItem("key", key);
  byId("key-form").hidden = true;
  start();
});

let isStarted = false;

async function start() {
  if (isStarted) return;
  let about;
  try {
    about = await askJson("/api/about");
  } catch (error) {
    say(byId("connection"), error.message);
    if (byId("key-form").hidden) setTimeout(start, 1000);
    return;
  }
  isStarted = true;
  byId("tab-live").hidden = !about.live;
  byId("tab-rows").hidden = about.file === null;
  const wanted = location.hash.slice(1);
  const first = about.live ? "live" : "rows";
  show(wanted === "live" && about.live || wanted === "rows" && about.file ? wanted : first);
  if (about.actions.length > 0 && keptKey() === null) {
    byId("key-form").hidden = false;
  }
  if (about.live) startLive(about);
  else byId("connection").textContent = "";
  if (about.file !== null) startRows(about.file);
}

start();
