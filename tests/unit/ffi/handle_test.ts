import { deepEqual, equal, throws } from "node:assert/strict";
import { StateError } from "../../../src/errors.ts";
import { DeviceBuffer } from "../../../ffi/cudart/handles.ts";
import { OwnedHandle, setLeakReporter } from "../../../ffi/handle.ts";

class Thing extends OwnedHandle {
  readonly released: bigint[] = [];
  constructor(address: bigint) {
    super("thing", address);
  }
  protected override release(address: bigint): void {
    this.released.push(address);
  }
}

Deno.test("an owned thing is freed once and refuses use after that", () => {
  const thing = new Thing(77n);
  {
    using held = thing;
    equal(held.address, 77n);
    equal(held.freed, false);
  }
  thing[Symbol.dispose]();
  deepEqual(thing.released, [77n]);
  equal(thing.freed, true);
  throws(() => thing.address, (error: Error) => {
    return error instanceof StateError && /thing was used after it was freed/.test(error.message);
  });
});

Deno.test("a thing that someone else has freed is not freed again", () => {
  const thing = new Thing(1n);
  thing.disown();
  thing[Symbol.dispose]();
  deepEqual(thing.released, []);
});

Deno.test("a device buffer gives its address to the function that frees it", () => {
  const freed: bigint[] = [];
  const buffer = new DeviceBuffer(4096n, 10, (address) => freed.push(address));
  buffer[Symbol.dispose]();
  deepEqual(freed, [4096n]);
  throws(() => buffer.address, /device buffer of 10 bytes/);
});

Deno.test("the reporter of leaks can be set and put back", () => {
  const mine = () => {};
  const former = setLeakReporter(mine);
  equal(setLeakReporter(former), mine);
});
