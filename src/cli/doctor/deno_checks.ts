/** Deno's version and permissions. */
import { broken, type Finding, fine, note } from "./finding.ts";

/** Oldest Deno that the library was tested with. */
const oldestDeno = [2, 9] as const;

/** The version of Deno. */
export function checkDeno(): Finding {
  const { deno } = Deno.version;
  const [major = 0, minor = 0] = deno.split(".").map(Number);
  const isOld = major < oldestDeno[0] || (major === oldestDeno[0] && minor < oldestDeno[1]);
  const wanted = oldestDeno.join(".");
  return isOld
    ? broken("Deno", `${deno} is older than ${wanted}`, `deno upgrade ${wanted}.6`)
    : fine("Deno", deno);
}

const permissions: readonly (readonly [Deno.PermissionDescriptor, string, string])[] = [
  [{ name: "net", host: "127.0.0.1" }, "--allow-net=127.0.0.1", "to talk to servers"],
  [{ name: "read" }, "--allow-read", "to read checkpoints and tokenizers"],
  [{ name: "run" }, "--allow-run=python3", "to start servers"],
  [{ name: "env" }, "--allow-env", "to read SGLANG_API_KEY and SGLANG_PYTHON"],
  [{ name: "ffi" }, "--allow-ffi", "to push weights by NCCL"],
];

/** What this process may do. Nothing is broken by a missing permission that nobody needs. */
export async function checkPermissions(): Promise<Finding[]> {
  return await Promise.all(permissions.map(async ([descriptor, flag, purpose]) => {
    const { state } = await Deno.permissions.query(descriptor);
    const what = `permission ${descriptor.name}`;
    return state === "granted"
      ? fine(what, "granted")
      : note(what, `not granted (or only in part); it is needed ${purpose}`, `add ${flag}`);
  }));
}
