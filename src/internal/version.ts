/** Version of the package, as in deno.json (a test holds them equal). */
export const version = "0.1.0";
