// The tokens of a row: those of the prompt and the sampled ones, coloured, each with its numbers.
import { askJson, make, say, short, shown } from "./page.js";
import { moreButton } from "./row.js";
import { tokenPieces } from "./visible.js";

/** Tokens that are drawn at once. */
const WINDOW = 2000;
/** Tokens of the prompt that come with the answer unasked. */
const PROMPT_SHOWN = 50;
const hues = ["0 90 200", "0 130 60", "150 60 200", "180 110 0", "200 0 110", "0 120 130"];
let colour = "logprob";

/** The field of tokens with its choice of colour; more come by a button. */
export function tokensOf(row, isCurrent) {
  const choice = make("select", { id: "colour" });
  for (const name of ["logprob", "version", "advantage", "mask"]) {
    const option = make("option", { text: name });
    option.selected = name === colour;
    choice.append(option);
  }
  const view = {
    row,
    spans: [],
    tokens: [],
    from: 0,
    now: -1,
    legend: make("p", { className: "legend" }),
    range: make("p", { role: "status", text: "reading" }),
    told: make("p", {
      id: "token",
      role: "status",
      text: "Point at a token, or use the arrow keys.",
    }),
    before: make("div"),
    after: make("div"),
    field: make("div", {
      className: "tokens",
      tabindex: "0",
      role: "group",
      "aria-label": "Tokens of the row",
    }),
  };
  view.field.addEventListener("mouseover", ({ target }) => {
    const span = target.closest("[data-i]");
    if (span !== null) tell(view, Number(span.dataset.i) - view.from);
  });
  view.field.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    tell(view, view.now + step);
  });
  choice.addEventListener("change", () => {
    colour = choice.value;
    paint(view);
  });
  const start = Math.max(0, (row.promptTokens ?? 0) - PROMPT_SHOWN);
  load(view, start, WINDOW, isCurrent).catch((error) => say(view.range, error.message));
  const label = make("label", { text: "Colour by " }, [choice]);
  const { legend, range, before, field, after, told } = view;
  return make("div", {}, [label, legend, range, before, field, after, told]);
}

async function load(view, from, count, isCurrent) {
  const part = await askJson(`/api/tokens?row=${view.row.row}&from=${from}&count=${count}`);
  if (!isCurrent()) return;
  const spans = part.items.map((token, i) => spanOf(token, part.texts?.[i], from + i));
  if (view.tokens.length > 0 && from < view.from) {
    view.tokens.unshift(...part.items);
    view.spans.unshift(...spans);
    view.field.prepend(...spans);
    view.now += spans.length;
    view.from = from;
  } else {
    if (view.tokens.length === 0) view.from = from;
    view.tokens.push(...part.items);
    view.spans.push(...spans);
    view.field.append(...spans);
  }
  tellRange(view, part, isCurrent);
  paint(view);
}

function tellRange(view, { total, promptTokens }, isCurrent) {
  const { from, tokens } = view;
  const end = from + tokens.length;
  const isAll = from === 0 && end === total;
  say(
    view.range,
    (isAll
      ? `All ${short(total)} tokens`
      : `Tokens ${short(from)} to ${short(end)} of ${short(total)}`) +
      `: ${
        view.row.promptTokens === null
          ? "the prompt is not in the file"
          : `${short(promptTokens)} of the prompt`
      }, ` +
      `${short(total - promptTokens)} sampled`,
  );
  const earlier = Math.min(from, WINDOW);
  view.before.replaceChildren(
    ...(from > 0
      ? [moreButton(
        `Show ${short(earlier)} earlier tokens`,
        () => load(view, from - earlier, earlier, isCurrent),
      )]
      : []),
  );
  const later = Math.min(total - end, WINDOW);
  view.after.replaceChildren(
    ...(later > 0
      ? [moreButton(`Show ${short(later)} later tokens`, () => load(view, end, later, isCurrent))]
      : []),
  );
}

