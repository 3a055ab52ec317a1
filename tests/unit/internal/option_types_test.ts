/** The names of every exported type of options stand in a table, by which they are checked. */
import { deepEqual, ok } from "node:assert/strict";
import { filesUnder } from "../../../scripts/files.ts";

const root = new URL("../../../", import.meta.url);
const read = (path: string) => Deno.readTextFile(new URL(path, root));

/** Types without a table of their own, and why. */
const others: Readonly<Record<string, string>> = {
  EngineOptions: "in the tables of ConnectOptions and FromPretrainedOptions, which extend it",
  GenerateOptions: "sorted into fields and options by the table of fields, which refuses the rest",
  WeightSyncOptions: "in the table of GivenOptions, which holds the fields of all its variants",
  TransportOptions: "given by a sender to a transport, not by a user",
  RequestOptions: "names fields of a request, which are checked with them",
  ConvertSamplingOptions: "has its second argument from a client",
  OnlyOptions: "a type that is computed of the options of a wrapper",
  OutputOptions: "a part of the options of a wrapper",
  TemplateChatModelOptions: "takes all settings of a wrapper, of which it uses some",
  TaskOptions: "a part of the options of environments",
  RecordedChatModelCallOptions: "checked by LangChain, which adds options of its own",
  SignalOptions: "one signal, which those who call a model of chats hand on with more",
  ReadOptions: "one signal, which those who call a model or a checkpoint hand on with more",
  EncodeOptions: "of tokenizers, which users write and may give options of their own",
  DecodeOptions: "of tokenizers, which users write and may give options of their own",
  PrepareOptions: "of turns: handed on from function to function with more",
  ReadAnswerOptions: "of readers of answers, which users write; handed on with more",
  ChatTemplateOptions: "of conversions of chats: handed on from function to function with more",
  ConversionOptions: "of conversions of chats: handed on from function to function with more",
  ChangeOptions: "one yes or no of a change of a history",
  PadOptions: "of columns, which are padded together by the options of one of them",
};

Deno.test("every exported type of options has a table of its names", async () => {
  const { exports } = JSON.parse(await read("deno.json")) as { exports: Record<string, string> };
  const types = new Set<string>();
  for (const path of Object.values(exports)) {
    for (const [name] of (await read(path)).matchAll(/\b[A-Z]\w*Options\b/g)) types.add(name);
  }
  ok(types.size > 80, `${types.size} types are found`);
  const folders = await Promise.all(
    ["src", "ffi"].map((folder) => new URL(folder, root).pathname)
      .map((folder) => filesUnder(folder, ".ts")),
  );
  const sources = await Promise.all(folders.flat().map((path) => Deno.readTextFile(path)));
  const checked = new Set(
    sources.flatMap((text) => [...text.matchAll(/OptionNames<(\w+)/g)].map(([, name]) => name!)),
  );
  const unchecked = [...types].filter((name) => !checked.has(name)).sort();
  deepEqual(unchecked, Object.keys(others).sort(), "add a table, or say here why there is none");
});
