// The live page: a state comes each second and is drawn.
import { follow } from "./feed.js";
import { ask, byId, make, say, short } from "./page.js";

const words = { pause: "Pause", resume: "Resume", abortSync: "Abort sync" };
let last = null;
let actions = [];

/** Begins to follow the run. */
export function startLive(about) {
  actions = about.actions;
  for (const name of actions) {
    if (!(name in words)) continue;
    const button = make("button", { text: words[name] });
    button.addEventListener("click", () => act(name));
    byId("buttons").append(button);
  }
  for (const id of ["event-kind", "event-level", "event-text"]) {
    byId(id).addEventListener("input", drawEvents);
  }
  byId("event-filter").addEventListener("submit", (event) => event.preventDefault());
  if (actions.length > 0) say(byId("explained"), about.explained ?? "");
  void follow(about.everyMs, draw, tell);
}

function tell(text, isLost) {
  const place = byId("connection");
  say(place, text);
  place.classList.toggle("lost", isLost);
}

async function act(name, server) {
  const query = server === undefined ? "" : `?server=${encodeURIComponent(server)}`;
  say(byId("said"), `${name}: asked`);
  try {
    const answer = await ask(`/api/do/${name}${query}`, { method: "POST" });
    const body = await answer.json();
    say(byId("said"), answer.ok ? `${name}: done` : `${name}: ${body.error}`);
  } catch (error) {
    say(byId("said"), `${name}: ${error.message}`);
  }
}

function draw(state) {
  last = state;
  drawServers(state);
  drawSync(state.sync);
  drawRollouts(state);
  drawCurves(state.curves);
  drawEvents();
}

/** The tile of each server, by its address: what is drawn again keeps the focus and the selection. */
const tiles = new Map();

function drawServers({ servers, sync }) {
  for (const url of tiles.keys()) {
    if (servers.some((server) => server.url === url)) continue;
    tiles.get(url).tile.remove();
    tiles.delete(url);
  }
  for (const server of servers) {
    const { tile, lines, button } = tiles.get(server.url) ?? newTile(server.url);
    const { state, why } = standOf(server, sync?.state === "running");
    const texts = [
      `${state}${why === null ? "" : `: ${why}`}`,
      `weights ${server.weightVersion ?? "–"}`,
      `${short(server.running)} running, ${short(server.waiting)} waiting, ` +
      `${short(server.tokensPerSecond)} tokens/s`,
      `KV pool ${percent(server.kvUsage)}, cache hits ${percent(server.cacheHits)}`,
    ];
    texts.forEach((text, i) => say(lines[i], text));
    tile.className = state;
    const order = orderFor(server);
    button.hidden = order === null;
    if (order === null) continue;
    button.dataset.order = order;
    say(button, order === "drain" ? "Drain" : "Let serve again");
    button.setAttribute("aria-label", `${button.textContent}: ${server.url}`);
  }
}

/** Where a server stands, in one word, and why. */
function standOf({ answers, state, reason, isPaused, isReady }, isSyncing) {
  const stands = state ?? (answers === null ? "asked" : "up");
  if (answers === false) {
    return { state: "down", why: state === null ? reason : `${reason} (${state})` };
  }
  // One that is paused answers nothing, whatever it is for the rotation.
  if (isPaused) return { state: "paused", why: `by this program (${stands})` };
  if (isReady === false && isSyncing) {
    return { state: "paused", why: `a weight sync runs (${stands})` };
  }
  if (isReady === false) {
    return {
      state: "paused",
      why: `it takes no requests: another program paused it, or it is not well (${stands})`,
    };
  }
  return { state: stands, why: reason };
}

const serving = ["serving", "healthy", "suspect", null];

/** What the button of a server's tile does now; null when there is none. */
function orderFor({ answers, state }) {
  if (state === "drained") return actions.includes("undrain") ? "undrain" : null;
  return actions.includes("drain") && answers !== false && serving.includes(state) ? "drain" : null;
}

function newTile(url) {
  const lines = Array.from({ length: 4 }, () => make("div"));
  const button = make("button");
  button.addEventListener("click", () => act(button.dataset.order, url));
  const tile = make("li", {}, [make("b", { text: url }), ...lines, button]);
  byId("servers").append(tile);
  tiles.set(url, { tile, lines, button });
  return tiles.get(url);
}

function percent(share) {
  return share === null ? "–" : `${short(share * 100)} %`;
}

let drawnSync = "";