function spanOf(token, text, i) {
  const parts = tokenPieces(text ?? `${token.id} `);
  const span = make("span", { "data-i": String(i) }, shown(parts));
  if (token.mask === 0) span.classList.add("prompt");
  if (parts.every(({ text, isMark }) => isMark || /^[·↵→␍\s]*$/.test(text))) {
    span.classList.add("white");
  }
  span.text = text;
  return span;
}

function versionsOf({ tokens }) {
  return [...new Set(tokens.map(({ version }) => version).filter((one) => one != null))];
}

function paint(view) {
  const versions = versionsOf(view);
  view.spans.forEach((span, i) => {
    span.style.backgroundColor = shade(view.tokens[i], versions, view.row.advantage);
  });
  view.legend.replaceChildren(...legendOf(view, versions));
}

/** A colour that text is read on in light and dark: the shade lies over the background. */
function shade(token, versions, advantage) {
  if (colour === "mask") return maskShade(token.mask);
  if (token.mask === 0) return "transparent";
  if (colour === "logprob") return token.logProb === null ? "transparent" : surprise(token.logProb);
  if (colour === "version") {
    return token.version === null ? "transparent" : hue(versions.indexOf(token.version));
  }
  return advantageShade(advantage);
}

const hue = (at) => `rgb(${hues[at % hues.length]} / 0.22)`;
const maskShade = (mask) => mask === 1 ? "rgb(0 90 200 / 0.22)" : "rgb(120 120 120 / 0.18)";
const surprise = (logProb) =>
  `rgb(200 60 0 / ${(Math.min(1, -Number(logProb) / 6) * 0.35).toFixed(3)})`;

function advantageShade(advantage) {
  if (advantage === null) return "transparent";
  const strength = Math.min(1, Math.abs(advantage) / 2) * 0.35;
  return `rgb(${advantage >= 0 ? "0 130 60" : "200 0 40"} / ${strength.toFixed(3)})`;
}

/** What the colours mean, each with a sample. */
function legendOf({ row }, versions) {
  const sample = (colour, text) => {
    const element = make("span", { className: "sample", text });
    element.style.backgroundColor = colour;
    return element;
  };
  if (colour === "mask") {
    return [
      sample(maskShade(1), "1: sampled, counts"),
      sample(maskShade(0), "0: prompt, does not"),
    ];
  }
  if (colour === "logprob") {
    if (!row.hasLogProbs) return [make("span", { text: "The file has no log-probabilities" })];
    return [0, -2, -4, -6].map((value) =>
      sample(surprise(value), value === -6 ? "-6 and below" : String(value))
    );
  }
  if (colour === "version") {
    if (!row.hasVersions) return [make("span", { text: "The file has no versions of tokens" })];
    const more = versions.length - 20;
    return [
      ...versions.slice(0, 20).map((version, i) => sample(hue(i), `version ${version}`)),
      ...(more > 0 ? [make("span", { text: `and ${short(more)} more` })] : []),
    ];
  }
  return [
    sample(advantageShade(row.advantage), `advantage ${short(row.advantage)}, of the dialog`),
  ];
}

function tell(view, i) {
  const { spans, tokens, row, from } = view;
  if (i < 0 || i >= spans.length) return;
  spans[view.now]?.classList.remove("now");
  view.now = i;
  spans[i].classList.add("now");
  const token = tokens[i];
  const isSampled = token.mask === 1;
  const { logProb = null } = token;
  const parts = [
    isSampled
      ? `token ${from + i - (row.promptTokens ?? 0)} of the answer`
      : `token ${from + i} of the prompt`,
    `id ${token.id}`,
    ...(isSampled
      ? [
        `log-prob ${short(logProb)}`,
        `probability ${logProb === null ? "–" : short(Math.exp(Number(logProb)))}`,
        `version ${token.version ?? "–"}`,
        `weights ${token.weights ?? "–"}`,
        "mask 1 (sampled)",
        `advantage ${short(row.advantage)}`,
      ]
      : ["mask 0 (prompt)"]),
    JSON.stringify(spans[i].text ?? null),
  ];
  say(view.told, parts.join(", "));
}
