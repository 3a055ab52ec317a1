/** New checkpoints in a folder, as they become complete. */
import { basename, dirname, join, resolve } from "node:path";
import { openCheckpoint } from "../checkpoint/mod.ts";
import { SGLangError } from "../errors.ts";
import { type DigestFile, digestOf } from "./checkpoint_digest.ts";
import { sleep } from "../internal/deadline.ts";
import { asPermissionError } from "../internal/permission.ts";
import { versionInMark } from "../internal/version_marks.ts";
import { messageOf } from "../internal/thrown.ts";

/** How to watch. */
export interface WatchOptions {
  /** Pause between two looks. */
  readonly intervalMs: number;
  readonly signal: AbortSignal;
  /** The step that the servers serve; older ones are left. Default: unknown. */
  readonly servedStep?: number | undefined;
  /** Whether a checkpoint older than the last one counts too, as after a rollback. Default false. */
  readonly allowOlder?: boolean | undefined;
  /** Told, once each, what is waited for or left out, and why. */
  readonly tell?: ((message: string) => void) | undefined;
}

/** A folder that may be a checkpoint, as one look found it. */
interface Candidate {
  readonly path: string;
  /** Number in its name. */
  readonly step: number | undefined;
  /** Whether a `latest` file or link names it. */
  readonly isLatest: boolean;
  /** Whether it has an index, which writers write last. */
  readonly hasIndex: boolean;
  /** Time of its newest file. */
  readonly changedMs: number;
  /** Names, sizes and times of its files, so that any change shows. */
  readonly state: string;
  /** The files, in the order of their names. */
  readonly files: readonly DigestFile[];
  /** Why it cannot be whole; `undefined` when nothing speaks against it. */
  readonly flaw: string | undefined;
}

/** A file whose end is a hole may be one whose writer stalls; after so long it is taken as it is. */
const HOLE_PATIENCE_MS = 60_000;
const INDEX = "model.safetensors.index.json";
const LATEST_FILES = ["latest", "latest_checkpointed_iteration.txt"];
const UNFINISHED = /^\.|\.(partial|tmp|temp|incomplete)$|^(tmp|temp)[-_]|[-_.]tmp\b/i;

/** Read in less than the pause between two looks. */
const SMALL_BYTES = 64 * 2 ** 20;

/**
 * The newest checkpoint in `folder` (or `folder` itself), and every newer one. Newer is: the higher
 * number in its name; then what a `latest` file or link names; then one with an index; then the later
 * time. A checkpoint counts when its headers and shards are whole and two looks in a row find the
 * same files. An older one than the last is left, unless `allowOlder`; the last one counts again when
 * it was written again, not when only its times changed (above 16 GiB its times decide). What cannot be
 * read, loops or vanishes is reported, and the watch goes on. Ends when the signal fires.
 */
export async function* watchCheckpoints(
  folder: string,
  options: WatchOptions,
): AsyncGenerator<string> {
  const { intervalMs, signal } = options;
  await using watch = new Watch(folder, options);
  while (!signal.aborted) {
    const next = await watch.look();
    if (next !== undefined && !signal.aborted) yield next;
    await sleep(intervalMs, { signal }).catch(() => {});
  }
}

class Watch implements AsyncDisposable {
  readonly #folder: string;
  readonly #options: WatchOptions;
  readonly #told = new Map<string, string>();
  /** What the last look found, by path. */
  #before = new Map<string, Candidate>();
  /** States whose headers were read, and what was wrong with them. */
  #checked = new Map<string, string | undefined>();
  #given: Candidate | undefined;
  /** What the one that was given last holds; read once it was pushed. */
  #digest:
    | { readonly stop: AbortController; readonly work: Promise<string | undefined> }
    | undefined;

  constructor(folder: string, options: WatchOptions) {
    this.#folder = folder;
    this.#options = options;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#digest?.stop.abort();
    await this.#digest?.work;
  }

