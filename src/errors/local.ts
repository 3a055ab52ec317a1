/** What goes wrong in this process and on this machine. */
import { SGLangError } from "./base.ts";

/** An argument was wrong; nothing was sent. */
export class ValidationError extends SGLangError<"validation"> {
  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super("validation", message, options);
  }
}

/** Deno refused a permission. */
export class PermissionError extends SGLangError<"permission"> {
  /** The exact flag that would allow it, for example `--allow-net=127.0.0.1:30000`. */
  readonly flag: string;
  /** Makes the error. */
  constructor(message: string, options: ErrorOptions & { flag: string }) {
    super("permission", message, options);
    this.flag = options.flag;
  }
}

/** A call came at a time when it cannot be served, such as after `close()`. */
export class StateError extends SGLangError<"state"> {
  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super("state", message, options);
  }
}

/** A checkpoint file is damaged or not what was expected. */
export class CheckpointError extends SGLangError<"checkpoint"> {
  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super("checkpoint", message, options);
  }
}

/** A call into CUDA or NCCL failed. */
export class NativeError extends SGLangError<"native"> {
  /** The function that failed, for example `ncclBroadcast`. */
  readonly call: string;
  /** Its result code. */
  readonly result: number;
  /** Makes the error. */
  constructor(message: string, options: ErrorOptions & { call: string; result: number }) {
    super("native", message, options);
    this.call = options.call;
    this.result = options.result;
  }
}

/** A shared library could not be opened. */
export class LibraryError extends SGLangError<"library"> {
  /** Every place that was tried, with the reason it failed. */
  readonly tried: ReadonlyArray<{ path: string; reason: string }>;
  /** Makes the error. */
  constructor(
    message: string,
    options: ErrorOptions & { tried: ReadonlyArray<{ path: string; reason: string }> },
  ) {
    super("library", message, options);
    this.tried = options.tried;
  }
}

/** A peer or a file holds more than the limit allows; the rest was not read. */
export class LimitError extends SGLangError<"limit"> {
  /** Name of the limit, for example `"answerBytes"`. */
  readonly limit: string;
  /** Its value. */
  readonly max: number;
  /** Makes the error. */
  constructor(message: string, options: ErrorOptions & { limit: string; max: number }) {
    super("limit", message, options);
    this.limit = options.limit;
    this.max = options.max;
  }
}

/** The machine has no more of something: room on a disk, open files, memory. */
export class ExhaustedError extends SGLangError<"exhausted"> {
  /** What there is no more of. */
  readonly resource: "disk" | "files" | "ports" | "memory";
  /** Makes the error. */
  constructor(message: string, options: ErrorOptions & { resource: ExhaustedError["resource"] }) {
    super("exhausted", message, options);
    this.resource = options.resource;
  }
}

/** A part of this library that only Deno can run was used in Node or Bun. */
export class NeedsDenoError extends SGLangError<"needs_deno"> {
  /** What was called, for example `Deno.dlopen`. */
  readonly call: string;
  /** Makes the error. */
  constructor(call: string) {
    super(
      "needs_deno",
      `This part of the library needs ${call}, which only Deno has: run the program by Deno, or ` +
        "leave this part out. docs/node.md lists what runs in Node and Bun",
    );
    this.call = call;
  }
}
