import type { Dialect } from '../answer/dialect.ts';
import { RoseError } from '../errors.ts';
import type { Checkpoint, GenerationDefaults } from '../checkpoint/checkpoint.ts';
import type { EngineClient } from '../engine/client.ts';
import type { LoadReport } from '../engine/protocol.ts';
import type { EngineState } from '../engine/engine.ts';
import type { EngineEvent, EngineRequest, SamplingParams } from '../engine/request.ts';
import { taskOf, type ModelSpec, type Task } from '../model/spec.ts';
import type { EncodedInput, Prompt, TextPool, Vocabulary } from '../text/text.ts';
import { grammarOf } from '../grammar/structure.ts';
import { Answer } from './answer.ts';
import type {
  EmbedRequest,
  EmbedResult,
  GenerateEvent,
  GenerateRequest,
  ModelCounters,
  ScoreInput,
  ScoreRequest,
  ScoreResult,
  ServedModel,
} from './api.ts';
import { Job, type CommonRequest, type JobOwner } from './job.ts';
import { PromptJudgement } from './prompt-logprobs.ts';
import { checkGrammar, checkLimits, resolveSampling } from './sampling.ts';
import { StopMatcher } from './stop.ts';

export interface HubModelParts {
  readonly name: string;
  /** The model's number on the engine's channel. */
  readonly number: number;
  readonly client: EngineClient;
  readonly checkpoint: Pick<Checkpoint, 'spec' | 'defaults' | 'notes'>;
  readonly text: { readonly pool: TextPool; readonly vocabulary: Vocabulary; readonly dialect: Dialect };
  readonly report: LoadReport;
  /** Requests that may wait for the model. */
  readonly queueLimit: number;
  /** Throws when no request may come in any more. */
  readonly admit: () => void;
  readonly ready: () => Promise<boolean>;
}

/** Inputs of one request that are with the engine at a time: a quarter of the queue, so that others find room in it. */
const POOL_SHARE = 1 / 4;
const POOL_WINDOW = 256;

/** A text of so many times the longest token for each place of the context cannot fit, whatever its tokenizer leaves out. */
const TEXT_MARGIN = 4;

/** What an engine counts from its start on. */
const GROWING_STATE = ['cachedTokens', 'preemptions', 'turns', 'stepFailures'] as const;
type GrowingState = (typeof GROWING_STATE)[number];

/** A model behind the engine's channel: text work on this side, tokens on the other. */
export class HubModel implements ServedModel {
  readonly name: string;
  readonly task: Task;
  spec: ModelSpec;
  readonly defaults: GenerationDefaults;
  readonly vocabulary: Vocabulary;
  readonly dialect: Dialect;
  readonly text: ServedModel['text'];
  readonly notes: readonly string[];
  readonly loadedAt: number = Math.floor(Date.now() / 1000);
  memory: ServedModel['memory'];
  readonly counters: ModelCounters = {
    requests: 0,
    failures: 0,
    cancelled: 0,
    promptTokens: 0,
    cachedTokens: 0,
    generatedTokens: 0,
    preemptions: 0,
    turns: 0,
    stepFailures: 0,
    steps: 0,
    stepSequences: 0,
    running: 0,
    waiting: 0,
    usedPages: 0,
    cachedPages: 0,
    pages: 0,
  };
  readonly ready: () => Promise<boolean>;
  readonly #parts: HubModelParts;
  /** What engines that were lost had counted. */
  readonly #before: Record<GrowingState, number> = { cachedTokens: 0, preemptions: 0, turns: 0, stepFailures: 0 };
  readonly #owner: JobOwner;
  /** Longer prompts are not even given to the tokenizer, which they would keep from others. */
  #mostText = 0;
  readonly #longestToken: number;

