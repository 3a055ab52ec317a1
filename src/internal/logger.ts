/** Where the library reports what it does. The default says nothing. */
export interface Logger {
  /** Detail for finding a fault. */
  debug(message: string): void;
  /** What happens. */
  info(message: string): void;
  /** What went wrong but was met. */
  warn(message: string): void;
  /** What went wrong. */
  error(message: string): void;
}

/** Writes warnings and errors to the console, and nothing else. */
export const warningLogger: Logger = {
  debug() {},
  info() {},
  // deno-lint-ignore no-console
  warn: (message) => console.warn(message),
  // deno-lint-ignore no-console
  error: (message) => console.error(message),
};

/** Says nothing. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };
