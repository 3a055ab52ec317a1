import assert from "node:assert/strict";
import fc from "fast-check";
import { ValidationError } from "../../../src/errors.ts";
import { parseAddress } from "../../../src/http/address.ts";
import { findProxy } from "../../../src/http/proxy.ts";

const server = parseAddress("http://server:1");

Deno.test("a proxy's user and password are sent as they are, in UTF-8", () => {
  const part = fc.string({ unit: "grapheme", minLength: 1 });
  fc.assert(
    fc.property(part, part, (user, password) => {
      const login = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`;
      const { headers } = findProxy(server, `http://${login}@proxy:3128`)!;
      const [kind, key] = headers["proxy-authorization"]!.split(" ");
      const bytes = Uint8Array.from(atob(key!), (character) => character.charCodeAt(0));
      assert.equal(kind, "Basic");
      assert.equal(new TextDecoder().decode(bytes), `${user}:${password}`);
    }),
  );
});

Deno.test("whatever is given as a proxy, an error is one of ours and does not tell the password", () => {
  const text = fc.oneof(
    fc.string(),
    fc.string({ unit: "binary" }).map((login) => `http://u:secret${login}@proxy:3128`),
    fc.constantFrom("http://u:secret%@proxy", "http://%ff:secret@proxy", "ftp://u:secret@proxy"),
  );
  fc.assert(
    fc.property(text, (proxy) => {
      try {
        findProxy(server, proxy);
      } catch (error) {
        assert.ok(error instanceof ValidationError, Deno.inspect(error));
        assert.doesNotMatch(error.message, /secret/);
      }
    }),
  );
});
