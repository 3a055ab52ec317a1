import assert from "node:assert/strict";
import { ProtocolError } from "../../../src/errors.ts";
import { defaultStoreLimits } from "../../../src/rendezvous/limits.ts";
import type { StoreRequest } from "../../../src/rendezvous/request.ts";
import { StoreSession } from "../../../src/rendezvous/session.ts";
import { KeyTable } from "../../../src/rendezvous/table.ts";
import { concat, encodeRequest, utf8 } from "./_encode.ts";

class Talk {
  readonly answers: Uint8Array[] = [];
  readonly session: StoreSession;

  constructor(readonly table: KeyTable, limits = defaultStoreLimits) {
    this.session = new StoreSession(table, {
      limits,
      reply: (answer) => this.answers.push(answer),
    });
  }

  say(...requests: StoreRequest[]): number[][] {
    this.answers.length = 0;
    this.session.push(concat(...requests.map(encodeRequest)));
    while (this.session.step());
    return this.answers.map((answer) => [...answer]);
  }
}

function begin(limits = defaultStoreLimits): Talk {
  const talk = new Talk(new KeyTable(limits), limits);
  talk.say({ op: "validate" });
  return talk;
}

const i64 = (value: number) => [...new Uint8Array(BigInt64Array.of(BigInt(value)).buffer)];
const framed = (text: string) => [...i64(text.length), ...utf8(text)];

Deno.test("each request is answered with the bytes that torch's server gives", () => {
  const talk = begin();
  assert.deepEqual(talk.say({ op: "ping", nonce: Uint8Array.of(9, 8, 7, 6) }), [[9, 8, 7, 6]]);
  assert.deepEqual(talk.say({ op: "set", key: "/a", value: utf8("hello") }), []);
  assert.deepEqual(talk.say({ op: "get", key: "/a" }), [framed("hello")]);
  assert.deepEqual(
    talk.say({ op: "append", key: "/a", value: utf8("!") }, { op: "get", key: "/a" }),
    [framed("hello!")],
  );
  assert.deepEqual(
    talk.say({ op: "add", key: "/n", delta: 5n }, { op: "add", key: "/n", delta: -7n }),
    [i64(5), i64(-2)],
  );
  assert.deepEqual(talk.say({ op: "get", key: "/n" }), [framed("-2")]);
  assert.deepEqual(talk.say({ op: "check", keys: ["/a", "/n"] }, { op: "check", keys: ["/z"] }), [[
    0,
  ], [1]]);
  assert.deepEqual(talk.say({ op: "wait", keys: ["/a", "/n"] }), [[0]]);
  assert.deepEqual(talk.say({ op: "getNumKeys" }), [i64(2)]);
  assert.deepEqual(talk.say({ op: "deleteKey", key: "/a" }, { op: "deleteKey", key: "/a" }), [
    i64(1),
    i64(0),
  ]);
  assert.deepEqual(
    talk.say({ op: "multiSet", entries: [["/p", utf8("1")], ["/q", utf8("22")]] }),
    [],
  );
  assert.deepEqual(talk.say({ op: "multiGet", keys: ["/q", "/p"] }), [[
    ...framed("22"),
    ...framed("1"),
  ]]);
  assert.deepEqual(talk.say({ op: "cancelWait" }), [[1]]);
});

Deno.test("a compare-and-set stores only where the value is as expected", () => {
  const talk = begin();
  const compareSet = (expected: string, desired: string) =>
    talk.say({ op: "compareSet", key: "/c", expected: utf8(expected), desired: utf8(desired) })[0];
  assert.deepEqual(compareSet("x", "y"), framed("x"));
  assert.equal(talk.table.has("/c"), false);
  assert.deepEqual(compareSet("", "one"), framed("one"));
  assert.deepEqual(compareSet("two", "three"), framed("one"));
  assert.deepEqual(compareSet("one", "four"), framed("four"));
});

Deno.test("a wait is answered when its last key appears, once", () => {
  const talk = begin();
  assert.deepEqual(talk.say({ op: "wait", keys: ["/a", "/b", "/a"] }), []);
  talk.table.set("/a", utf8("1"));
  assert.deepEqual(talk.answers, []);
  talk.table.set("/b", utf8("1"));
  talk.table.set("/b", utf8("2"));
  assert.deepEqual(talk.answers, [Uint8Array.of(0)]);
});

