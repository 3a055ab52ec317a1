import type { Socket } from "node:net";
import type { Connection, NetAddress, TcpConnection, TlsOptions } from "../types.ts";
import { builtin } from "./builtin.ts";

/** A socket of Node that is read when somebody asks. */
export class NodeConnection implements TcpConnection {
  readonly #socket: Socket;
  /** What came and did not fit. */
  #rest: Uint8Array | undefined;
  #failure: Error | undefined;
  #isEnded = false;
  #isClosed = false;
  /** Who waits for bytes. */
  #wake: (() => void) | undefined;

  /** Takes a socket that is connected. */
  constructor(socket: Socket) {
    this.#socket = socket;
    const wake = () => this.#wake?.();
    socket.on("readable", wake);
    socket.on("end", () => {
      this.#isEnded = true;
      wake();
    });
    socket.on("error", (error) => {
      this.#failure ??= error;
      wake();
    });
    socket.on("close", wake);
  }

  /** The socket, for an encrypted one upon it, which reads it from now on. */
  take(): Socket {
    this.#socket.removeAllListeners("readable");
    this.#socket.removeAllListeners("end");
    return this.#socket;
  }

  async read(target: Uint8Array): Promise<number | null> {
    if (target.length === 0) return 0;
    for (;;) {
      if (this.#isClosed) throw closed();
      const part = this.#rest ?? this.#socket.read() as Uint8Array | null;
      if (part !== null) {
        const taken = Math.min(part.length, target.length);
        target.set(part.subarray(0, taken));
        this.#rest = taken === part.length ? undefined : part.subarray(taken);
        return taken;
      }
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#isEnded) return null;
      if (this.#socket.destroyed) throw closed();
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
      this.#wake = undefined;
    }
  }

  write(bytes: Uint8Array): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    if (this.#isClosed) reject(closed());
    else {
      this.#socket.write(bytes, (error) => {
        if (error) reject(this.#failure ?? error);
        else resolve(bytes.length);
      });
    }
    return promise;
  }

  close(): void {
    if (this.#isClosed) throw closed();
    this.#isClosed = true;
    this.#socket.destroy();
    this.#wake?.();
  }

  setNoDelay(noDelay = true): void {
    this.#socket.setNoDelay(noDelay);
  }

  ref(): void {
    this.#socket.ref();
  }

  unref(): void {
    this.#socket.unref();
  }
}

/** Connects by TCP. */
export async function connectTcp(
  { hostname, port, signal }: NetAddress & { readonly signal: AbortSignal },
): Promise<NodeConnection> {
  signal.throwIfAborted();
  const socket = builtin("node:net").connect({ host: hostname, port, allowHalfOpen: true });
  await opened(socket, "connect", signal);
  return new NodeConnection(socket);
}

/** Encrypts a connection; resolves after the handshake. */
export async function startTls(
  connection: TcpConnection,
  { hostname, caCerts, signal }: TlsOptions,
): Promise<Connection> {
  signal.throwIfAborted();
  const tls = builtin("node:tls");
  const isAddress = builtin("node:net").isIP(hostname) !== 0;
  const socket = tls.connect({
    socket: (connection as NodeConnection).take(),
    host: hostname,
    ...(isAddress ? {} : { servername: hostname }),
    // A list of one's own takes the place of the known ones.
    ca: [...tls.rootCertificates, ...caCerts],
    ALPNProtocols: ["http/1.1"],
  });
  try {
    await opened(socket, "secureConnect", signal);
  } catch (error) {
    throw signal.aborted ? error : tlsError(error);
  }
  return new NodeConnection(socket);
}

async function opened(
  socket: Socket,
  event: "connect" | "secureConnect",
  signal: AbortSignal,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onError = (error: Error) => reject(firstOf(error));
  const onClose = () => reject(closed());
  const onAbort = () => reject(signal.reason);
  socket.once(event, resolve);
  socket.once("error", onError);
  socket.once("close", onClose);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await promise;
  } catch (error) {
    socket.on("error", () => {});
    socket.destroy();
    throw error;
  } finally {
    socket.off("error", onError);
    socket.off("close", onClose);
    signal.removeEventListener("abort", onAbort);
  }
}

/** Of the addresses of a name each gives an error, and their list has no message. */
function firstOf(error: Error): Error {
  const [first] = error instanceof AggregateError ? error.errors : [];
  return first instanceof Error ? first : error;
}

function closed(): Error {
  return new Error("The connection is closed");
}

/** What Deno says of a certificate where Node says these codes. */
const certificateFaults: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "Expired",
  CERT_NOT_YET_VALID: "NotValidYet",
  CERT_SIGNATURE_FAILURE: "BadSignature",
  DEPTH_ZERO_SELF_SIGNED_CERT: "UnknownIssuer",
  ERR_TLS_CERT_ALTNAME_INVALID: "NotValidForName",
  SELF_SIGNED_CERT_IN_CHAIN: "UnknownIssuer",
  UNABLE_TO_GET_ISSUER_CERT: "UnknownIssuer",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "UnknownIssuer",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "UnknownIssuer",
};

function tlsError(error: unknown): unknown {
  const { code = "", message, cert } = error as {
    readonly code?: string;
    readonly message: string;
    readonly cert?: { readonly subjectaltname?: string };
  };
  const fault = certificateFaults[code];
  if (fault !== undefined) {
    // For an address Node leaves out which names there are.
    const names = fault === "NotValidForName" ? cert?.subjectaltname : undefined;
    const told = names === undefined || message.includes(names)
      ? message
      : `${message} It is for ${names}`;
    return new Error(`invalid peer certificate: ${fault}: ${told}`, { cause: error });
  }
  if (!/^(EPROTO|ERR_SSL)/.test(code)) return error;
  return new Error(`no handshake of TLS: ${message}`, { cause: error });
}
