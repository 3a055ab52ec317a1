/** Lint rules of this project: native code is opened under `ffi/` only. */
const plugin: Deno.lint.Plugin = {
  name: "sglang-rl",
  rules: {
    "dlopen-in-ffi-only": {
      create(context) {
        if (/\/(ffi|tests|bench|scripts)\//.test(context.filename)) return {};
        return {
          'MemberExpression[object.name="Deno"][property.name="dlopen"]'(node) {
            context.report({ node, message: "Deno.dlopen belongs under ffi/" });
          },
        };
      },
    },
  },
};

export default plugin;
