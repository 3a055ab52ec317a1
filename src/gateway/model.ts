import type { SamplingInput } from "../client/types.ts";
import { convertSamplingParams, isUnderGrammar, mergeSampling } from "../client/sampling_params.ts";
import type { RLSGLangEngine } from "../engine/engine.ts";
import { ContextOverflowError, HttpError, StateError } from "../errors.ts";
import { messageOf } from "../internal/thrown.ts";
import type { TemplateChatModel } from "../policy/wrapper/chat_model.ts";
import { ContextLimit, newTokensOf } from "../policy/wrapper/context_limit.ts";
import type { AnySGLangWrapper } from "../policy/wrapper/sglang_wrapper.ts";
import type { ChatModel } from "../rollout/chat_model.ts";
import type { Asked } from "./asked.ts";
import { hidesAnyMark, RememberingReader } from "./shown_answer.ts";
import {
  callsOrFormat,
  callsOrWhole,
  readRequiredCalls,
  readWhole,
  requiredCalls,
} from "./grammars.ts";
import { RecentMap } from "../internal/recent_map.ts";
import { PiecewiseTokenizer } from "../rollout/piecewise_tokenizer.ts";
import { GatewayRefusal } from "./fault.ts";
import { textModel } from "./text_model.ts";

/** An engine that knows adapters. */
type EngineWithAdapters = RLSGLangEngine & {
  readonly adapters?: { resolve(lora: string): string } | undefined;
};

/** Sets of tools whose templates are kept ready, and the memory for them: a set may be megabytes. */
const KEPT_SETTINGS = 128, SETTINGS_BYTES = 64 * 2 ** 20;

/** What turns of one model with one set of tools are made with. */
export interface ChatSetting {
  /** Renders conversations and reads answers. */
  readonly model: ChatModel;
  /** Remembers how answers were read. */
  readonly reader: RememberingReader;
  /** Whether a server leaves marks of calls or thoughts out of texts. */
  readonly hidesMarks: boolean;
  /** Whether all that is sampled is said: nothing in it is a thought or a call. */
  readonly isBare: boolean;
}

/** How answers are read: as the model writes, as a list of calls, as that or not at all. */
type Reading = "free" | "calls" | "callsOrWhole" | "whole";

/** Whether an answer may call tools, and need not. */
function mayCall({ toolChoice, tools }: Pick<Asked, "toolChoice" | "tools">): boolean {
  return toolChoice === "auto" && tools.length > 0;
}

function readingOf(asked: Asked): Reading {
  const { toolChoice, grammar } = asked;
  if (toolChoice === "required" || typeof toolChoice === "object") return "calls";
  if (grammar === null) return "free";
  return mayCall(asked) ? "callsOrWhole" : "whole";
}

/** A policy under the name that agents ask for. */
export class GatewayModel {
  /** The name. */
  readonly name: string;
  readonly #wrapper: AnySGLangWrapper;
  readonly #defaultMaxTokens: number;
  readonly #settings = new RecentMap<Promise<ChatSetting>>(
    SETTINGS_BYTES,
    () => SETTINGS_BYTES / KEPT_SETTINGS,
  );
  #tokenizer: Promise<PiecewiseTokenizer> | undefined;
  readonly #limit = new ContextLimit();
  readonly #hasOwnGrammar: boolean;
  #seeds: boolean | undefined;

  constructor(name: string, wrapper: AnySGLangWrapper, options: { defaultMaxTokens: number }) {
    this.name = name;
    this.#wrapper = wrapper;
    this.#defaultMaxTokens = options.defaultMaxTokens;
    const { samplingParams } = convertSamplingParams(wrapper.options.generateKwargs ?? {});
    this.#hasOwnGrammar = isUnderGrammar(samplingParams);
  }

  /** The engine behind it. */
  engine(): Promise<RLSGLangEngine> {
    return this.#wrapper.engine();
  }

  /** What turns of a request are made with. */
  setting(asked: Asked): Promise<ChatSetting> {
    const { input, tools, toolChoice, variables } = asked;
    const reading = readingOf(asked);
    const key = JSON.stringify([
      input.kind === "chat",
      tools,
      reading,
      toolChoice === "none",
      variables,
    ]);
    const known = this.#settings.get(key);
    if (known !== undefined) return known;
    const made = input.kind === "chat"
      ? this.#makeChat(toolChoice === "none" ? [] : tools, { variables, reading })
      : this.#makeText();
    this.#settings.set(key, made);
    made.catch(() => this.#settings.delete(key));
    return made;
  }

  /**
   * How to sample a request: its own parameters, and the policy's where it gives none.
   *
   * @throws {GatewayRefusal} It wants a grammar, and a server of the engine has none.
   */
  sampling(
    request: Asked,
    { workers }: Pick<RLSGLangEngine, "workers">,
  ): SamplingInput {
    const { sampling, tools, toolChoice, grammar } = request;
    if (grammar !== null) requireGrammars(workers, grammar);
    const { generateKwargs = {} } = this.#wrapper.options;
    const own = mergeSampling({ maxNewTokens: this.#defaultMaxTokens }, generateKwargs);
    const asked = mergeSampling(own, sampling);
    const { jsonSchema } = sampling;
    if (mayCall(request) && typeof jsonSchema === "object") {
      return mergeSampling(asked, { jsonSchema: callsOrFormat(tools, jsonSchema) });
    }
    if (toolChoice === "auto" || toolChoice === "none") return asked;
    const name = toolChoice === "required" ? null : toolChoice.name;
    return mergeSampling(asked, { jsonSchema: requiredCalls(tools, name) });
  }

  /** Whether an answer has its form by a grammar, of the request or of the policy. */
  hasGrammar({ grammar }: Asked): boolean {
    return grammar !== null || this.#hasOwnGrammar;
  }

  /** Fields of each request besides how to sample. */
  get requestOptions(): NonNullable<AnySGLangWrapper["options"]["requestOptions"]> {
    return this.#wrapper.options.requestOptions ?? {};
  }

  /**
   * The version of its adapter that answers now; the adapter's own name where another than this
   * library loaded it, and `null` for a model without one.
   */
  async adapterVersion(): Promise<string | null> {
    const { lora } = this.requestOptions;
    if (lora === undefined) return null;
    const engine = await this.engine();
    try {
      return (engine as EngineWithAdapters).adapters?.resolve(lora) ?? lora;
    } catch {
      // No version of it is there, or not any more.
      return lora;
    }
  }

  /** Whether a seed counts: some server is deterministic. */
  async takesSeeds(): Promise<boolean> {
    if (this.#seeds !== undefined) return this.#seeds;
    const { workers } = await this.engine();
    return this.#seeds = workers.some((worker) =>
      (worker as { readonly deterministic?: boolean }).deterministic === true
    );
  }

  /**
   * Runs a call with as many new tokens as the context has room for.
   *
   * @throws {ContextOverflowError} There is no room for any.
   */
  async fitting<T>(
    promptTokens: number,
    sampling: SamplingInput,
    call: (sampling: SamplingInput, maxNewTokens: number) => Promise<T>,
  ): Promise<T> {
    const wanted = newTokensOf(sampling);
    const limit = await this.#wrapper.promptLimit();
    if (promptTokens > limit) throw new ContextOverflowError({ promptTokens, limit });
    const send = () => {
      const fewer = this.#limit.fit(promptTokens, wanted);
      return fewer === null
        ? call(sampling, wanted.maxNewTokens)
        : call(mergeSampling(sampling, fewer), fewer.maxNewTokens);
    };
    try {
      return await send();
    } catch (error) {
      if (!this.#limit.learn(error)) throw this.#named(error);
      return await send();
    }
  }

  /** The lack of an adapter as the lack of the model that it is here. */
  #named(error: unknown): unknown {
    const { lora } = this.requestOptions;
    const isLack = (error instanceof StateError && /adapter/.test(error.message)) ||
      (error instanceof HttpError && error.status === 400 && /LoRA/i.test(error.serverMessage));
    if (lora === undefined || !isLack) return error;
    return new GatewayRefusal(
      `The model "${this.name}" is the adapter "${lora}", which no server has: ${messageOf(error)}`,
      { status: 404, reason: "model_not_found", param: "model", cause: error },
    );
  }

  async #makeChat(
    tools: Asked["tools"],
    { variables, reading }: { variables: Asked["variables"]; reading: Reading },
  ): Promise<ChatSetting> {
    const { options } = this.#wrapper;
    const readers = {
      free: options.readAnswer,
      calls: readRequiredCalls,
      callsOrWhole: callsOrWhole(tools),
      whole: readWhole,
    };
    const reader = new RememberingReader(readers[reading]);
    const version = this.#wrapper.getNewVersion({
      inplace: false,
      numSamples: undefined,
      readAnswer: reader.read,
      tokenizer: await this.#sharedTokenizer(),
      tokenizerKwargs: {
        ...options.tokenizerKwargs,
        ...variables,
        ...(tools.length === 0 ? {} : { tools }),
      },
    });
    const model: TemplateChatModel = await version.chatModel();
    const hidesMarks = reading.startsWith("calls") || await hidesAnyMark(model.tokenizer);
    return { model: inSlices(model), reader, hidesMarks, isBare: reading === "whole" };
  }

  /** One for all sets of tools: what it remembers is bounded once. */
  #sharedTokenizer(): Promise<PiecewiseTokenizer> {
    const known = this.#tokenizer;
    if (known !== undefined) return known;
    const made = this.#wrapper.tokenizer().then((inner) => new PiecewiseTokenizer(inner));
    this.#tokenizer = made;
    made.catch(() => this.#tokenizer = undefined);
    return made;
  }

  async #makeText(): Promise<ChatSetting> {
    const model = textModel(await this.#wrapper.tokenizer());
    return { model, reader: new RememberingReader(undefined), hidesMarks: false, isBare: true };
  }
}

/**
 * The same, rendered in slices. Which tokens of a start assistants wrote is not looked for: an answer's
 * row has what was sampled, and the rest is its prompt.
 */
function inSlices(model: TemplateChatModel): ChatModel {
  const { tokenizer } = model;
  return {
    tokenizer,
    render: (messages) => model.renderInSlices(messages),
    async begin(messages, options) {
      const text = await model.renderInSlices(messages, options);
      return { text, ids: await tokenizer.encode(text, options), assistantMask: null };
    },
    read: (sample, options) => model.read(sample, options),
  };
}

function requireGrammars(workers: RLSGLangEngine["workers"], field: string): void {
  const without = workers.find((worker) =>
    (worker as { readonly grammarBackend?: string | null }).grammarBackend === "none"
  );
  if (without === undefined) return;
  throw new GatewayRefusal(
    `"${field}" needs a grammar, and ${without.url} was started with --grammar-backend none, or on a ` +
      "CPU before SGLang 0.5.23, where a grammar ends it; " +
      "start it with xgrammar or llguidance, or leave the field out",
    { status: 400, reason: "unsupported", param: field },
  );
}
