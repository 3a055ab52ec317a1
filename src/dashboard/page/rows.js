// Trajectories: a list of any length, drawn only where it is looked at, and one row in full.
import { ask, askJson, byId, make, say, short } from "./page.js";
import { articleOf } from "./row.js";

const LINE = 24;
const PAGE = 100;
/** No browser draws an element of any height; beyond this one a pixel stands for several rows. */
const HIGHEST = 8_000_000;
let total = 0;
let query = new URLSearchParams();
let pages = new Map();
let chosen = -1;
/** The lines that are drawn, by their place. */
const lines = new Map();
let asked = 0;
let search = new AbortController();

/** Begins to show a file. */
export function startRows(file) {
  say(
    byId("file"),
    `${file.name}: ${short(file.rows)} rows, ${short(file.dialogs)} dialogs` +
      (file.attempts > file.dialogs ? ` in ${short(file.attempts)} tries` : "") +
      `, ${short(file.groups)} groups, mean reward ${short(file.meanReward)}, ${file.schema}`,
  );
  tellDamaged(file.damaged);
  byId("row-filter").addEventListener("submit", (event) => {
    event.preventDefault();
    void filter();
  });
  byId("jump-form").addEventListener("submit", (event) => {
    event.preventDefault();
    void jump();
  });
  byId("export").addEventListener("click", () => void download());
  const list = byId("list");
  list.addEventListener("scroll", () => void draw());
  list.addEventListener("click", (event) => {
    const line = event.target.closest(".line");
    if (line !== null) void choose(Number(line.dataset.at));
  });
  list.addEventListener("keydown", (event) => {
    const at = keyPlace(event.key);
    if (at === undefined) return;
    event.preventDefault();
    void choose(Math.max(0, Math.min(total - 1, at)));
  });
  void filter();
}

/** Where a key leads: from the chosen line, or from those that are seen where it is none of them. */
function keyPlace(key) {
  const { first, count } = view();
  const page = Math.max(1, count - 2);
  const isSeen = chosen >= first && chosen < first + count;
  const last = Math.min(total, first + page) - 1;
  return {
    ArrowDown: isSeen ? chosen + 1 : first,
    ArrowUp: isSeen ? chosen - 1 : last,
    PageDown: isSeen ? chosen + page : last,
    PageUp: isSeen ? chosen - page : first,
    Home: 0,
    End: total - 1,
  }[key];
}

function tellDamaged({ count, first }) {
  byId("damaged").hidden = count === 0;
  byId("damaged-filter").hidden = count === 0;
  if (count === 0) return;
  const more = count - first.length;
  byId("damaged").replaceChildren(
    make("summary", {
      text: `${short(count)} ${count === 1 ? "row" : "rows"} of the file cannot be read`,
    }),
    make("ul", {}, first.map(({ row, message }) => make("li", { text: `row ${row}: ${message}` }))),
    make("p", { text: more > 0 ? `and ${short(more)} more: filter by “Readable: no”` : "" }),
  );
}

async function filter() {
  query = new URLSearchParams();
  for (const [name, value] of new FormData(byId("row-filter"))) {
    if (value !== "") query.set(name, value);
  }
  pages = new Map();
  chosen = -1;
  const own = ++asked;
  // A search through a large file ends when nobody waits for it.
  search.abort();
  search = new AbortController();
  say(byId("found"), "searching");
  let found;
  try {
    const first = await askJson(`/api/rows?from=0&count=${PAGE}&${query}`, search);
    if (own !== asked) return;
    total = first.total;
    pages.set(0, first.items);
    found = `${short(total)} ${total === 1 ? "row" : "rows"}`;
  } catch (error) {
    if (own !== asked) return;
    total = 0;
    found = error.message;
  }
  const list = byId("list");
  lines.clear();
  list.replaceChildren(make("div", { role: "presentation" }));
  list.firstChild.style.height = `${Math.min(total * LINE, HIGHEST)}px`;
  list.scrollTop = 0;
  await draw();
  if (own === asked) say(byId("found"), found);
}

/** Goes to a row of the file in the list; one that the filter hides is shown all the same. */
async function jump() {
  const { value } = byId("jump");
  if (value === "") return;
  const row = Number(value);
  try {
    const { at } = await askJson(`/api/place?row=${row}&${query}`);
    if (at >= 0) return await choose(at);
    say(byId("jumped"), `Row ${row} is not among the filtered rows`);
    chosen = -1;
    await draw();
    await openRow(row);
  } catch (error) {
    say(byId("jumped"), error.message);
  }
}

