// Trajectories: a list of any length, drawn only where it is looked at, and one row in full.
import { askJson, byId, make, short } from "./page.js";

const LINE = 24;
const PAGE = 100;
let total = 0;
let query = new URLSearchParams();
let pages = new Map();
let chosen = -1;
let asked = 0;
let colour = "logprob";

/** Begins to show a file. */
export function startRows(file) {
  byId("file").textContent = `${file.name}: ${short(file.rows)} rows, ${short(file.dialogs)} ` +
    `dialogs, ${short(file.groups)} groups, mean reward ${short(file.meanReward)}, ${file.schema}`;
  const form = byId("row-filter");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void filter();
  });
  byId("jump").addEventListener("change", () => void openRow(Number(byId("jump").value)));
  const list = byId("list");
  list.addEventListener("scroll", () => void draw());
  list.addEventListener("click", (event) => {
    const line = event.target.closest(".line");
    if (line !== null) void choose(Number(line.dataset.at));
  });
  list.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -1e9, End: 1e9 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    void choose(Math.max(0, Math.min(total - 1, chosen + steps[event.key])));
  });
  void filter();
}

async function filter() {
  query = new URLSearchParams();
  for (const [name, value] of new FormData(byId("row-filter"))) {
    if (value !== "") query.set(name, value);
  }
  byId("export").href = `/api/export?${query}`;
  pages = new Map();
  chosen = -1;
  const own = ++asked;
  byId("found").textContent = "searching";
  try {
    const first = await askJson(`/api/rows?from=0&count=${PAGE}&${query}`);
    if (own !== asked) return;
    total = first.total;
    pages.set(0, first.rows);
    byId("found").textContent = `${short(total)} rows`;
  } catch (error) {
    total = 0;
    byId("found").textContent = error.message;
  }
  const list = byId("list");
  list.replaceChildren(make("div", { role: "presentation" }));
  list.firstChild.style.height = `${total * LINE}px`;
  list.scrollTop = 0;
  await draw();
}

function page(number) {
  const known = pages.get(number);
  if (known !== undefined) return known;
  const rows = askJson(`/api/rows?from=${number * PAGE}&count=${PAGE}&${query}`).then((x) =>
    x.rows
  );
  // Whoever scrolls over a million rows keeps only some of them.
  if (pages.size > 200) pages.delete(pages.keys().next().value);
  pages.set(number, rows);
  // One that did not come is asked for again.
  rows.catch(() => pages.delete(number));
  return rows;
}

async function draw() {
  const list = byId("list");
  const first = Math.max(0, Math.floor(list.scrollTop / LINE) - 5);
  const end = Math.min(total, first + Math.ceil(list.clientHeight / LINE) + 10);
  const own = asked;
  const needed = new Set();
  for (let at = first; at < end; at++) needed.add(Math.floor(at / PAGE));
  const held = new Map();
  for (const number of needed) held.set(number, await page(number));
  const now = Math.max(0, Math.floor(list.scrollTop / LINE) - 5);
  if (own !== asked || now !== first) return;
  const lines = [];
  for (let at = first; at < end; at++) {
    const row = held.get(Math.floor(at / PAGE))?.[at % PAGE];
    if (row !== undefined) lines.push(line(row, at));
  }
  const spacer = list.firstChild;
  list.replaceChildren(spacer, ...lines);
  if (chosen >= first && chosen < end) list.setAttribute("aria-activedescendant", `line-${chosen}`);
  else list.removeAttribute("aria-activedescendant");
}

function line(row, at) {
  const texts = [
    row.row,
    row.group,
    row.dialog,
    row.turn,
    row.tokens,
    short(row.reward),
    row.stale ? `${row.finish}*` : row.finish,
    row.beginning,
  ];
  const element = make("div", {
    className: "line",
    id: `line-${at}`,
    role: "option",
    "aria-selected": String(at === chosen),
    "aria-setsize": String(total),
    "aria-posinset": String(at + 1),
    "data-at": String(at),
  }, texts.map((text) => make("span", { text: String(text) })));
  element.style.top = `${at * LINE}px`;
  return element;
}