  /** The next checkpoint to give, if there is one now. */
  async look(): Promise<string | undefined> {
    const next = await this.#look();
    // Not before it was pushed: the next look comes after that.
    if (next !== undefined || this.#given === undefined) return next;
    this.#digest ??= this.#read(this.#given);
    // A small one is read before this look ends; a large one keeps no newer one waiting.
    const bytes = this.#given.files.reduce((sum, { size }) => sum + size, 0);
    if (bytes <= SMALL_BYTES) await this.#digest.work;
    return undefined;
  }

  async #look(): Promise<string | undefined> {
    const found = (await this.#find()).toSorted(newestFirst);
    const before = this.#before;
    this.#before = new Map(found.map((one) => [one.path, one]));
    this.#checked = new Map(
      [...this.#checked].filter(([state]) => found.some((one) => one.state === state)),
    );
    for (const one of found) {
      if (this.#given !== undefined && one.state === this.#given.state) return undefined;
      if (!this.#isNewer(one)) return undefined;
      if (before.get(one.path)?.state !== one.state) continue;
      const flaw = await this.#flawOf(one);
      if (flaw !== undefined) {
        this.#tell(one.path, `${one.path} is not pushed yet: ${flaw}`);
        continue;
      }
      this.#told.delete(one.path);
      if (await this.#isSameAgain(one)) {
        this.#given = one;
        return undefined;
      }
      this.#given = one;
      this.#digest?.stop.abort();
      await this.#digest?.work;
      this.#digest = undefined;
      return one.path;
    }
    return undefined;
  }

  /** Whether it is the one that was given last, with other times only. */
  async #isSameAgain(one: Candidate): Promise<boolean> {
    const given = this.#given;
    if (given === undefined || one.path !== given.path) return false;
    if (JSON.stringify(one.files) !== JSON.stringify(given.files)) return false;
    const before = await this.#digest?.work;
    if (before === undefined) return false;
    const { work } = this.#read(one);
    return await work === before;
  }

  #read(one: Candidate): { stop: AbortController; work: Promise<string | undefined> } {
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.#options.signal]);
    const work = digestOf(one.path, one.files, signal).then(async (digest) => {
      if (digest === undefined) return undefined;
      const now = await this.#sight(one.path, one);
      return now?.state === one.state ? digest : undefined;
    });
    return { stop, work };
  }

  #isNewer(one: Candidate): boolean {
    const { allowOlder = false, servedStep } = this.#options;
    if (allowOlder) return true;
    const given = this.#given;
    if (given === undefined) {
      const isOlder = servedStep !== undefined && one.step !== undefined && one.step < servedStep;
      if (isOlder) {
        this.#tell(one.path, `${one.path} is left: the servers serve step ${servedStep}`);
      }
      return !isOlder;
    }
    // The same folder, written again, is what its writer has last.
    if (one.path === given.path) {
      const isOlder = one.changedMs < given.changedMs;
      if (isOlder) this.#tell(one.path, `${one.path} is left: its files became older than pushed`);
      return !isOlder;
    }
    if (newestFirst(one, given) < 0) return true;
    this.#tell(one.path, `${one.path} is left: it is older than ${given.path}, which was pushed`);
    return false;
  }

  async #flawOf(one: Candidate): Promise<string | undefined> {
    if (one.flaw !== undefined) return one.flaw;
    if (!this.#checked.has(one.state)) this.#checked.set(one.state, await headerFlaw(one.path));
    return this.#checked.get(one.state);
  }

  async #find(): Promise<Candidate[]> {
    const entries = await this.#list();
    if (entries === undefined) return [];
    const latest = await this.#latestName(entries);
    const byRealPath = new Map<string, { path: string; name: string; isLink: boolean }>();
    const isNamedLatest = new Set<string>();
    for (const { name, isDirectory, isSymlink } of entries) {
      if ((!isDirectory && !isSymlink) || UNFINISHED.test(name)) continue;
      const path = join(this.#folder, name);
      const real = await this.#survive(path, () => Deno.realPath(path));
      if (real === undefined) continue;
      if (isSymlink && name === "latest") isNamedLatest.add(real);
      if (name === latest) isNamedLatest.add(real);
      // A link to a folder that is listed too is that folder.
      const known = byRealPath.get(real);
      if (known !== undefined && !(known.isLink && !isSymlink)) continue;
      byRealPath.set(real, { path: isSymlink ? real : path, name, isLink: isSymlink });
    }
    const found = [await this.#sight(this.#folder, { step: undefined, isLatest: false })];
    for (const [real, { path }] of byRealPath) {
      const step = stepOf(basename(path));
      found.push(await this.#sight(path, { step, isLatest: isNamedLatest.has(real) }));
    }
    return found.filter((one) => one !== undefined);
  }

  async #list(): Promise<Deno.DirEntry[] | undefined> {
    return await this.#survive(this.#folder, () => Array.fromAsync(Deno.readDir(this.#folder)));
  }

  /** The folder that a `latest` file names. */
  async #latestName(entries: readonly Deno.DirEntry[]): Promise<string | undefined> {
    for (const { name, isFile } of entries) {
      if (!isFile || !LATEST_FILES.includes(name)) continue;
      const path = join(this.#folder, name);
      const text = await this.#survive(path, async () => {
        const { size } = await Deno.stat(path);
        return size > 4096 ? "" : (await Deno.readTextFile(path)).trim();
      });
      if (text === undefined || text === "") continue;
      const named = basename(text);
      const isStep = /^\d+$/.test(named);
      const entry = entries.find((one) =>
        one.name === named || (isStep && stepOf(one.name) === Number(named) && !one.isFile)
      );
      if (entry !== undefined) return entry.name;
    }
    return undefined;
  }

  async #sight(
    path: string,
    place: { readonly step: number | undefined; readonly isLatest: boolean },
  ): Promise<Candidate | undefined> {
    return await this.#survive(path, async () => {
      const files: (DigestFile & { readonly stamp: string })[] = [];
      const names: string[] = [];
      let changedMs = 0;
      let flaw: string | undefined;
      for await (const { name } of Deno.readDir(path)) {
        if (!name.endsWith(".safetensors") && name !== INDEX) continue;
        const info = await Deno.stat(join(path, name));
        const timeMs = info.mtime?.getTime() ?? 0;
        names.push(name);
        files.push({ name, size: info.size, stamp: `${info.ino}:${timeMs}` });
        changedMs = Math.max(changedMs, timeMs);
        const isFresh = Date.now() - timeMs < HOLE_PATIENCE_MS;
        if (isFresh && await endsInHole(join(path, name), info)) {
          flaw = `the end of ${name} is not written`;
        }
      }
      if (files.length === 0) return undefined;
      files.sort((a, b) => a.name < b.name ? -1 : 1);
      return {
        ...place,
        path,
        hasIndex: names.includes(INDEX),
        changedMs,
        state: `${path} ${files.map((one) => `${one.name}:${one.size}:${one.stamp}`).join(" ")}`,
        files: files.map(({ name, size }) => ({ name, size })),
        flaw: flaw ?? missingShard(names),
      };
    });
  }

  /** Does what may fail because a folder vanishes, loops or is another's; tells it once. */
  async #survive<T>(path: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      const result = await work();
      this.#told.delete(`!${path}`);
      return result;
    } catch (error) {
      const isOurs = asPermissionError(error, `--allow-read=${path}`, `watch ${path}`);
      // Deno's own refusal will not change; the system's may.
      if (isOurs instanceof SGLangError && error instanceof Deno.errors.NotCapable) throw isOurs;
      if (!(error instanceof Error)) throw error;
      this.#tell(`!${path}`, `${path} cannot be read now: ${error.message}`);
      return undefined;
    }
  }

  #tell(about: string, message: string): void {
    if (this.#told.get(about) === message) return;
    this.#told.set(about, message);
    this.#options.tell?.(message);
  }
}

