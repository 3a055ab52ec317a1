import { createHmac } from "node:crypto";
import { ProtocolError, SGLangError } from "../errors.ts";
import { isSameSecret } from "../internal/same_secret.ts";
import { FrameKind, type FrameReader, MAX_GREETING_BYTES } from "./frames.ts";

/** What the protocol calls itself. */
export const PROTOCOL = "sglang-rl.trainer";
/** Versions that this side speaks, the best first. */
export const VERSIONS: readonly number[] = [1];

/** How weights travel from a trainer to rank 0. */
export type TrainerWay = "shm" | "socket" | "cuda-ipc" | "broadcast";

/** All ways, the best first; `broadcast` is taken only by a trainer that asks for it. */
export const WAYS: readonly TrainerWay[] = ["cuda-ipc", "shm", "socket", "broadcast"];

/** A trainer as it introduced itself. */
export interface TrainerName {
  /** What it calls itself; default its process id. */
  readonly name: string;
  /** The ways that it knows, the best first. */
  readonly ways: readonly TrainerWay[];
}

/** Offers of ours that the trainer picks from. */
export interface WayOffer {
  /** Id of the link, new for each: batches are numbered within it. */
  readonly link: string;
  /** The ways that this side allows. */
  readonly ways: readonly TrainerWay[];
  /** The ring of the way `shm`, when there is one. */
  readonly ring?: object | undefined;
  /** Why a way is not offered, by its name. */
  readonly without: Readonly<Partial<Record<TrainerWay, string>>>;
}

/** Why a trainer was turned away. */
export class GreetingRefused extends ProtocolError {
  /** What is told to the trainer. */
  readonly why: "key" | "version" | "protocol";
  /** Makes the error. */
  constructor(why: GreetingRefused["why"], message: string) {
    super(message);
    this.why = why;
  }
}

/** Proof that a side has the key, for just this connection. */
export function proofOf(
  key: string,
  side: "client" | "server",
  nonces: { readonly client: string; readonly server: string },
): string {
  return createHmac("sha256", key).update(`${side}:${nonces.client}:${nonces.server}`)
    .digest("hex");
}

/** Greets a trainer that has connected; resolves when both know each other. */
export async function greet(
  reader: FrameReader,
  send: (message: object) => Promise<void>,
  options: {
    readonly key: string;
    readonly offerTo: (trainer: TrainerName) => Promise<WayOffer>;
  },
): Promise<{ readonly trainer: TrainerName; readonly way: TrainerWay; readonly why: string }> {
  try {
    const hello = await next(reader, "hello");
    const { trainer, nonce } = readHello(hello);
    const nonces = { client: nonce, server: newNonce() };
    await send({ type: "hello", protocol: PROTOCOL, version: VERSIONS[0], nonce: nonces.server });
    const { proof } = await next(reader, "proof");
    if (typeof proof !== "string" || !isSameSecret(proof, proofOf(options.key, "client", nonces))) {
      throw new GreetingRefused(
        "key",
        `trainer ${trainer.name} has another key than this link; give both sides the same`,
      );
    }
    const offer = await options.offerTo(trainer);
    await send({ type: "welcome", proof: proofOf(options.key, "server", nonces), ...offer });
    const { way, why } = await next(reader, "way");
    if (!isWay(way) || !offer.ways.includes(way)) {
      throw new GreetingRefused("protocol", `trainer ${trainer.name} chose a way not offered`);
    }
    return { trainer, way, why: typeof why === "string" ? why.slice(0, 500) : "" };
  } catch (error) {
    if (error instanceof SGLangError && error.code === "protocol") {
      const code = error instanceof GreetingRefused ? error.why : "protocol";
      await send({ type: "refused", code, message: error.message }).catch(() => {});
    }
    throw error;
  }
}

async function next(reader: FrameReader, type: string): Promise<Record<string, unknown>> {
  const { kind, length } = await reader.head();
  if (kind !== FrameKind.message) {
    throw new GreetingRefused("protocol", `expected the message "${type}", got a frame ${kind}`);
  }
  const message = await reader.message(length, MAX_GREETING_BYTES);
  if (message.type === type) return message;
  throw new GreetingRefused("protocol", `expected the message "${type}", got another`);
}

function readHello(hello: Record<string, unknown>): { trainer: TrainerName; nonce: string } {
  const { protocol, versions, nonce, name, ways } = hello;
  if (protocol !== PROTOCOL) {
    throw new GreetingRefused("protocol", `the other side does not speak ${PROTOCOL}`);
  }
  if (!Array.isArray(versions) || !versions.some((version) => VERSIONS.includes(version))) {
    throw new GreetingRefused(
      "version",
      `the trainer speaks versions ${
        JSON.stringify(versions)?.slice(0, 100)
      } of ${PROTOCOL}, this ` +
        `side ${VERSIONS.join(", ")}: install the same release of sglang-rl on both sides`,
    );
  }
  const isNamed = typeof name === "string" && /^[\w.:@/-]{1,100}$/.test(name);
  const hasNonce = typeof nonce === "string" && /^[0-9a-f]{32,128}$/.test(nonce);
  if (!isNamed || !hasNonce || !Array.isArray(ways) || ways.length > 16) {
    throw new GreetingRefused("protocol", "the hello lacks a name, a nonce or ways");
  }
  return { trainer: { name, ways: ways.filter(isWay) }, nonce };
}

function isWay(value: unknown): value is TrainerWay {
  return WAYS.includes(value as TrainerWay);
}

function newNonce(): string {
  return crypto.getRandomValues(new Uint8Array(32)).toHex();
}