async function choose(at) {
  if (at < 0 || at >= total) return;
  chosen = at;
  const list = byId("list");
  const top = at * LINE;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + LINE > list.scrollTop + list.clientHeight) {
    list.scrollTop = top + LINE - list.clientHeight;
  }
  await draw();
  const row = (await page(Math.floor(at / PAGE)))[at % PAGE];
  await openRow(row.row);
}

let opened = 0;

async function openRow(number) {
  const own = ++opened;
  const place = byId("row");
  try {
    const row = await askJson(`/api/row?row=${number}`);
    const group = await askJson(`/api/group?group=${row.group}`);
    if (own !== opened) return;
    place.replaceChildren(...article(row, group));
    place.scrollTop = 0;
  } catch (error) {
    if (own === opened) {
      place.replaceChildren(make("p", { className: "failed", text: error.message }));
    }
  }
}

function article(row, group) {
  const facts = {
    row: row.row,
    dialog: row.dialog,
    attempt: row.attempt,
    group: row.group,
    member: row.member,
    turn: row.turn,
    branch: row.branch,
    reward: row.reward,
    "reward of the dialog": row.dialogReward,
    advantage: row.advantage,
    "ended by": row.finishReason,
    stale: row.stale,
    "versions exact": row.versionsExact,
    server: row.server,
  };
  const list = make("dl", { className: "numbers" });
  for (const [name, value] of Object.entries(facts)) {
    list.append(make("dt", { text: name }), make("dd", { text: short(value) }));
  }
  return [
    make("h2", { text: `Row ${row.row}` }),
    list,
    make("h3", { text: "Messages" }),
    ...(row.messages ?? []).map(message),
    message(row.response ?? { role: "assistant", content: row.responseText }),
    make("h3", { text: "Tokens of the answer" }),
    ...tokens(row),
    make("h3", { text: `Group ${row.group}` }),
    side(group, row),
    make("h3", { text: "Turns of the dialog" }),
    tree(row),
    make("h3", { text: "Info" }),
    make("pre", { text: JSON.stringify(row.info, null, 2) }),
  ];
}

function message({ role, content, tool_calls: calls }) {
  const text = typeof content === "string" ? content : JSON.stringify(content ?? "");
  const element = make("div", { className: "message" }, [
    make("b", { text: role }),
    document.createTextNode(`\n${text}`),
  ]);
  if (calls !== undefined) {
    element.append(document.createTextNode(`\n${JSON.stringify(calls, null, 1)}`));
  }
  return element;
}

/** Whitespace that can be seen. */
function visible(text) {
  return text.replaceAll(" ", "·").replaceAll("\n", "↵\n").replaceAll("\t", "→\t");
}

