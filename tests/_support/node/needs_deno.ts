/** Tests of the suites for Node that need Deno, by their sentences; each group says why. */
export const needsDeno: ReadonlySet<string> = new Set([
  // Only Deno has permissions.
  "a denied permission names the flag to add",
  // They put something in the place of calls of Deno, or ask its server who calls.
  "a client with no idle connections leaves none open after its answer",
  "connections are used again after a whole answer, and not after half of one",
  "a call that is aborted at any moment after connecting leaves no connection open",
  // It wants a server that answers what is no TLS with an alert of TLS; Node's closes the connection.
  "https to a server without it, and http to one with it, say which it is",
  // Node makes one piece of those that have come, so that a body in crumbs costs it nothing.
  "a body in crumbs is refused, however small it is",
  // They kill a program that is run by Deno.
  "a run with rows in a file that is killed ten times at random has each task exactly once",
  "a run with a saved replay buffer that is killed ten times at random has each task exactly once",
  // They push weights by gloo.
  "every token has the version of the sync that made it (as 0.5.16, pause abort)",
  "every token has the version of the sync that made it (as 0.5.23, pause retract)",
  "every token has the version of the sync that made it (as 0.5.16, pause retract)",
]);
