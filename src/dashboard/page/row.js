// One row in full: numbers, messages, tokens, the members of its group, the turns of its dialog. What
// is long comes in parts, each with how much there is and a button for more.
import { askJson, make, short, shown } from "./page.js";
import { pieces } from "./visible.js";
import { tokensOf } from "./tokens.js";

/** The parts of a row's article; `open` opens another row. */
export function articleOf(row, { open, isCurrent }) {
  const facts = {
    row: row.row,
    dialog: row.dialog,
    try: row.wasRunAnew ? `${row.attempt}, run anew later` : row.attempt,
    group: row.group,
    member: row.member,
    environment: row.environment,
    turn: row.turn,
    branch: row.branch,
    reward: row.reward,
    "reward of the dialog": row.dialogReward,
    advantage: row.advantage,
    "ended by": row.finishReason,
    "dialog ended": row.truncated ? "cut short" : row.done ? "yes" : "no",
    stale: row.stale,
    "versions exact": row.versionsExact,
    "prompt tokens": row.promptTokens,
    "sampled tokens": row.tokens,
    server: row.server,
    ...(row.routedExperts === null ? {} : {
      "routed experts": `${short(row.routedExperts.tokens)} tokens, ` +
        `${short(row.routedExperts.perToken)} each`,
    }),
  };
  const list = make("dl", { className: "numbers" });
  for (const [name, value] of Object.entries(facts)) {
    list.append(make("dt", { text: name }), make("dd", { text: short(value) }));
  }
  return [
    make("h2", { text: `Row ${row.row}` }),
    list,
    make("h3", { text: "Messages" }),
    ...(row.hasMessages ? [] : [
      make("p", {
        className: "soft",
        text: "The file has no messages; what was asked is among the tokens of the prompt.",
      }),
    ]),
    messagesOf(row),
    make("h3", { text: "Tokens" }),
    tokensOf(row, isCurrent),
    make("h3", { text: `Group ${row.group}` }),
    groupOf(row, { open, isCurrent }),
    make("h3", { text: "Turns of the dialog" }),
    turnsOf(row, open),
    make("h3", { text: "Info" }),
    textOf("pre", row.info, `/api/text?row=${row.row}&part=info`, "text"),
  ];
}

/** A button that does something once, and says why it did not work. */
export function moreButton(text, work) {
  const button = make("button", { text, className: "more" });
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await work(button);
    } catch (error) {
      button.replaceChildren(...shown(pieces(`${text} (${error.message})`)));
      button.disabled = false;
    }
  });
  return button;
}

/** A text, or its beginning with a button for all of it. */
function textOf(tag, { text, length }, path, field) {
  const element = make(tag, { text });
  if (text.length >= length) return element;
  element.append(
    moreButton(`Show all ${short(length)} characters`, async () => {
      const full = await askJson(path);
      element.replaceChildren(...shown(pieces(full[field])));
    }),
  );
  return element;
}

function messagesOf(row) {
  const element = make("div");
  const add = ({ from, items }) => {
    const earlier = [];
    if (from > 0) {
      earlier.push(moreButton(`Show earlier messages, ${short(from)} more`, async (button) => {
        const start = Math.max(0, from - 100);
        const part = await askJson(
          `/api/messages?row=${row.row}&from=${start}&count=${from - start}`,
        );
        button.remove();
        add(part);
      }));
    }
    element.prepend(...earlier, ...items.map((one, i) => message(one, row, from + i)));
  };
  add(row.messages);
  return element;
}

function message({ role, text, length, more }, row, at) {
  const path = `/api/text?row=${row.row}&part=${at}`;
  const element = make("div", { className: "message" }, [
    make("b", { text: role }),
    textOf("div", { text, length }, path, "text"),
  ]);
  if (more.length > 0) element.append(textOf("div", more, path, "more"));
  return element;
}

