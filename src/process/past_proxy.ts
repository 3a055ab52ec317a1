import { grantedEnv } from "../internal/permission.ts";

/**
 * Variables with which a program asks these hosts, and this machine, past a proxy of the environment.
 * SGLang asks itself over HTTP before it is ready, and the router its servers; both would ask the
 * proxy, which cannot reach them. What `no_proxy` excepts already stays, as far as Deno may read it.
 */
export function pastProxy(
  hosts: readonly string[],
  env: (name: string) => string | undefined = grantedEnv,
): Record<"no_proxy" | "NO_PROXY", string> {
  const before = (env("no_proxy") || env("NO_PROXY") || "").split(",");
  const all = [...before.map((entry) => entry.trim()), "localhost", "127.0.0.1", "::1", ...hosts];
  const value = [...new Set(all.filter((entry) => entry !== ""))].join(",");
  return { no_proxy: value, NO_PROXY: value };
}