/** The number in a checkpoint's name: the last one of `step-20`, `global_step_20`, `epoch1-step20`. */
export function stepOf(name: string): number | undefined {
  const digits = name.match(/\d+/g)?.at(-1);
  return digits === undefined || digits.length > 15 ? undefined : Number(digits);
}

/** What a checkpoint is called: its folder, or its file where that has a name of its own. */
export function checkpointName(path: string): string {
  const full = resolve(path);
  const file = basename(full);
  if (file === INDEX || file === "model.safetensors") return basename(dirname(full));
  return file.replace(/\.safetensors$/, "");
}

/**
 * The highest step that servers serve, by the names of their weights. Mere numbers count syncs, not
 * steps.
 */
export function servedStep(versions: readonly (string | null)[]): number | undefined {
  const steps = versions.filter((version) => version !== null)
    .map((version) => versionInMark(version).replace(/\+[0-9a-f]{8}$/, ""))
    .filter((name) => /\D/.test(name))
    .map(stepOf)
    .filter((step) => step !== undefined);
  return steps.length === 0 ? undefined : Math.max(...steps);
}

function newestFirst(a: Candidate, b: Candidate): number {
  return (b.step ?? -1) - (a.step ?? -1) ||
    Number(b.isLatest) - Number(a.isLatest) ||
    Number(b.hasIndex) - Number(a.hasIndex) ||
    b.changedMs - a.changedMs;
}

/** Of shards `-00001-of-00003` all must be there. */
function missingShard(names: readonly string[]): string | undefined {
  for (const name of names) {
    const match = /^(.*-)(\d+)(-of-)(\d+)(\.safetensors)$/.exec(name);
    if (match === null) continue;
    const [, before, number, of, total, after] = match as unknown as string[];
    const count = Number(total);
    if (count > names.length) {
      const there = new Set(names);
      for (let i = 1; i <= Math.min(count, names.length + 1); i++) {
        const shard = `${before}${String(i).padStart(number!.length, "0")}${of}${total}${after}`;
        if (!there.has(shard)) return `${shard} is not there`;
      }
    }
    if (count > 1 && !names.includes(INDEX)) return `${INDEX} is not there`;
  }
  return undefined;
}

/** Whether a file has fewer blocks than bytes and ends in zeros: it was made long before it was written. */
async function endsInHole(path: string, info: Deno.FileInfo): Promise<boolean> {
  const { blocks, size } = info;
  if (blocks === null || size < 8192 || blocks * 512 >= size - 4096) return false;
  using file = await Deno.open(path, { read: true });
  await file.seek(size - 4096, Deno.SeekMode.Start);
  const end = new Uint8Array(4096);
  const length = await file.read(end) ?? 0;
  return end.subarray(0, length).every((byte) => byte === 0);
}

/** What is wrong with a checkpoint's headers, if anything is. */
async function headerFlaw(path: string): Promise<string | undefined> {
  try {
    await using _checkpoint = await openCheckpoint(path);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}
