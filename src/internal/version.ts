/** Version of the package, as in deno.json and python/pyproject.toml (a test holds them equal). */
export const version = "0.2.0";