Deno.test("a wait is forgotten when it is cancelled or its client goes", () => {
  const talk = begin();
  talk.say({ op: "wait", keys: ["/a"] });
  assert.equal(talk.table.waiting, 1);
  assert.deepEqual(talk.say({ op: "cancelWait" }), [[1]]);
  assert.equal(talk.table.waiting, 0);
  talk.say({ op: "wait", keys: ["/a", "/b"] });
  talk.session.close();
  assert.equal(talk.table.waiting, 0);
  talk.table.set("/a", utf8("1"));
  assert.deepEqual(talk.answers, []);
});

Deno.test("a missing key is made on demand, for a get, a wait and a check, once", () => {
  const talk = begin();
  const asked: string[] = [];
  talk.table.onMissing((key) => {
    asked.push(key);
    return key === "/id" ? utf8("made") : undefined;
  });
  assert.deepEqual(talk.say({ op: "check", keys: ["/other"] }), [[1]]);
  assert.deepEqual(talk.say({ op: "wait", keys: ["/id"] }), [[0]]);
  assert.deepEqual(talk.say({ op: "get", key: "/id" }), [framed("made")]);
  assert.deepEqual(asked, ["/other", "/id"]);
});

const offences: ReadonlyArray<[string, StoreRequest[], RegExp]> = [
  ["a get of a missing key", [{ op: "get", key: "/none" }], /missing key "\/none"/],
  ["an add to what is no number", [{ op: "set", key: "/t", value: utf8("12x") }, {
    op: "add",
    key: "/t",
    delta: 1n,
  }], /not a number/],
  ["an add to a number of a thousand digits", [{
    op: "set",
    key: "/t",
    value: utf8("1".repeat(1000)),
  }, { op: "add", key: "/t", delta: 1n }], /not a number/],
  [
    "a request while a wait is open",
    [{ op: "wait", keys: ["/t"] }, { op: "getNumKeys" }],
    /while a WAIT is open/,
  ],
];

for (const [what, requests, message] of offences) {
  Deno.test(`${what} ends that conversation and harms no other`, () => {
    const table = new KeyTable(defaultStoreLimits);
    const bad = new Talk(table);
    const good = new Talk(table);
    good.say({ op: "validate" }, { op: "set", key: "/good", value: utf8("1") });
    assert.throws(
      () => bad.say({ op: "validate" }, ...requests),
      (error) => error instanceof ProtocolError && message.test(error.message),
    );
    bad.session.close();
    assert.deepEqual(good.say({ op: "get", key: "/good" }), [framed("1")]);
  });
}

Deno.test("nothing is answered to a client that did not say first that it speaks the protocol", () => {
  const talk = new Talk(new KeyTable(defaultStoreLimits));
  assert.throws(() => talk.say({ op: "getNumKeys" }), /before VALIDATE/);
});

Deno.test("the limits on keys, values and stored bytes hold over all requests", () => {
  const limits = { ...defaultStoreLimits, maxKeys: 3, maxStoredBytes: 60, maxValueBytes: 20 };
  const fill: StoreRequest[] = ["/a", "/b", "/c"].map((key) => ({
    op: "set",
    key,
    value: utf8("0123456789"),
  }));
  assert.throws(
    () => begin(limits).say(...fill, { op: "set", key: "/d", value: utf8("") }),
    /more than 3 keys/,
  );
  assert.throws(
    () => begin(limits).say(...fill, { op: "append", key: "/a", value: utf8("0123456789X") }),
    /value of 21 bytes/,
  );
  const wide = { ...limits, maxValueBytes: 100 };
  assert.throws(
    () => begin(wide).say(...fill, { op: "set", key: "/a", value: new Uint8Array(40) }),
    /more than 60 bytes/,
  );
});

Deno.test("deleting and replacing give stored bytes back", () => {
  const talk = begin();
  talk.say({ op: "set", key: "/é", value: new Uint8Array(100) });
  assert.equal(talk.table.storedBytes, 103);
  talk.say({ op: "set", key: "/é", value: new Uint8Array(7) });
  assert.equal(talk.table.storedBytes, 10);
  talk.say({ op: "deleteKey", key: "/é" });
  assert.equal(talk.table.storedBytes, 0);
});

Deno.test("an answer longer than the limit is refused although each value is short", () => {
  const talk = begin({ ...defaultStoreLimits, maxMessageBytes: 1000 });
  talk.say({ op: "set", key: "/v", value: new Uint8Array(400) });
  assert.throws(() => talk.say({ op: "multiGet", keys: ["/v", "/v", "/v"] }), /answer is longer/);
});
