/** What goes wrong between this process and servers. */
import { SGLangError } from "./base.ts";

/** Why a peer could not be reached. */
export type UnreachableReason =
  /** Nothing listens: the request was not received. */
  | "refused"
  /** The host's name is not known. */
  | "dns"
  /** The connection ended before the answer was complete; the request may have been received. */
  | "lost"
  /** No encrypted connection: the certificate is not trusted, too old, or for another name. */
  | "tls"
  /** Anything else. */
  | "other";

/** Nobody answered at the given address. */
export class UnreachableError extends SGLangError<"unreachable"> {
  /** The address that was tried, without credentials. */
  readonly url: string;
  /** Why, as far as it is known. */
  readonly reason: UnreachableReason;
  /** Makes the error. */
  constructor(
    message: string,
    options: ErrorOptions & { url: string; reason?: UnreachableReason | undefined },
  ) {
    super("unreachable", message, options);
    this.url = options.url;
    this.reason = options.reason ?? "other";
  }
}

/** A server answered with an error. */
export class HttpError extends SGLangError<"http"> {
  /** The HTTP status; for an error inside a stream that began with 200, the code it carried. */
  readonly status: number;
  /** Method and path, for example `POST /generate`. */
  readonly endpoint: string;
  /** The server's own words. */
  readonly serverMessage: string;
  /** Makes the error. */
  constructor(
    message: string,
    options: ErrorOptions & { status: number; endpoint: string; serverMessage: string },
  ) {
    super("http", message, options);
    this.status = options.status;
    this.endpoint = options.endpoint;
    this.serverMessage = options.serverMessage;
  }
}

/** A peer answered something that its protocol does not allow. */
export class ProtocolError extends SGLangError<"protocol"> {
  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super("protocol", message, options);
  }
}

/** A wait reached its deadline. */
export class TimeoutError extends SGLangError<"timeout"> {
  /** Which wait this was, for example `"server ready"`. */
  readonly phase: string;
  /** How long was waited, in milliseconds. */
  readonly timeoutMs: number;
  /** Who was waited for, when known. */
  readonly peer: string | undefined;
  /** What was last heard from the peer, when anything was. */
  readonly lastHeard: string | undefined;
  /** Makes the error; the message is written from the fields. */
  constructor(
    options: ErrorOptions & {
      phase: string;
      timeoutMs: number;
      peer?: string | undefined;
      lastHeard?: string | undefined;
      hint?: string | undefined;
    },
  ) {
    const { phase, timeoutMs, peer, lastHeard, hint } = options;
    super(
      "timeout",
      `Timed out in phase "${phase}" after ${timeoutMs} ms` +
        (peer === undefined ? "" : `, waiting for ${peer}`) +
        (lastHeard === undefined ? "" : `; last heard: ${lastHeard}`) +
        (hint === undefined ? "" : `. ${hint}`),
      options,
    );
    this.phase = phase;
    this.timeoutMs = timeoutMs;
    this.peer = peer;
    this.lastHeard = lastHeard;
  }
}

/** The caller's `AbortSignal` fired; its reason is the `cause`. */
export class AbortedError extends SGLangError<"aborted"> {
  /** Makes the error; `phase` says what was under way. */
  constructor(phase: string, options?: ErrorOptions) {
    super("aborted", `Aborted in phase "${phase}"`, options);
  }
}

/** A managed process ended although it should run. */
export class CrashedError extends SGLangError<"crashed"> {
  /** The exit code, or `null` when a signal ended it. */
  readonly exitCode: number | null;
  /** The signal that ended it, when one did. */
  readonly signal: string | null;
  /** The last lines that it logged. */
  readonly logTail: string;
  /** Makes the error. */
  constructor(
    message: string,
    options: ErrorOptions & { exitCode: number | null; signal?: string | null; logTail: string },
  ) {
    super("crashed", message, options);
    this.exitCode = options.exitCode;
    this.signal = options.signal ?? null;
    this.logTail = options.logTail;
  }
}

/** A server is paused and would not answer. */
export class PausedError extends SGLangError<"paused"> {
  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super("paused", message, options);
  }
}

/** The server or the platform cannot do what was asked. */
export class UnsupportedError extends SGLangError<"unsupported"> {
  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super("unsupported", message, options);
  }
}
