/**
 * Records of the gloo TCP transport. All integers are little-endian unless said.
 *
 * Source: gloo `transport/tcp/{pair,address}.cc`, and the wire as torch 2.11 and 2.14 use it.
 */
import { ProtocolError } from "../../errors.ts";
import type { GlooAddress } from "./address.ts";

/** What a message is. */
export const Opcode = {
  sendBuffer: 0,
  sendUnboundBuffer: 1,
  notifySendReady: 2,
  notifyRecvReady: 3,
} as const;

/** Bytes of the head of every message. */
export const HEAD_BYTES = 48;

/** The head of a message. */
export interface MessageHead {
  /** What the message is. */
  readonly opcode: number;
  /** Which collective it belongs to. */
  readonly slot: bigint;
  /** Bytes of the payload, there or to come. */
  readonly length: number;
}

/** Builds a message's head; a payload of `length` bytes follows `sendUnboundBuffer`. */
export function encodeHead(head: MessageHead): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEAD_BYTES);
  const view = new DataView(bytes.buffer);
  const payload = head.opcode === Opcode.sendUnboundBuffer ? head.length : 0;
  view.setBigUint64(0, BigInt(HEAD_BYTES + payload), true);
  view.setBigUint64(8, BigInt(head.opcode), true);
  view.setBigUint64(16, head.slot, true);
  view.setBigUint64(32, BigInt(head.length), true);
  return bytes;
}

/** Reads a message's head; throws a `ProtocolError` for what a broadcast does not use. */
export function parseHead(bytes: Uint8Array): MessageHead {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEAD_BYTES);
  const total = view.getBigUint64(0, true);
  const opcode = Number(view.getBigUint64(8, true));
  const length = view.getBigUint64(32, true);
  const payload = opcode === Opcode.sendUnboundBuffer ? length : 0n;
  const known = opcode === Opcode.sendUnboundBuffer || opcode === Opcode.notifySendReady ||
    opcode === Opcode.notifyRecvReady;
  if (!known || total !== BigInt(HEAD_BYTES) + payload || length > Number.MAX_SAFE_INTEGER) {
    throw new ProtocolError(
      `gloo: unexpected message (operation ${opcode}, ${total} bytes, length ${length})`,
    );
  }
  return { opcode, slot: view.getBigUint64(16, true), length: Number(length) };
}

const BROADCAST_PREFIX = 0x06n;

/** The slot of the `tag`-th collective of a group, when that is a broadcast. */
export function broadcastSlot(tag: number): bigint {
  return (BROADCAST_PREFIX << 56n) | (BigInt(tag >>> 0) << 24n);
}

/** Which collective a slot means. */
export function tagOf(slot: bigint): number {
  return Number((slot >> 24n) & 0xffffffffn);
}

/** What a rank publishes in the store. */
export interface GlooRank {
  /** Only compared for equality. */
  readonly hostname: string;
  /** Where the rank listens. */
  readonly address: GlooAddress;
  /** Entry `i` is what rank `i` says when it connects; empty: its rank. */
  readonly pairIds: readonly bigint[];
}

const SOCKADDR_BYTES = 128;
const ADDRESS_BYTES = SOCKADDR_BYTES + 8;
const AF_INET = 2;
const AF_INET6 = 10;
/** Longest host name that is taken for one. */
const MAX_HOSTNAME_BYTES = 1024;

/** The value of a rank's key. */
export function encodeGlooRank(info: GlooRank): Uint8Array<ArrayBuffer> {
  const hostname = new TextEncoder().encode(info.hostname);
  const bytes = new Uint8Array(8 + hostname.length + 8 + ADDRESS_BYTES + 8 * info.pairIds.length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(hostname.length), true);
  bytes.set(hostname, 8);
  let offset = 8 + hostname.length;
  view.setBigUint64(offset, BigInt(ADDRESS_BYTES), true);
  offset += 8;
  bytes.set(encodeAddress(info.address), offset);
  offset += ADDRESS_BYTES;
  for (const id of info.pairIds) {
    view.setBigInt64(offset, id, true);
    offset += 8;
  }
  return bytes;
}

function encodeAddress({ ip, port }: GlooAddress): Uint8Array {
  const bytes = new Uint8Array(ADDRESS_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ip.length === 4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port, false);
  bytes.set(ip, ip.length === 4 ? 4 : 8);
  // The number of a listening address: it belongs to no pair.
  view.setBigInt64(SOCKADDR_BYTES, -1n, true);
  return bytes;
}

/** Reads what a rank published. */
export function parseGlooRank(bytes: Uint8Array): GlooRank {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    const hostnameBytes = boundedLength(view, 0, MAX_HOSTNAME_BYTES);
    const hostname = new TextDecoder().decode(bytes.subarray(8, 8 + hostnameBytes));
    let offset = 8 + hostnameBytes;
    if (boundedLength(view, offset, ADDRESS_BYTES) !== ADDRESS_BYTES) throw new RangeError();
    offset += 8;
    const address = parseAddress(bytes.subarray(offset, offset + ADDRESS_BYTES));
    const pairIds: bigint[] = [];
    for (offset += ADDRESS_BYTES; offset < bytes.length; offset += 8) {
      pairIds.push(view.getBigInt64(offset, true));
    }
    return { hostname, address, pairIds };
  } catch (error) {
    if (error instanceof ProtocolError) throw error;
    throw new ProtocolError(`gloo: a rank published ${bytes.length} bytes that are no address`, {
      cause: error,
    });
  }
}

function boundedLength(view: DataView, offset: number, limit: number): number {
  const length = view.getBigUint64(offset, true);
  if (length > BigInt(limit)) throw new RangeError();
  return Number(length);
}

function parseAddress(bytes: Uint8Array): GlooAddress {
  const view = new DataView(bytes.buffer, bytes.byteOffset, ADDRESS_BYTES);
  const family = view.getUint16(0, true);
  const port = view.getUint16(2, false);
  if (family === AF_INET) return { ip: bytes.slice(4, 8), port };
  if (family === AF_INET6) return { ip: bytes.slice(8, 24), port };
  throw new ProtocolError(`gloo: a rank published an address of the unknown family ${family}`);
}

/**
 * The store key of a rank, as it goes over the wire: torch's client, SGLang's group name, torch's
 * group name, the device and the index of the gloo context each add a part.
 */
export function rankKey(groupName: string, rank: number): string {
  return `/${groupName}/${groupName}//cpu//0/${rank}`;
}