function tokens(row) {
  const label = make("label", { text: "Colour by " });
  const choice = make("select", { id: "colour" });
  for (const name of ["logprob", "version", "advantage", "mask"]) {
    const option = make("option", { text: name });
    option.selected = name === colour;
    choice.append(option);
  }
  label.append(choice);
  const told = make("p", {
    id: "token",
    role: "status",
    text: "Point at a token, or use the arrow keys.",
  });
  const field = make("div", {
    className: "tokens",
    tabindex: "0",
    role: "group",
    "aria-label": "Tokens of the answer",
  });
  const spans = row.responseIds.map((id, i) => {
    const text = row.responseTexts?.[i] ?? `${id} `;
    const shown = visible(text);
    const span = make("span", { text: shown, "data-i": String(i) });
    if (shown.trim() !== shown || /[·↵→]/.test(shown)) span.classList.add("white");
    return span;
  });
  field.append(...spans);
  const versions = [...new Set(row.tokenVersions ?? [])];
  const paint = () => {
    spans.forEach((span, i) => {
      span.style.backgroundColor = shade(colour, {
        logProb: row.logProbs?.[i] ?? null,
        version: versions.indexOf(row.tokenVersions?.[i]),
        advantage: row.advantage,
      });
    });
  };
  let now = -1;
  const tell = (i) => {
    if (i < 0 || i >= spans.length) return;
    spans[now]?.classList.remove("now");
    now = i;
    spans[i].classList.add("now");
    const logProb = row.logProbs?.[i] ?? null;
    const parts = [
      `token ${i}`,
      `id ${row.responseIds[i]}`,
      `log-prob ${short(logProb)}`,
      `probability ${logProb === null ? "–" : short(Math.exp(logProb))}`,
      `version ${row.tokenVersions?.[i] ?? "–"}`,
      "mask 1 (sampled)",
      `advantage ${short(row.advantage)}`,
      JSON.stringify(row.responseTexts?.[i] ?? null),
    ];
    told.textContent = parts.join(", ");
  };
  field.addEventListener("mouseover", ({ target }) => {
    if (target.dataset.i !== undefined) tell(Number(target.dataset.i));
  });
  field.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    tell(now + step);
  });
  choice.addEventListener("change", () => {
    colour = choice.value;
    paint();
  });
  paint();
  return [label, field, told];
}

/** A colour that text is read on in light and dark: the shade lies over the background. */
function shade(by, { logProb, version, advantage }) {
  if (by === "logprob" && logProb !== null) {
    const surprise = Math.min(1, -logProb / 6);
    return `rgb(200 60 0 / ${(surprise * 0.35).toFixed(3)})`;
  }
  if (by === "version" && version >= 0) {
    const hues = ["0 90 200", "0 130 60", "150 60 200", "180 110 0"];
    return `rgb(${hues[version % hues.length]} / 0.22)`;
  }
  if (by === "advantage" && advantage !== null) {
    const strength = Math.min(1, Math.abs(advantage) / 2) * 0.35;
    return `rgb(${advantage >= 0 ? "0 130 60" : "200 0 40"} / ${strength.toFixed(3)})`;
  }
  return by === "mask" ? "rgb(0 90 200 / 0.22)" : "transparent";
}

function side(group, row) {
  const field = make("div", {
    className: "group",
    tabindex: "0",
    role: "group",
    "aria-label": "Members",
  });
  for (const member of group) {
    const button = make("button", { text: `dialog ${member.dialog}` });
    button.addEventListener("click", () => void openRow(member.row));
    field.append(make("div", {}, [
      button,
      make("p", {
        text: `reward ${short(member.reward)}, advantage ${short(member.advantage)}, ` +
          `${member.turns} turns, ${member.finish}${
            member.dialog === row.dialog ? " (this one)" : ""
          }`,
      }),
      document.createTextNode(member.text),
    ]));
  }
  return field;
}

/** The turns of a dialog; a branch hangs under the turn that it goes on from. */
function tree(row) {
  const children = new Map();
  for (const one of row.siblings) {
    const key = one.parent ?? -1;
    children.set(key, [...children.get(key) ?? [], one]);
  }
  const seen = new Set();
  const list = (parent) => {
    const element = make("ul", { className: "tree" });
    // A dialog without branches is one list, however long.
    for (let next = parent; next !== undefined;) {
      const turns = (children.get(next) ?? []).filter((one) => !seen.has(one.row));
      for (const one of turns) {
        seen.add(one.row);
        element.append(make("li", {}, [entry(one, row)]));
        if (turns.length > 1 && children.has(one.turn)) {
          element.append(make("li", {}, [list(one.turn)]));
        }
      }
      next = turns.length === 1 ? turns[0].turn : undefined;
    }
    return element;
  };
  return list(-1);
}

function entry(one, row) {
  const words = `turn ${one.turn}, branch ${one.branch}, reward ${short(one.reward)}, ` +
    `${one.tokens} tokens`;
  const button = make("button", { text: words });
  if (one.row === row.row) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => void openRow(one.row));
  return button;
}