  constructor(parts: HubModelParts) {
    const { spec, defaults } = parts.checkpoint;
    this.#parts = parts;
    this.name = parts.name;
    this.task = taskOf(spec);
    this.spec = spec;
    this.defaults = defaults;
    this.vocabulary = parts.text.vocabulary;
    this.dialect = parts.text.dialect;
    this.text = parts.text.pool;
    this.notes = [...parts.checkpoint.notes, ...parts.report.notes];
    this.memory = parts.report.memory;
    this.ready = parts.ready;
    this.#longestToken = longestToken(this.vocabulary);
    this.observeLoad(parts.report);
    this.#owner = { model: parts.number, client: parts.client, counters: this.counters, jobs: new Set() };
  }

  /** Requests under way. */
  get active(): number {
    return this.#owner.jobs.size;
  }

  async *generate(request: GenerateRequest): AsyncIterable<GenerateEvent> {
    this.#require('generate');
    checkLimits(request, this.spec.vocabSize);
    this.#checkText(request.prompt);
    const sampling = resolveSampling(request.sampling ?? {}, this.defaults, this.spec.vocabSize);
    const grammar = request.structure === undefined ? undefined : grammarOf(request.structure);
    if (grammar !== undefined) checkGrammar(request, this.defaults);
    const job = new Job<{ answer: Answer; event: EngineEvent }>(this.#owner, request);
    try {
      const tokens = await job.work(() => this.#parts.text.pool.encodePrompt(request.prompt));
      this.counters.promptTokens += tokens.length;
      const badWords = await job.work(() => this.#encodeWords(request.badWords ?? []));
      const judgement =
        request.promptLogprobs === undefined ? undefined : new PromptJudgement(tokens, request.promptLogprobs);
      const answers = Array.from({ length: request.n ?? 1 }, (_, i) => this.#answer(i, request));
      for (const answer of answers) {
        const own = { ...sampling, badWords, seed: seedOf(sampling, answer.index) };
        const command = { ...this.#generateCommand(request, tokens, own, answer.index), grammar };
        job.submit(command, (event) => ({ answer, event }));
      }

      let started = false;
      let cachedTokens = 0;
      for (let left = answers.length; left > 0;) {
        const { answer, event } = await job.next();
        if (event.kind === 'failed') throw RoseError.deserialize(event.error);
        if (event.kind === 'begun') {
          if (answer.index === 0) cachedTokens = event.cachedTokens;
          continue;
        }
        if (event.kind === 'prompt') {
          judgement?.add(event.from, event.logprobs);
          continue;
        }
        if (event.kind === 'pooled' || answer.ended) continue;
        const begin = { promptTokens: tokens.length, cachedTokens, prompt: tokens, judged: judgement?.tokens };
        if (!started) yield { kind: 'start', ...begin };
        started = true;
        if (event.kind === 'token') this.counters.generatedTokens++;
        const clientEvents = answer.take(event);
        if (answer.ended) {
          left--;
          job.cancel(answer.index);
        }
        yield* clientEvents;
      }
      job.succeed();
    } catch (error) {
      job.fail(error);
      throw error;
    } finally {
      // Also reached when the consumer stops reading.
      job.leave();
    }
  }

  async embed(request: EmbedRequest): Promise<EmbedResult> {
    this.#require('embed');
    const width = this.spec.hiddenSize;
    const { dimensions, truncate = false } = request;
    if (dimensions !== undefined && !(Number.isInteger(dimensions) && dimensions >= 1 && dimensions <= width)) {
      const message = `dimensions is ${dimensions}: it must be a whole number from 1 to ${width}`;
      throw new RoseError('invalid', message, { param: 'dimensions' });
    }
    const encode = (): Promise<EncodedInput[]> => this.#encodeInputs(request.inputs, truncate);
    const { values, promptTokens } = await this.#pool(request, encode);
    const head = this.spec.head;
    const normalize = head.kind === 'embedding' && head.normalize;
    const embeddings =
      dimensions === undefined ? values : values.map((vector) => shorten(vector, dimensions, normalize));
    return { embeddings, promptTokens };
  }

  async score(request: ScoreRequest): Promise<ScoreResult> {
    this.#require('score');
    const encode = (): Promise<EncodedInput[]> => this.#encodePairs(request.inputs, request.truncate ?? false);
    const { values, promptTokens } = await this.#pool(request, encode);
    return { logits: values, promptTokens };
  }

  observeStep(step: { readonly sequences: number; readonly state: EngineState }): void {
    if (step.sequences > 0) {
      this.counters.steps++;
      this.counters.stepSequences += step.sequences;
    }
    Object.assign(this.counters, step.state);
    for (const name of GROWING_STATE) this.counters[name] += this.#before[name];
  }

  /** The engine is gone, and all that ran and waited there. */
  observeLoss(): void {
    Object.assign(this.counters, { running: 0, waiting: 0, usedPages: 0, cachedPages: 0 });
    for (const name of GROWING_STATE) this.#before[name] = this.counters[name];
  }

  /** The engine has the model, perhaps with other room for it than the engine before had. */
  observeLoad({ memory, contextLength }: LoadReport): void {
    this.memory = memory;
    this.spec = { ...this.spec, contextLength };
    this.#mostText = this.task === 'generate' ? TEXT_MARGIN * contextLength * this.#longestToken : 0;
  }

  /** Fail every request under way. */
  abandon(error: RoseError): void {
    for (const job of [...this.#owner.jobs]) job.fail(error);
  }

  close(): Promise<void> {
    return this.#parts.text.pool.close();
  }

  #require(task: Task): void {
    this.#parts.admit();
    if (this.task === task) return;
    const can = { generate: 'generates text', embed: 'computes embeddings', score: 'scores pairs of texts' };
    const message = `the model '${this.name}' ${can[this.task]}; it cannot serve this request`;
    throw new RoseError('unsupported', message, { param: 'model' });
  }

  #checkText(prompt: Prompt): void {
    const length = textLength(prompt);
    if (length <= this.#mostText) return;
    const message = `the prompt has ${length} characters: they do not fit the context of ${this.spec.contextLength} tokens`;
    throw new RoseError('invalid', message, { param: 'prompt' });
  }

  #answer(index: number, request: GenerateRequest): Answer {
    const detokenizer = this.vocabulary.detokenizer({
      keepSpecial: request.keepSpecial ?? false,
      // A grammar speaks of all of the text, a space at its beginning too.
      continues: request.continues === true || request.structure !== undefined,
    });
    const stop = new StopMatcher(request.stop ?? [], request.includeStop ?? false);
    return new Answer(index, detokenizer, stop, new Set(request.stopTokens), request.includeStop ?? false);
  }

  /** Texts as tokens, each as it is at the beginning and behind a space. */
  async #encodeWords(words: readonly string[]): Promise<number[][]> {
    const texts = words.map((word) => word.trimStart()).flatMap((word) => [word, ` ${word}`]);
    const { pool } = this.#parts.text;
    const encoded = await Promise.all(
      texts.map((text) => pool.encodePrompt({ kind: 'text', text, addSpecial: false })),
    );
    return encoded.map((tokens) => [...tokens]).filter((tokens) => tokens.length > 0);
  }

  #generateCommand(
    request: GenerateRequest,
    tokens: Int32Array,
    sampling: SamplingParams,
    index: number,
  ): EngineRequest['command'] {
    const ends = request.ignoreEos === true ? [] : this.defaults.endTokens;
    return {
      kind: 'generate',
      tokens,
      sampling,
      // The engine cuts this to what the context holds.
      maxTokens: request.maxTokens ?? this.spec.contextLength,
      minTokens: request.minTokens ?? 0,
      stopTokens: [...ends, ...(request.stopTokens ?? [])],
      logprobs: request.logprobs ?? -1,
      // All answers have the same prompt.
      promptLogprobs: index === 0 ? (request.promptLogprobs ?? -1) : -1,
      salt: request.cacheSalt ?? '',
    };
  }

  /** Encode, run every input as a request of its own, and gather the results in order. */
  async #pool(
    request: CommonRequest,
    encode: () => Promise<EncodedInput[]>,
  ): Promise<{ values: Float32Array[]; promptTokens: number }> {
    const job = new Job<{ index: number; event: EngineEvent }>(this.#owner, request);
    try {
      const inputs = await job.work(encode);
      const promptTokens = inputs.reduce((sum, { tokens }) => sum + tokens.length, 0);
      this.counters.promptTokens += promptTokens;
      const values: Float32Array[] = Array.from({ length: inputs.length });
      const submitNext = (): void => {
        const index = job.submitted;
        if (index === inputs.length) return;
        const { tokens, types } = inputs[index];
        job.submit({ kind: 'pool', tokens, types }, (event) => ({ index, event }));
      };
      const window = Math.max(1, Math.min(POOL_WINDOW, Math.floor(this.#parts.queueLimit * POOL_SHARE)));
      for (let i = 0; i < window; i++) submitNext();
      for (let left = inputs.length; left > 0; left--) {
        const { index, event } = await job.next();
        if (event.kind === 'failed') throw RoseError.deserialize(event.error);
        if (event.kind === 'pooled') values[index] = event.values;
        submitNext();
      }
      job.succeed();
      return { values, promptTokens };
    } catch (error) {
      job.fail(error);
      throw error;
    }
  }

  /** Texts through the tokenizer, ids as they are, in the order given. */
  async #encodeInputs(inputs: EmbedRequest['inputs'], truncate: boolean): Promise<EncodedInput[]> {
    const texts = inputs.filter((input) => typeof input === 'string');
    const options = { maxTokens: this.spec.contextLength, truncate };
    const encoded = texts.length > 0 ? await this.#parts.text.pool.encodeTexts(texts, options) : [];
    let next = 0;
    return inputs.map((input) => (typeof input === 'string' ? encoded[next++] : fromIds(input)));
  }

  async #encodePairs(inputs: readonly ScoreInput[], truncate: boolean): Promise<EncodedInput[]> {
    const pairs = inputs.filter((input) => 'query' in input);
    const options = { maxTokens: this.spec.contextLength, truncate };
    const encoded = pairs.length > 0 ? await this.#parts.text.pool.encodePairs(pairs, options) : [];
    let next = 0;
    return inputs.map((input) => ('query' in input ? encoded[next++] : fromIds(input.tokens, input.types)));
  }
}

function textLength(prompt: Prompt): number {
  if (prompt.kind === 'tokens') return 0;
  if (prompt.kind === 'text') return prompt.text.length;
  return prompt.messages.reduce((sum, { content }) => sum + content.length, 0);
}

/** Bytes of a vocabulary's longest token. */
function longestToken(vocabulary: Vocabulary): number {
  let longest = 1;
  for (let token = 0; token < vocabulary.size; token++) {
    longest = Math.max(longest, vocabulary.tokenBytes(token).length);
  }
  return longest;
}

/** The seed of the n-th answer; seeds wrap around at 2^53. */
function seedOf({ seed }: SamplingParams, n: number): number {
  const room = 2 ** 53 - seed;
  return n < room ? seed + n : n - room;
}

function fromIds(tokens: readonly number[], types?: readonly number[]): EncodedInput {
  if (types !== undefined && types.length !== tokens.length) {
    const message = `an input has ${tokens.length} tokens but ${types.length} token types`;
    throw new RoseError('invalid', message, { param: 'input' });
  }
  // Beyond 32 bits an id would wrap around to another one.
  const wrong = tokens.find((token) => token !== (token | 0));
  if (wrong !== undefined) throw new RoseError('invalid', `${wrong} is not a token id`, { param: 'input' });
  return { tokens: Int32Array.from(tokens), types: Int32Array.from(types ?? tokens.map(() => 0)) };
}

/** The first elements of a vector, scaled back to length 1 where the model's vectors are. */
function shorten(vector: Float32Array, dimensions: number, normalize: boolean): Float32Array {
  const short = vector.slice(0, dimensions);
  if (!normalize) return short;
  let squares = 0;
  for (const x of short) squares += x * x;
  const scale = 1 / Math.max(Math.sqrt(squares), 1e-12);
  return short.map((x) => x * scale);
}
