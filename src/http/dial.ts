import { PermissionError, ProtocolError, SGLangError, UnreachableError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { asExhaustedError } from "../internal/exhausted.ts";
import { inBrackets } from "../internal/hostname.ts";
import { asPermissionError } from "../internal/permission.ts";
import { messageOf } from "../internal/thrown.ts";
import type { Address } from "./address.ts";
import { ByteReader } from "./byte_reader.ts";
import { connectToAny, systemConnector } from "./connect.ts";
import { encodeHead, parseHead } from "./message.ts";
import type { Proxy } from "./proxy.ts";
import { readHead } from "./read_head.ts";
import { closeQuietly } from "../runtime/close_quietly.ts";
import { type Connection, isSystemError, runtime, type TcpConnection } from "../runtime/mod.ts";

/** What a connection is made of. */
export interface DialOptions {
  readonly address: Address;
  readonly proxy: Proxy | undefined;
  /** Certificates, in PEM, that are trusted besides the system's. */
  readonly caCerts: readonly string[] | undefined;
  readonly clock: Clock;
}

/** Connects to a server; an error says why in the words of the library. */
export async function dial(options: DialOptions, signal: AbortSignal): Promise<Connection> {
  const { address, proxy } = options;
  const next = proxy?.address ?? address;
  try {
    if (!address.isSecure) return await connect(next, options, signal);
    if (proxy === undefined) {
      return await secured(await connect(next, options, signal), options, signal);
    }
    const socket = await connect(next, options, signal);
    await closingOnFailure(socket, () => tunnel(socket, options, signal));
    return await secured(socket, options, signal);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw dialError(error, options);
  }
}

async function connect(
  address: Address,
  { clock }: DialOptions,
  signal: AbortSignal,
): Promise<TcpConnection> {
  const socket = await connectToAny(address, systemConnector(clock), signal);
  socket.setNoDelay(true);
  return socket;
}

async function secured(
  socket: TcpConnection,
  { address, caCerts = [] }: DialOptions,
  signal: AbortSignal,
): Promise<Connection> {
  const { hostname } = address;
  return await closingOnFailure(
    socket,
    () => runtime().startTls(socket, { hostname, caCerts, signal }),
  );
}

/** Lets a proxy connect us to the server. */
async function tunnel(
  socket: TcpConnection,
  { address, proxy }: DialOptions,
  signal: AbortSignal,
): Promise<void> {
  const target = `${inBrackets(address.hostname)}:${address.port}`;
  const onAbort = () => closeQuietly(socket);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    signal.throwIfAborted();
    const head = encodeHead({
      method: "CONNECT",
      target,
      headers: { host: target, ...proxy!.headers },
    });
    await socket.write(new TextEncoder().encode(head));
    const { status } = parseHead(await readHead(new ByteReader((part) => socket.read(part))));
    if (status < 200 || status > 299) {
      throw new ProtocolError(`The proxy ${proxy!.address.origin} refused with status ${status}`);
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

async function closingOnFailure<T>(socket: Connection, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    closeQuietly(socket);
    throw error;
  }
}

function dialError(error: unknown, { address, proxy }: DialOptions): unknown {
  if (error instanceof SGLangError) return error;
  const next = proxy?.address ?? address;
  const purpose = `connect to ${next.origin}`;
  const flag = `--allow-net=${inBrackets(next.hostname)}:${next.port}`;
  const permission = asPermissionError(error, flag, purpose);
  if (permission instanceof PermissionError) return permission;
  const known = asExhaustedError(error, purpose);
  if (known !== error) return known;
  const tls = tlsProblem(error, address);
  if (tls !== undefined) {
    return new UnreachableError(`Cannot connect to SGLang server at ${address.origin}: ${tls}`, {
      url: address.origin,
      reason: "tls",
      cause: error,
    });
  }
  const reason = reasonOf(error);
  const told = reason === "refused" ? "connection refused" : reason === "dns" ? "unknown host" : "";
  const through = proxy === undefined ? "" : `, through the proxy ${proxy.address.origin}`;
  return new UnreachableError(
    `Cannot connect to SGLang server at ${address.origin}${through}: ` +
      `${told || messageOf(error)}. Check that it runs and that the address is right`,
    { url: address.origin, reason, cause: error },
  );
}

/** What is wrong with the encryption, and what to do; `undefined` when something else is wrong. */
function tlsProblem(error: unknown, { isSecure, hostname, host }: Address): string | undefined {
  if (!isSecure) return undefined;
  const said = messageOf(error);
  const certificate = /invalid peer certificate: (.*)/s.exec(said)?.[1];
  if (certificate === undefined) {
    if (!/corrupt message|HandshakeFailure|ProtocolVersion|tls|TLS/.test(said)) return undefined;
    return `no encrypted connection (${said}). Does it speak https? For a server without ` +
      `certificates give http://${host}`;
  }
  if (/UnknownIssuer|BadSignature/.test(certificate)) {
    return "nobody that is trusted signed its certificate. Give the certificate of its authority, " +
      "or its own if it signed itself, in PEM, as caCerts";
  }
  if (/[Ee]xpired/.test(certificate)) {
    return `its certificate is too old (${certificate}): renew it`;
  }
  if (/not valid yet|NotValidYet/.test(certificate)) {
    return `its certificate is not valid yet (${certificate}). Are the clocks of both machines right?`;
  }
  if (/not valid for name|NotValidForName/.test(certificate)) {
    return `its certificate is not for ${hostname} (${certificate}). Call it by a name that the ` +
      "certificate has, or get one for this name";
  }
  return `its certificate is refused: ${certificate}`;
}

function reasonOf(error: unknown): UnreachableError["reason"] {
  if (isSystemError(error, "ConnectionRefused")) return "refused";
  // Deno gives no class and no code for a name that nobody knows, Node gives a code of its own.
  return /failed to lookup|dns|ENOTFOUND|EAI_AGAIN/i.test(messageOf(error)) ? "dns" : "other";
}
