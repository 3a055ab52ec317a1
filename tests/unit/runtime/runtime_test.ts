import assert from "node:assert/strict";
import { denoRuntime } from "../../../src/runtime/deno.ts";
import { NodeRuntime } from "../../../src/runtime/node/mod.ts";
import { isSystemError, type Runtime, runtime } from "../../../src/runtime/mod.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

/** What Deno does with its own calls, it does with those of Node, too. */
const both: readonly Runtime[] = [denoRuntime, new NodeRuntime()];

function each(sentence: string, check: (program: Runtime) => Promise<void>): void {
  for (const program of both) Deno.test(`${program.name}: ${sentence}`, () => check(program));
}

const never = new AbortController().signal;

Deno.test("the runtime is the one that is there", () => {
  assert.equal(runtime().name, "deno");
  assert.equal(runtime(), runtime());
});

each("bytes come through a connection whole, and its end is told", async (program) => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const connecting = program.connect({ hostname: "127.0.0.1", port, signal: never });
  const peer = await listener.accept();
  const connection = await connecting;
  connection.setNoDelay(true);
  const sent = crypto.getRandomValues(new Uint8Array(60_000));
  const writing = (async () => {
    for (let at = 0; at < sent.length;) at += await connection.write(sent.subarray(at));
  })();
  const got: number[] = [];
  const part = new Uint8Array(1000);
  while (got.length < sent.length) got.push(...part.subarray(0, (await peer.read(part))!));
  await writing;
  assert.deepEqual(Uint8Array.from(got), sent);
  await peer.write(Uint8Array.of(1, 2, 3));
  const two = new Uint8Array(2);
  assert.equal(await connection.read(two), 2);
  assert.deepEqual([...two], [1, 2]);
  assert.equal(await connection.read(two), 1);
  assert.equal(two[0], 3);
  const waiting = connection.read(two);
  peer.close();
  assert.equal(await waiting, null);
  connection.close();
  await assert.rejects(async () => await connection.read(two));
});

each("a read that waits fails when the connection is closed", async (program) => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const connecting = program.connect({ hostname: "127.0.0.1", port, signal: never });
  using _peer = await listener.accept();
  const connection = await connecting;
  const waiting = assert.rejects(connection.read(new Uint8Array(1)));
  connection.close();
  await waiting;
});

each("refusals of the system are told apart", async (program) => {
  await using folder = await temporaryFolder();
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr as Deno.NetAddr;
  const told = async (kind: Parameters<typeof isSystemError>[1], work: () => Promise<unknown>) => {
    await assert.rejects(work, (error) => isSystemError(error, kind));
  };
  const path = `${folder.path}/none`;
  await told("NotFound", () => program.stat(path));
  await told("NotFound", () => program.open(path));
  await told("NotFound", () => program.readFile(path));
  await told("NotFound", () => program.remove(path));
  await program.writeTextFile(path, "x");
  await told("NotADirectory", () => program.stat(`${path}/below`));
  const handler = () => new Response("");
  const onError = handler;
  await told("AddrInUse", () => program.serve({ hostname: "127.0.0.1", port, handler, onError }));
  taken.close();
  await told(
    "ConnectionRefused",
    () => program.connect({ hostname: "127.0.0.1", port, signal: never }),
  );
});

each("files are written, gone on with, read at places and listed", async (program) => {
  await using folder = await temporaryFolder();
  const bytes = (text: string) => new TextEncoder().encode(text);
  const path = `${folder.path}/a`;
  {
    using file = await program.open(path, { write: true, createNew: true });
    assert.equal(await file.write(bytes("hello")), 5);
    await file.sync();
  }
  await assert.rejects(program.open(path, { write: true, createNew: true }));
  {
    using file = await program.open(path, { append: true, create: true });
    await file.write(bytes(" world"));
  }
  {
    using file = await program.open(path);
    const part = new Uint8Array(5);
    await file.seek(6, 0);
    assert.equal(await file.read(part), 5);
    assert.equal(new TextDecoder().decode(part), "world");
    assert.equal(await file.read(part), null);
    assert.equal((await file.stat()).size, 11);
  }
  using truncated = await program.open(path, { write: true, create: true, truncate: true });
  await truncated.write(bytes("x"));
  assert.deepEqual(await program.readFile(path), bytes("x"));
  const info = await program.stat(path);
  assert.ok(info.isFile && !info.isDirectory && info.mtime instanceof Date);
  await program.mkdir(`${folder.path}/b/c`, { recursive: true });
  await program.rename(path, `${folder.path}/b/d`);
  const names = await Array.fromAsync(program.readDir(`${folder.path}/b`));
  assert.deepEqual(
    names.map(({ name, isDirectory }) => [name, isDirectory]).sort(),
    [["c", true], ["d", false]],
  );
  await program.remove(`${folder.path}/b`, { recursive: true });
  await assert.rejects(program.lstat(`${folder.path}/b`));
  const made = await program.makeTempDir({ dir: folder.path, prefix: "of-" });
  assert.ok(made.startsWith(`${folder.path}/of-`));
});

