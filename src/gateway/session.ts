import { RolloutBatch } from "../collector/batch.ts";
import type { GenerationDelta } from "../client/types.ts";
import { AbortedError, StateError, ValidationError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { onlyGiven } from "../internal/option_names.ts";
import { Semaphore } from "../internal/semaphore.ts";
import { opensThoughts } from "../policy/answers/answer.ts";
import type { Message } from "../policy/message.ts";
import { endTurn } from "../rollout/turn.ts";
import type { AnswerHistory } from "./apis/response_items.ts";
import { type Asked, isLong } from "./asked.ts";
import { assistantMessage } from "./assistant_message.ts";
import { type ContinuedPrompt, EarlierTurns } from "./earlier_turns.ts";
import { eitherSignal } from "./either_signal.ts";
import { GatewayRefusal } from "./fault.ts";
import type { GatewaySession } from "./gateway_session.ts";
import { newId, newKey } from "./ids.ts";
import type { ChatSetting, GatewayModel } from "./model.ts";
import type { EndedSession, SessionEnd, SessionLimits, SessionOptions } from "./options.ts";
import type { RecordedTurn } from "./recorded_turn.ts";
import { rowsOf } from "./rows.ts";
import { cutShort, sampleAnswer, seeded } from "./sample_answer.ts";
import { showAnswer } from "./shown_answer.ts";
import { type Shown, TextGate } from "./text_gate.ts";

/** A part of an answer that can be shown while it is made. */
export interface AnswerPart {
  /** Which of the samples it belongs to. */
  readonly index: number;
  /** What can be shown of it. */
  readonly shown: Shown;
  /** The ids that were sampled in this step, with their log-probabilities. */
  readonly delta: GenerationDelta;
}

/** How a session answers. */
export interface AnswerOptions {
  /** Id of the answer. */
  readonly id: string;
  /** Told of parts of it, for a stream. */
  readonly onPart?: ((part: AnswerPart) => void) | undefined;
  /** Fires when the agent went away. */
  readonly signal: AbortSignal;
}

/** What a session is made of. */
export interface SessionParts {
  readonly number: number;
  readonly baseUrl: string;
  readonly limits: SessionLimits;
  readonly options: SessionOptions;
  readonly clock: Clock;
  /** Counted over all sessions. */
  readonly counts: { running: number; turns: number };
  readonly onEnd: (session: OpenSession, ended: EndedSession) => void;
}

/** A session that is open; {@linkcode GatewaySession} is what others see of it. */
export class OpenSession implements GatewaySession {
  /** Its id. */
  readonly id: string = newId("s");
  /** The key by which an agent is known. */
  readonly key: string = newKey("sk-session");
  /** What an agent takes as the base URL of the OpenAI API; `/v1` is its end. */
  readonly baseUrl: string;
  /** Resolves with its rows when it has ended. */
  readonly ended: Promise<EndedSession>;
  readonly #parts: SessionParts;
  /** Of each model its own: a conversation that another model goes on with begins anew. */
  readonly #earlier = new Map<GatewayModel, EarlierTurns>();
  readonly #turns: RecordedTurn[] = [];
  /** Answers by id, with the conversation as their agent saw it. */
  readonly #byId = new Map<string, { record: RecordedTurn; asked: readonly Message[] }>();
  readonly #byCall = new Map<string, RecordedTurn>();
  readonly #rewards = new Map<string, number>();
  readonly #ending = new AbortController();
  readonly #finished = Promise.withResolvers<EndedSession>();
  readonly #open = new Set<Promise<unknown>>();
  readonly #longPrompts = new Semaphore(1);
  #reading = 0;
  #reward = 0;
  #tokens = 0;
  #end: Promise<EndedSession> | undefined;
  #cancelIdle = () => {};
  readonly #cancelTime: () => void;

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.baseUrl = parts.baseUrl;
    this.ended = this.#finished.promise;
    const { clock, limits } = parts;
    this.#cancelTime = clock.schedule(limits.maxMs, () => void this.#finish("time"));
    this.#watchIdle();
  }

  /** Answers so far, in the order in which they ended. */
  get turns(): readonly RecordedTurn[] {
    return this.#turns;
  }

  /** Whether it has ended or is ending. */
  get isOver(): boolean {
    return this.#end !== undefined;
  }

  /** Answers that are under way. */
  get running(): number {
    return this.#open.size;
  }

  /**
   * Adds to the reward: of one answer where its id is given, else of the session, whose last row has
   * it. Given several times, it adds up.
   *
   * @throws {ValidationError} The number is not finite, or the answer is not of this session.
   * @throws {StateError} The session has ended.
   */
  reward(value: number, options: { readonly answer?: string | undefined } = {}): void {
    const { answer } = options;
    if (!Number.isFinite(value)) {
      throw new ValidationError(`A reward must be a finite number, got ${String(value)}`);
    }
    if (this.isOver) throw new StateError("The session has ended: its rows are given out");
    if (answer === undefined) {
      this.#reward += value;
      return;
    }
    if (!this.#turns.some(({ id }) => id === answer)) {
      throw new ValidationError(`The session has no answer "${answer}"`);
    }
    this.#rewards.set(answer, (this.#rewards.get(answer) ?? 0) + value);
  }

  /** Ends it, and gives its rows. Answers that are under way are ended first, and recorded. */
  end(): Promise<EndedSession> {
    return this.#finish("ended");
  }

  /** Gives it up. Its rows are told all the same, marked as truncated. */
  abort(): Promise<EndedSession> {
    return this.#finish("aborted");
  }

  /** Ends it because the gateway closes. */
  close(): Promise<EndedSession> {
    return this.#finish("closed");
  }

  /** Gives it up, if it has not ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.abort();
  }

  /** What APIs may ask of what was recorded. */
  readonly history: AnswerHistory = {
    conversation: (id) => {
      const found = this.#byId.get(id);
      return found === undefined ? null : [...found.asked, assistantMessage(found.record.shown)];
    },
    answer: (id) => this.#byId.get(id)?.record ?? null,
    answerOfCall: (callId) => this.#byCall.get(callId) ?? null,
  };

  /**
   * Lets a request in that is not answered yet, until its place is disposed of: before its answer.
   *
   * @throws {GatewayRefusal} As many as may be are under way already.
   */
  enter(): Disposable {
    this.#refuseMore(this.#reading + this.#open.size);
    this.#reading++;
    let held = 1;
    return {
      [Symbol.dispose]: () => {
        this.#reading -= held;
        held = 0;
      },
    };
  }

  /** How many ids the prompt of a request has. */
  async countTokens(asked: Asked, model: GatewayModel, signal: AbortSignal): Promise<number> {
    this.#refuseBeyond(0);
    using either = eitherSignal(signal, this.#ending.signal);
    const setting = await model.setting(asked);
    const { prompt } = await this.#prompt(asked, model, { setting, signal: either.signal });
    return prompt.ids.length;
  }

  /** The rows so far. */
  batch(): RolloutBatch {
    const rows = this.#rows(false);
    return new RolloutBatch({ rows, shape: [rows.length] });
  }

  /**
   * Answers a request, and records each sample as a turn.
   *
   * @throws {GatewayRefusal} The session is over, or has used what it may.
   */
  async answer(
    asked: Asked,
    model: GatewayModel,
    options: AnswerOptions,
  ): Promise<readonly RecordedTurn[]> {
    this.#refuseBeyond(asked.samples);
    this.#cancelIdle();
    const answering = this.#answer(asked, model, options);
    this.#open.add(answering);
    this.#parts.counts.running++;
    try {
      return await answering;
    } finally {
      this.#parts.counts.running--;
      this.#open.delete(answering);
      this.#watchIdle();
    }
  }

  async #answer(
    asked: Asked,
    model: GatewayModel,
    { id, onPart, signal }: AnswerOptions,
  ): Promise<readonly RecordedTurn[]> {
    using either = eitherSignal(signal, this.#ending.signal);
    const leave = either.signal;
    const stamp = this.#parts.options.versions?.currentIndex ?? null;
    const [setting, engine] = await Promise.all([model.setting(asked), model.engine()]);
    const { prompt, parent } = await this.#prompt(asked, model, { setting, signal: leave });
    const sampling = model.sampling(asked, engine);
    const isThinking = opensThoughts(prompt.text);
    const one = async (index: number): Promise<RecordedTurn> => {
      const gate = new TextGate({
        isThinking,
        hasTools: asked.tools.length > 0,
        holdsAll: setting.hidesMarks || asked.topLogProbs > 0,
      });
      const said = { content: "", reasoning: "" };
      const onDelta = onPart && ((delta: GenerationDelta) => {
        const shown = setting.isBare
          ? { content: delta.text, reasoning: "" }
          : gate.push(delta.text);
        said.content += shown.content;
        said.reasoning += shown.reasoning;
        onPart({ index, shown, delta });
      });
      const generation = await model.fitting(
        prompt.ids.length,
        sampling,
        (fitting, maxNewTokens) =>
          sampleAnswer(engine, prompt.ids, {
            request: {
              ...model.requestOptions,
              samplingParams: seeded(fitting, index),
              ...(asked.topLogProbs > 0 ? { topLogProbs: asked.topLogProbs } : {}),
            },
            maxNewTokens,
            onDelta,
            leave,
            mayResume: !model.hasGrammar(asked),
            clock: this.#parts.clock,
          }),
      );
      const turn = await endTurn(prompt, generation);
      const whole = showAnswer(turn.message, setting.reader);
      // What a stream has shown stays shown.
      const content = whole.content.startsWith(said.content) ? whole.content : said.content;
      const reasoning = said.reasoning === "" || whole.reasoning?.startsWith(said.reasoning)
        ? whole.reasoning
        : said.reasoning;
      const rest = {
        content: content.slice(said.content.length),
        reasoning: (reasoning ?? "").slice(said.reasoning.length),
      };
      if (onPart && (rest.content !== "" || rest.reasoning !== "")) {
        const none = { text: "", ids: new Int32Array(), logProbs: null, final: null };
        onPart({ index, shown: rest, delta: none });
      }
      const record = this.#record(
        {
          number: this.#turns.length,
          id,
          turn,
          parent,
          shown: { ...whole, content, reasoning },
          model: asked.model,
          isRetry: asked.isRetry,
          isAborted: generation.finishReason.type === "abort",
          stamp,
          topLogProbs: generation.topLogProbs,
          cachedTokens: generation.cachedTokens,
        },
        asked,
        model,
      );
      if (record.isAborted && !leave.aborted) throw cutShort();
      return record;
    };
    const samples = Array.from({ length: asked.samples }, (_, index) => one(index));
    await Promise.allSettled(samples);
    return await Promise.all(samples);
  }

  /** The prompt of a request. Of long ones a session has one made at a time. */
  async #prompt(
    asked: Asked,
    model: GatewayModel,
    { setting, signal }: { readonly setting: ChatSetting; readonly signal: AbortSignal },
  ): Promise<ContinuedPrompt> {
    using _ = isLong(asked.input) ? await this.#longPrompts.acquire(signal) : null;
    return await this.#earlierOf(model).prompt(asked, setting, signal);
  }

  #earlierOf(model: GatewayModel): EarlierTurns {
    const earlier = this.#earlier.get(model) ?? new EarlierTurns();
    this.#earlier.set(model, earlier);
    return earlier;
  }

  #record(record: RecordedTurn, { input }: Asked, model: GatewayModel): RecordedTurn {
    this.#turns.push(record);
    this.#parts.counts.turns++;
    this.#tokens += record.turn.prompt.ids.length + record.turn.sample.ids.length;
    this.#earlierOf(model).add(record, input);
    if (input.kind === "chat") {
      this.#byId.set(record.id, { record, asked: input.messages });
      for (const { id } of record.shown.calls) this.#byCall.set(id, record);
    }
    return record;
  }

  #refuseBeyond(samples: number): void {
    const { maxTurns, maxTokens } = this.#parts.limits;
    if (this.isOver) {
      throw new GatewayRefusal("The session has ended", { status: 410, reason: "session_ended" });
    }
    const used = (limit: string, most: number) =>
      new GatewayRefusal(
        `The session has used its ${limit} of ${most}. Open another one, or give it more`,
        { status: 403, reason: `session_${limit}` },
      );
    if (this.#turns.length + this.#open.size + samples > maxTurns) throw used("maxTurns", maxTurns);
    if (this.#tokens >= maxTokens) throw used("maxTokens", maxTokens);
    if (samples > 0) this.#refuseMore(this.#open.size);
  }

  #refuseMore(underWay: number): void {
    const { maxConcurrent } = this.#parts.limits;
    if (underWay < maxConcurrent) return;
    const parts = { status: 429, reason: "session_concurrency", retryAfterS: 1 };
    throw new GatewayRefusal(`The session has ${maxConcurrent} requests under way already`, parts);
  }

  #watchIdle(): void {
    this.#cancelIdle();
    if (this.isOver || this.#open.size > 0) return;
    const { clock, limits } = this.#parts;
    this.#cancelIdle = clock.schedule(limits.idleMs, () => void this.#finish("idle"));
  }

  #finish(end: SessionEnd): Promise<EndedSession> {
    return this.#end ??= this.#leave(end);
  }

  async #leave(end: SessionEnd): Promise<EndedSession> {
    this.#cancelIdle();
    this.#cancelTime();
    this.#ending.abort(new AbortedError(`session ${this.id}: ${end}`));
    await Promise.allSettled(this.#open);
    const rows = this.#rows(end !== "ended");
    const reward = rows.reduce((sum, row) => sum + row.reward, 0);
    const ended: EndedSession = { id: this.id, end, reward, rows };
    this.#parts.onEnd(this, ended);
    this.#finished.resolve(ended);
    return ended;
  }

  #rows(truncated: boolean): EndedSession["rows"] {
    const { number, options } = this.#parts;
    const alone = { dialog: number, attempt: 0, group: number, member: 0, environment: 0 };
    const { versions = null, info = {}, dialog } = options;
    const last = this.#turns.at(-1);
    // Several samples of one prompt share an id; the first has what the id was given.
    const rewarded = new Set<string>();
    return rowsOf(this.#turns, {
      ...alone,
      ...onlyGiven(dialog ?? {}),
      versions,
      truncated,
      info: { session: this.id, ...info },
      reward: (record) => {
        const own = rewarded.has(record.id) ? 0 : this.#rewards.get(record.id) ?? 0;
        rewarded.add(record.id);
        return own + (record === last ? this.#reward : 0);
      },
    });
  }
}
