/** Who may push: protocol, version and key, before anything else is read. */
import assert from "node:assert/strict";
import { TrainerLink } from "../../../src/trainer/mod.ts";
import { encodeHead } from "../../../src/trainer/frames.ts";
import { FakeClock, until } from "../../_support/clock.ts";
import { HELLO, RawTrainer } from "../../_support/raw_trainer.ts";

const AT = "tcp:127.0.0.1:0";

Deno.test("a trainer with the key is let in, one with another or none is told why not", async () => {
  await using link = await TrainerLink.listen(AT, { key: "open sesame" });
  using good = await RawTrainer.greeted(link.address, { key: "open sesame", name: "good" });
  await until(() => link.trainers.length === 1);
  assert.deepEqual(link.trainers, [{ name: "good", way: "socket", why: "a test" }]);
  for (const key of ["open sesam", ""]) {
    await assert.rejects(
      RawTrainer.greeted(link.address, { key }),
      /refused: trainer raw has another key than this link; give both sides the same/,
    );
  }
  assert.equal(link.trainers.length, 1);
  await good.say({ type: "bye" });
});

Deno.test("another protocol, another version and an unfinished hello are refused by name", async () => {
  await using link = await TrainerLink.listen(AT);
  for (
    const [hello, code, words] of [
      [{ ...HELLO, protocol: "http" }, "protocol", /does not speak sglang-rl.trainer/],
      [{ ...HELLO, versions: [2, 3] }, "version", /speaks versions \[2,3\].*this side 1/],
      [{ ...HELLO, versions: 1 }, "version", /speaks versions 1 of/],
      [{ ...HELLO, nonce: "short" }, "protocol", /lacks a name, a nonce or ways/],
      [{ ...HELLO, name: "a\nb" }, "protocol", /lacks a name/],
      [{ ...HELLO, ways: "socket" }, "protocol", /lacks a name/],
      [{ type: "push" }, "protocol", /expected the message "hello"/],
    ] as const
  ) {
    using trainer = await RawTrainer.connect(link.address);
    await trainer.say(hello);
    const told = await trainer.hear();
    assert.deepEqual([told.type, told.code], ["refused", code]);
    assert.match(String(told.message), words);
    assert.ok(await trainer.isClosed());
  }
});

Deno.test("a way that was not offered is refused", async () => {
  await using link = await TrainerLink.listen(AT, { ways: ["socket"] });
  using trainer = await RawTrainer.connect(link.address);
  await trainer.say({ ...HELLO, ways: ["shm", "socket"] });
  const { nonce } = await trainer.hear();
  const { proofOf } = await import("../../../src/trainer/greeting.ts");
  const nonces = { client: HELLO.nonce, server: String(nonce) };
  await trainer.say({ type: "proof", proof: proofOf("", "client", nonces) });
  const welcome = await trainer.hear();
  assert.equal(welcome.proof, proofOf("", "server", nonces));
  assert.deepEqual(welcome.ways, ["socket"]);
  assert.deepEqual(welcome.without, { shm: "the link does not allow it" });
  await trainer.say({ type: "way", way: "shm", why: "" });
  assert.match(String((await trainer.hear()).message), /chose a way not offered/);
});

Deno.test("bytes of another protocol and an endless hello end the connection", async () => {
  await using link = await TrainerLink.listen(AT);
  for (
    const bytes of [
      new TextEncoder().encode("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
      encodeHead({ kind: 1, push: 0, length: 1e15 }),
      encodeHead({ kind: 1, push: 0, length: 65 * 1024 }),
      encodeHead({ kind: 2, push: 0, length: 5 }),
    ]
  ) {
    using trainer = await RawTrainer.connect(link.address);
    await trainer.write(bytes);
    // It may be told why before the end.
    while (!await trainer.isClosed()) { /* reads on */ }
  }
  using good = await RawTrainer.greeted(link.address);
  await good.say({ type: "bye" });
});

Deno.test("who says nothing is let go at the deadline", async () => {
  const clock = new FakeClock();
  await using link = await TrainerLink.listen(AT, { clock, greetingMs: 700 });
  using trainer = await RawTrainer.connect(link.address);
  await until(() => clock.pending > 0);
  await clock.advance(700);
  assert.ok(await trainer.isClosed());
});

Deno.test("an address that others reach needs a key; bad addresses and options are refused", async () => {
  for (
    const [address, options, words] of [
      ["tcp:0.0.0.0:0", {}, /give a trainer link there a key/],
      ["tcp:127.example.org:0", {}, /give a trainer link there a key/],
      ["unix:relative", {}, /needs an absolute path/],
      [`unix:/${"x".repeat(200)}`, {}, /at most 107 bytes/],
      ["http://127.0.0.1:1", {}, /is "unix:\/path" or "tcp:host:port", not/],
      ["tcp:127.0.0.1:70000", {}, /not "tcp:127.0.0.1:70000"/],
      [AT, { key: "" }, /must not be empty/],
      [AT, { ways: [] }, /are some of/],
      [AT, { ringBytes: -1 }, /ringBytes of a trainer link must be a positive whole number/],
      [AT, { rings: 1 } as object, /Unknown option "rings" of a trainer link/],
    ] as const
  ) {
    await assert.rejects(TrainerLink.listen(address, options), {
      code: "validation",
      message: words,
    });
  }
});

Deno.test("a second link at the same address is refused by name", async () => {
  await using link = await TrainerLink.listen(AT);
  await assert.rejects(
    TrainerLink.listen(link.address),
    { code: "state", message: /Somebody else listens at tcp:127.0.0.1:/ },
  );
});
