import type { LibraryOptions } from "../library.ts";
import type { PlainError } from "../nccl/protocol.ts";

/** One HTTP call that is made when the owner is gone. */
export interface WillCall {
  /** Path below the server's address. */
  readonly path: string;
  /** Body, sent as JSON. */
  readonly body: unknown;
}

/** What is to become of one server when the owner is killed: calls made one after the other. */
export interface Will {
  /** Address of the server. */
  readonly url: string;
  /** Headers of every call. */
  readonly headers: Readonly<Record<string, string>>;
  /** The calls; none when the server is to be left alone. */
  readonly calls: readonly WillCall[];
}

/** What the owner tells its keeper. */
export type OwnerMessage =
  | {
    readonly kind: "open";
    readonly id: number;
    readonly rank: number;
    readonly device: number;
    readonly libraries: LibraryOptions;
    readonly collectives: boolean;
    readonly timeoutMs: number;
  }
  | {
    readonly kind: "request";
    readonly id: number;
    readonly rank: number;
    readonly name: string;
    readonly arguments: unknown;
    readonly phase: string;
    readonly timeoutMs: number;
  }
  | { readonly kind: "abort"; readonly id: number; readonly rank: number; readonly reason: string }
  | {
    readonly kind: "close";
    readonly id: number;
    readonly rank: number;
    readonly timeoutMs: number;
  }
  | { readonly kind: "will"; readonly will: Will }
  | { readonly kind: "bye" };

/** What a keeper answers. */
export type KeeperMessage =
  | { readonly kind: "ready" }
  | { readonly kind: "log"; readonly text: string }
  | { readonly kind: "answer"; readonly id: number; readonly ok: true; readonly value: unknown }
  | {
    readonly kind: "answer";
    readonly id: number;
    readonly ok: false;
    readonly error: PlainError;
  };
