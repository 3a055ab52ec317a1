/** What the demo shows: a line for each step, and one line that moves. */
// deno-lint-ignore-file no-console

/** Prints steps with the time since the start. */
export class Screen {
  readonly #started = performance.now();
  readonly #isTerminal = Deno.stdout.isTerminal();
  readonly #encoder = new TextEncoder();

  /** Seconds since the start. */
  get elapsedSeconds(): number {
    return (performance.now() - this.#started) / 1000;
  }

  /** A finished step. */
  done(step: string, detail: string): void {
    this.#clear();
    console.log(`${this.elapsedSeconds.toFixed(1).padStart(6)} s  ${step.padEnd(30)}  ${detail}`);
  }

  /** A line of its own. */
  note(line: string): void {
    this.#clear();
    console.log(line);
  }

  /** What is going on; overwritten by what comes next, and left out where nobody watches. */
  progress(line: string): void {
    if (!this.#isTerminal) return;
    const { columns } = Deno.consoleSize();
    this.#clear();
    Deno.stdout.writeSync(this.#encoder.encode(`          ${line}`.slice(0, columns - 1)));
  }

  /** The same, for counted work. */
  counting(what: string): (progress: { done: number; total: number }) => void {
    return ({ done, total }) => this.progress(`${what}: ${done} of ${total}`);
  }

  #clear(): void {
    if (this.#isTerminal) Deno.stdout.writeSync(this.#encoder.encode("\r\x1b[K"));
  }
}