/** Fetched rather than linked to: a link could not carry the key. */
async function download() {
  const button = byId("export");
  button.disabled = true;
  say(byId("jumped"), "exporting");
  try {
    const answer = await ask(`/api/export?${query}`);
    if (!answer.ok) throw new Error((await answer.json()).error);
    const link = make("a", { download: "selection.jsonl" });
    link.href = URL.createObjectURL(await answer.blob());
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    say(byId("jumped"), "exported");
  } catch (error) {
    say(byId("jumped"), `not exported: ${error.message}`);
  } finally {
    button.disabled = false;
  }
}

function page(number) {
  const known = pages.get(number);
  if (known !== undefined) return known;
  const rows = askJson(`/api/rows?from=${number * PAGE}&count=${PAGE}&${query}`).then((x) =>
    x.items
  );
  // Whoever scrolls over a million rows keeps only some of them.
  if (pages.size > 200) pages.delete(pages.keys().next().value);
  pages.set(number, rows);
  // One that did not come is asked for again.
  rows.catch(() => pages.delete(number));
  return rows;
}

/** The first line that is seen, and where it is drawn. */
function view() {
  const list = byId("list");
  const count = Math.ceil(list.clientHeight / LINE);
  if (total * LINE <= HIGHEST) {
    const first = Math.floor(list.scrollTop / LINE);
    return { first, count, top: first * LINE };
  }
  const share = list.scrollTop / (HIGHEST - list.clientHeight);
  return { first: Math.round(share * Math.max(0, total - count + 1)), count, top: list.scrollTop };
}

/** Scrolls so that a line is seen. */
function reveal(at) {
  const list = byId("list");
  const { first, count } = view();
  if (total * LINE <= HIGHEST) {
    const top = at * LINE;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + LINE > list.scrollTop + list.clientHeight) {
      list.scrollTop = top + LINE - list.clientHeight;
    }
  } else if (at < first || at >= first + count - 1) {
    const share = Math.min(1, at / Math.max(1, total - count + 1));
    list.scrollTop = share * (HIGHEST - list.clientHeight);
  }
}

async function draw() {
  const list = byId("list");
  const seen = view();
  const first = Math.max(0, seen.first - 5);
  const end = Math.min(total, seen.first + seen.count + 5);
  const own = asked;
  const needed = new Set();
  for (let at = first; at < end; at++) needed.add(Math.floor(at / PAGE));
  const held = new Map();
  try {
    for (const number of needed) held.set(number, await page(number));
  } catch (error) {
    if (own === asked) say(byId("found"), error.message);
    return;
  }
  if (own !== asked || view().first !== seen.first) return;
  // Lines that stay are left where they are: one that is being clicked must not vanish.
  let before = list.firstChild;
  for (let at = first; at < end; at++) {
    const row = held.get(Math.floor(at / PAGE))?.[at % PAGE];
    if (row === undefined) continue;
    const element = lines.get(at) ?? line(row, at);
    lines.set(at, element);
    element.style.top = `${seen.top + (at - seen.first) * LINE}px`;
    element.setAttribute("aria-selected", String(at === chosen));
    if (before.nextSibling !== element) before.after(element);
    before = element;
  }
  for (const [at, element] of lines) {
    if (at >= first && at < end) continue;
    element.remove();
    lines.delete(at);
  }
  if (chosen >= first && chosen < end) list.setAttribute("aria-activedescendant", `line-${chosen}`);
  else list.removeAttribute("aria-activedescendant");
}

function line(row, at) {
  const texts = row.damage !== undefined ? [row.row, row.damage] : [
    row.row,
    row.group,
    row.dialog,
    row.turn,
    row.tokens,
    short(row.reward),
    row.stale ? `${row.finish}*` : row.finish,
    row.beginning,
  ];
  return make("div", {
    className: row.damage === undefined ? "line" : "line damaged",
    id: `line-${at}`,
    role: "option",
    "aria-setsize": String(total),
    "aria-posinset": String(at + 1),
    "data-at": String(at),
  }, texts.map((text) => make("span", { text })));
}

async function choose(at) {
  if (at < 0 || at >= total) return;
  chosen = at;
  say(byId("jumped"), "");
  reveal(at);
  await draw();
  try {
    const row = (await page(Math.floor(at / PAGE)))[at % PAGE];
    await openRow(row.row);
  } catch (error) {
    say(byId("found"), error.message);
  }
}

let opened = 0;

async function openRow(number) {
  const own = ++opened;
  const place = byId("row");
  const isCurrent = () => own === opened;
  try {
    const row = await askJson(`/api/row?row=${number}`);
    if (!isCurrent()) return;
    place.replaceChildren(...articleOf(row, { open: (row) => void openRow(row), isCurrent }));
    place.scrollTop = 0;
    say(byId("opened"), `Row ${number} is shown`);
  } catch (error) {
    if (!isCurrent()) return;
    place.replaceChildren(
      make("h2", { text: `Row ${number}` }),
      make("p", { className: "failed", text: error.message }),
    );
  }
}