function drawSync(sync) {
  const now = JSON.stringify(sync);
  if (now === drawnSync) return;
  drawnSync = now;
  if (sync === null) {
    byId("sync").replaceChildren(make("p", { text: "No sync yet." }));
    return;
  }
  const share = sync.bytesTotal === 0 ? 0 : sync.bytesDone / sync.bytesTotal;
  const bar = make("progress", { max: "1", "aria-label": "Bytes that every server has" });
  bar.value = sync.state === "done" ? 1 : share;
  const words = {
    running: `${sync.step}: ${sync.message}`,
    done: `version ${sync.version} in ${short(sync.elapsedMs / 1000)} s, servers paused ` +
      `${short(sync.pausedMs)} ms`,
    failed: `failed in ${sync.step}: ${sync.error}`,
  };
  byId("sync").replaceChildren(
    make("p", { text: sync.source }),
    bar,
    make("p", { text: words[sync.state], className: sync.state }),
    make(
      "ol",
      { className: "steps", "aria-label": "Steps" },
      sync.steps.map(({ name, ms }) =>
        make("li", {
          className: ms === null ? sync.state : "over",
          text: ms === null ? name : `${name} ${short(Math.round(ms))} ms`,
        })
      ),
    ),
    make("p", { text: `${short(sync.bytesDone / 1e6)} of ${short(sync.bytesTotal / 1e6)} MB` }),
  );
}

function drawRollouts({ rollouts, requests, recorded }) {
  const numbers = {
    ...(requests === null ? {} : {
      "requests in flight": requests.inFlight,
      "requests queued": requests.queued,
    }),
    ...(rollouts === null ? {} : {
      "dialogs running": rollouts.running,
      "waiting for the reader": rollouts.waiting,
      "dialogs completed": rollouts.dialogsCompleted,
      "dialogs failed": rollouts.dialogsFailed,
      "rows given out": rollouts.rowsYielded,
      "rows stale": rollouts.rowsStale,
      "tokens sampled": rollouts.tokens,
      "policy version": rollouts.policyVersion,
    }),
    ...recorded,
  };
  byId("rollouts").replaceChildren(
    ...Object.entries(numbers).flatMap(([name, value]) => [
      make("dt", { text: name }),
      make("dd", { text: short(value) }),
    ]),
  );
}

function drawCurves(curves) {
  const figures = Object.entries(curves).filter(([, points]) => points.length > 1).map(
    ([name, points]) => {
      const values = points.map(({ value }) => value);
      const low = Math.min(...values);
      const high = Math.max(...values);
      const start = points[0].at;
      const width = points.at(-1).at - start || 1;
      const line = points.map(({ at, value }) => {
        const x = (at - start) / width * 100;
        const y = high === low ? 50 : 96 - (value - low) / (high - low) * 92;
        return `${x.toFixed(2)},${y.toFixed(2)}`;
      }).join(" ");
      const ns = "http://www.w3.org/2000/svg";
      const svg = document.createElementNS(ns, "svg");
      svg.setAttribute("viewBox", "0 0 100 100");
      svg.setAttribute("preserveAspectRatio", "none");
      svg.setAttribute("role", "img");
      const words = `${name}: now ${short(values.at(-1))}, from ${short(low)} to ${short(high)}`;
      svg.setAttribute("aria-label", words);
      const polyline = document.createElementNS(ns, "polyline");
      polyline.setAttribute("points", line);
      svg.append(polyline);
      return make("figure", {}, [svg, make("figcaption", { text: words })]);
    },
  );
  byId("curves").replaceChildren(...figures);
}

let drawn = "";

function drawEvents() {
  if (last === null) return;
  const kind = byId("event-kind").value;
  const level = byId("event-level").value;
  const text = byId("event-text").value.toLowerCase();
  const shown = last.events.filter((event) =>
    (kind === "" || event.kind === kind) && (level === "" || event.level === level) &&
    event.text.toLowerCase().includes(text)
  ).reverse();
  // Whoever reads or selects lines keeps them while nothing is new.
  const now = JSON.stringify([kind, level, text, last.events.at(-1)?.number]);
  if (now === drawn) return;
  drawn = now;
  const { length } = last.events;
  const newest = last.events.at(-1)?.number ?? 0;
  say(
    byId("events-told"),
    newest > length ? `The last ${short(length)} of ${short(newest)} events` : "",
  );
  byId("events").replaceChildren(...shown.map((event) =>
    make("li", {
      className: event.level,
      text: `${new Date(event.at).toLocaleTimeString()}  ${event.kind}  ${event.text}`,
    })
  ));
}