function groupOf(row, { open, isCurrent }) {
  const field = make("div", {
    className: "group",
    tabindex: "0",
    role: "group",
    "aria-label": "Members",
  });
  const told = make("p", { role: "status", text: "reading" });
  const load = async (from, button) => {
    const { total, items } = await askJson(`/api/group?group=${row.group}&from=${from}`);
    if (!isCurrent()) return;
    button?.remove();
    field.append(...items.map((one) => member(one, row, open)));
    const end = from + items.length;
    told.replaceChildren(...shown(pieces(`${short(end)} of ${short(total)} members`)));
    if (end < total) {
      field.append(moreButton(`Show ${short(total - end)} more`, (own) => load(end, own)));
    }
  };
  load(0).catch((error) => told.replaceChildren(...shown(pieces(error.message))));
  return make("div", {}, [told, field]);
}

function member(one, row, open) {
  const button = make("button", { text: `dialog ${one.dialog}` });
  button.addEventListener("click", () => open(one.row));
  const isThis = one.dialog === row.dialog && one.attempt === row.attempt;
  const attempt = one.wasRunAnew
    ? `, try ${one.attempt}, run anew later: not counted`
    : one.attempt > 0
    ? `, try ${one.attempt}`
    : "";
  const isCut = one.text.length < one.length;
  return make("div", {}, [
    button,
    make("p", {
      text: `reward ${short(one.reward)}, advantage ${short(one.advantage)}, ` +
        `${short(one.turns)} turns, ${one.finish}${attempt}${isThis ? " (this one)" : ""}`,
    }),
    make("div", { text: one.text }),
    make("p", {
      className: "soft",
      text: isCut ? `the first of ${short(one.length)} characters: open the dialog for all` : "",
    }),
  ]);
}

/** Branches that stand further in; deeper ones are told by words. */
const DEEPEST = 12;

/** The turns of a dialog; a branch hangs under the turn that it goes on from. */
function turnsOf(row, open) {
  const element = make("div");
  const turns = [];
  const add = ({ total, items }) => {
    turns.push(...items);
    element.replaceChildren(tree(turns, row, open));
    if (turns.length >= total) return;
    const words = `${short(turns.length)} of ${short(total)} turns: show more`;
    element.append(moreButton(words, async () => {
      add(await askJson(`/api/turns?row=${row.row}&from=${turns.length}`));
    }));
  };
  add(row.turns);
  return element;
}

function tree(turns, row, open) {
  const numbers = new Set(turns.map(({ turn }) => turn));
  const children = new Map();
  for (const one of turns) {
    // What goes on from a turn that is not here begins a tree of its own.
    const key = one.parent !== null && numbers.has(one.parent) && one.parent < one.turn
      ? one.parent
      : -1;
    if (!children.has(key)) children.set(key, []);
    children.get(key).push(one);
  }
  const root = make("ul", { className: "tree" });
  const open_ = [{ parent: -1, place: root, depth: 0 }];
  while (open_.length > 0) {
    const { parent, place, depth } = open_.pop();
    // A dialog without branches is one list, however long.
    for (let next = parent; next !== undefined;) {
      const found = children.get(next) ?? [];
      children.delete(next);
      // Each branch is a list of its own within the turn that it goes on from.
      const isFork = found.length > 1 && depth < DEEPEST;
      if (isFork && next === -1) place.append(make("li"));
      const fork = place.lastElementChild;
      for (const one of found) {
        const own = isFork ? make("ul", { className: "tree" }) : place;
        if (isFork) fork.append(own);
        own.append(make("li", {}, [entry(one, row, open)]));
        if (found.length === 1 || !children.has(one.turn)) continue;
        open_.push({ parent: one.turn, place: own, depth: depth + 1 });
      }
      next = found.length === 1 ? found[0].turn : undefined;
    }
  }
  return root;
}

function entry(one, row, open) {
  const from = one.parent === null || one.parent === one.turn - 1
    ? ""
    : `, goes on from turn ${one.parent}`;
  const words = `turn ${one.turn}, branch ${one.branch}, reward ${short(one.reward)}, ` +
    `${short(one.tokens)} tokens${from}`;
  const button = make("button", { text: words });
  if (one.row === row.row) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => open(one.row));
  return button;
}
