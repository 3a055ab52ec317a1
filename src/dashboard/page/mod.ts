/** The files of the page, as they are served. */
import html from "./index.html" with { type: "text" };
import script from "./page.js" with { type: "text" };
import live from "./live.js" with { type: "text" };
import feed from "./feed.js" with { type: "text" };
import rows from "./rows.js" with { type: "text" };
import row from "./row.js" with { type: "text" };
import tokens from "./tokens.js" with { type: "text" };
import visible from "./visible.js" with { type: "text" };
import icon from "./icon.svg" with { type: "text" };
import style from "./page.css" with { type: "text" };

/** One file. */
export interface PageFile {
  readonly type: string;
  readonly text: string;
}

const js = "text/javascript; charset=utf-8";

/** Files by path. */
export const pageFiles: Readonly<Record<string, PageFile>> = {
  "/": { type: "text/html; charset=utf-8", text: html },
  "/page.js": { type: js, text: script },
  "/live.js": { type: js, text: live },
  "/feed.js": { type: js, text: feed },
  "/rows.js": { type: js, text: rows },
  "/row.js": { type: js, text: row },
  "/tokens.js": { type: js, text: tokens },
  "/visible.js": { type: js, text: visible },
  "/icon.svg": { type: "image/svg+xml", text: icon },
  "/page.css": { type: "text/css; charset=utf-8", text: style },
};