each("a server ends although a client says nothing on its connection", async (program) => {
  const server = await program.serve({
    hostname: "127.0.0.1",
    port: 0,
    onError: () => new Response(null, { status: 500 }),
    handler: () => Promise.resolve(new Response("here")),
  });
  using silent = await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
  const answer = await fetch(`http://127.0.0.1:${server.addr.port}`);
  assert.equal(await answer.text(), "here");
  await server.shutdown();
  await server.finished;
  assert.equal(await silent.read(new Uint8Array(1)).catch(() => null), null);
});

each("a server answers, streams, hides what was thrown, and ends", async (program) => {
  const { promise: left, resolve: onLeave } = Promise.withResolvers<void>();
  const server = await program.serve({
    hostname: "127.0.0.1",
    port: 0,
    onError: (error) => new Response((error as Error).message, { status: 500 }),
    async handler(request) {
      const { pathname } = new URL(request.url);
      if (pathname === "/throw") throw new Error("thrown");
      if (pathname === "/echo") return new Response(await request.text(), { status: 201 });
      const body = new ReadableStream({
        start: (controller) => controller.enqueue(new TextEncoder().encode("first")),
        cancel: () => onLeave(),
      });
      return new Response(body);
    },
  });
  const url = `http://127.0.0.1:${server.addr.port}`;
  const echo = await fetch(`${url}/echo`, { method: "POST", body: "x".repeat(100_000) });
  assert.equal(echo.status, 201);
  assert.equal((await echo.text()).length, 100_000);
  const thrown = await fetch(`${url}/throw`);
  assert.deepEqual([thrown.status, await thrown.text()], [500, "thrown"]);
  const leaving = new AbortController();
  const stream = await fetch(`${url}/stream`, { signal: leaving.signal });
  const reader = stream.body!.getReader();
  assert.equal(new TextDecoder().decode((await reader.read()).value), "first");
  leaving.abort();
  await reader.read().catch(() => {});
  await left;
  await server.shutdown();
  await server.finished;
});

const tlsFolder = new URL("../../_support/tls/", import.meta.url);
const pem = (name: string) => Deno.readTextFileSync(new URL(name, tlsFolder));

/** A server that speaks TLS with a certificate, and says the same to whoever connects. */
function secureListener(certificate: "server" | "expired" | "other") {
  const listener = Deno.listenTls({
    hostname: "127.0.0.1",
    port: 0,
    key: pem("server.key"),
    cert: pem(`${certificate}.pem`),
  });
  const answering = (async () => {
    for await (const peer of listener) {
      try {
        await peer.handshake();
        await peer.write(new TextEncoder().encode("hello"));
        await peer.read(new Uint8Array(1));
      } catch { /* It was not trusted. */ }
      peer.close();
    }
  })();
  return {
    port: (listener.addr as Deno.NetAddr).port,
    async [Symbol.asyncDispose]() {
      listener.close();
      await answering;
    },
  };
}

each("an encrypted connection is made where the certificate is trusted", async (program) => {
  await using server = secureListener("server");
  for (const hostname of ["localhost", "127.0.0.1"]) {
    const to = { hostname: "127.0.0.1", port: server.port, signal: never };
    const plain = await program.connect(to);
    const secure = await program.startTls(plain, {
      hostname,
      caCerts: [pem("ca.pem")],
      signal: never,
    });
    const said = new Uint8Array(5);
    assert.equal(await secure.read(said), 5);
    assert.equal(new TextDecoder().decode(said), "hello");
    secure.close();
  }
});

each(
  "a certificate that is not trusted is told by one word, and none other is taken",
  async (program) => {
    for (
      const [certificate, caCerts, word] of [
        ["server", [], "UnknownIssuer"],
        ["expired", [pem("ca.pem")], ""],
        ["other", [pem("ca.pem")], ""],
      ] as const
    ) {
      await using server = secureListener(certificate);
      const plain = await program.connect({
        hostname: "127.0.0.1",
        port: server.port,
        signal: never,
      });
      const secured = program.startTls(plain, { hostname: "localhost", caCerts, signal: never });
      await assert.rejects(secured, (error: Error) => {
        return new RegExp(`invalid peer certificate: .*${word}`).test(error.message);
      });
    }
  },
);

each("whoever speaks no TLS, and a signal, end a handshake", async (program) => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  for (const ending of ["words", "signal", "before"]) {
    const connecting = program.connect({ hostname: "127.0.0.1", port, signal: never });
    using peer = await listener.accept();
    const plain = await connecting;
    const stop = new AbortController();
    if (ending === "before") stop.abort(new Error("enough"));
    const secured = program.startTls(plain, {
      hostname: "localhost",
      caCerts: [],
      signal: stop.signal,
    });
    const failed = assert.rejects(secured, ending === "words" ? Error : { message: "enough" });
    if (ending !== "before") await peer.read(new Uint8Array(1000));
    if (ending === "words") await peer.write(new TextEncoder().encode("HTTP/1.1 400 No\r\n\r\n"));
    else stop.abort(new Error("enough"));
    await failed;
    if (ending === "before" && program.name !== "deno") plain.close();
  }
});
