import type { GenerateEvent, GeneratedToken, ServedModel, Vocabulary } from '@rose/engine';
import type { BuiltinTask } from './builtin.ts';
import { invalid } from './errors.ts';
import { SAMPLING_INPUTS } from './generate-inputs.ts';
import { generateParameters } from './generate-parameters.ts';
import type { InputSpec, ModelRequest, ModelResponse } from './model.ts';
import {
  fp32Rows,
  numbers,
  numbersOf,
  texts,
  textsOf,
  type BytesTensor,
  type NumericTensor,
  type Tensor,
} from './tensor.ts';

/** Outputs that a request must ask for, each by an input `return_NAME`. */
const EXTRAS = [
  'finish_reason',
  'cumulative_logprob',
  'logprobs',
  'num_input_tokens',
  'num_output_tokens',
  'log_probs',
] as const;
type Returns = Readonly<Record<(typeof EXTRAS)[number], boolean>>;

/**
 * Models that generate text, with the tensors of Triton's vLLM backend and those of its TensorRT-LLM backend.
 * `text_input` is text: control tokens in it are not, unless `parse_special` is true.
 */
export const generating: BuiltinTask = {
  describe: ({ name, task, spec }) => ({
    name,
    maxBatchSize: 0,
    decoupled: true,
    inputs: [
      { name: 'text_input', datatypes: ['BYTES'], dims: [1], optional: false },
      flag('stream'),
      flag('streaming'),
      { name: 'sampling_parameters', datatypes: ['BYTES'], dims: [1], optional: true },
      flag('exclude_input_in_output'),
      ...EXTRAS.map((extra) => flag(`return_${extra}`)),
      ...SAMPLING_INPUTS,
    ],
    outputs: [
      { name: 'text_output', datatype: 'BYTES', dims: [-1] },
      { name: 'finish_reason', datatype: 'BYTES', dims: [-1] },
      { name: 'cumulative_logprob', datatype: 'FP32', dims: [-1] },
      { name: 'logprobs', datatype: 'BYTES', dims: [-1] },
      { name: 'num_input_tokens', datatype: 'UINT32', dims: [1] },
      { name: 'num_output_tokens', datatype: 'UINT32', dims: [-1] },
      { name: 'cum_log_probs', datatype: 'FP32', dims: [-1] },
      { name: 'output_log_probs', datatype: 'FP32', dims: [-1, -1] },
      // Only where requests have a batch dimension: see `runApart`.
      { name: 'batch_index', datatype: 'INT32', dims: [1] },
      { name: 'sequence_index', datatype: 'INT32', dims: [1] },
    ],
    facts: { task, architecture: spec.architecture, context_length: String(spec.contextLength) },
  }),
  run,
};

async function* run(model: ServedModel, request: ModelRequest): AsyncIterable<ModelResponse> {
  const [prompt] = textsOf(request.inputs.get('text_input') as BytesTensor);
  const stream = flagOf(request, 'stream') ?? flagOf(request, 'streaming') ?? false;
  const exclude = flagOf(request, 'exclude_input_in_output');
  if (stream && exclude === false) {
    throw invalid('Error generating stream: When streaming, `exclude_input_in_output` = False is not allowed.');
  }
  const returns = Object.fromEntries(
    EXTRAS.map((name) => [name, flagOf(request, `return_${name}`) ?? false]),
  ) as Returns;
  const { generation, logprobs, parseSpecial } = generateParameters(request);
  const needsLogprobs = returns.logprobs || returns.cumulative_logprob || returns.log_probs;
  const events = model.generate({
    ...generation,
    prompt: { kind: 'text', text: prompt, parseSpecial },
    ...(!stream && exclude !== true && { continues: true }),
    // One more than asked for shows whether a greedy token is the most likely one.
    ...(needsLogprobs && { logprobs: Math.max(1, logprobs ?? 0) }),
    ...(request.timeoutMs !== undefined && { timeoutMs: request.timeoutMs }),
    tenant: request.tenant,
    signal: request.signal,
  });

  // Made with the first event: only then has the engine accepted `n`.
  let answers: AnswerSet | undefined;
  const endsTell = stream && (returns.finish_reason || returns.num_output_tokens);
  for await (const next of endsTell ? withEnds(events) : events) {
    answers ??= new AnswerSet(generation.n ?? 1, model.vocabulary, returns, logprobs);
    let news = false;
    for (const event of Array.isArray(next) ? next : [next]) {
      answers.take(event);
      news ||= answers.hasNews(event);
    }
    if (stream && news) {
      yield { outputs: answers.respond('') };
      answers.clear();
    }
  }
  if (!stream && answers !== undefined) yield { outputs: answers.respond(exclude === true ? '' : prompt) };
}

/** The end of an answer goes with its last token where it comes right behind it: clients expect one response of both. */
async function* withEnds(events: AsyncIterable<GenerateEvent>): AsyncIterable<GenerateEvent[]> {
  const iterator = events[Symbol.asyncIterator]();
  const ask = (): Promise<IteratorResult<GenerateEvent>> => {
    const next = iterator.next();
    // Whoever waits for it is told; until then nobody does.
    next.catch(() => {});
    return next;
  };
  try {
    let next = ask();
    for (;;) {
      const { value: event, done } = await next;
      if (done === true) return;
      next = ask();
      if (event.kind !== 'delta') {
        yield [event];
        continue;
      }
      const soon = await Promise.race([next.catch(() => undefined), nextTurn()]);
      if (soon?.done === false && soon.value.kind === 'end' && soon.value.index === event.index) {
        yield [event, soon.value];
        next = ask();
      } else {
        yield [event];
      }
    }
  } finally {
    // What is still to come is not waited for.
    void iterator.return?.().catch(() => {});
  }
}

function nextTurn(): Promise<undefined> {
  return new Promise((resolve) => setImmediate(() => resolve(undefined)));
}

/** What happened since the last response, an element an answer, as the vLLM backend reports it. */
class AnswerSet {
  readonly #vocabulary: Vocabulary;
  readonly #returns: Returns;
  readonly #count: number;
  readonly #candidates: number | undefined;
  readonly #finishReasons: string[];
  /** Sums over the whole answer. */
  readonly #cumulative: number[];
  readonly #reported: number[];
  #texts: string[] = [];
  /** JSON of the new tokens' entries. */
  #logprobs: string[][] = [];
  #newTokens: number[] = [];
  #newLogprobs: number[][] = [];
  #promptTokens = 0;

  /** @param candidates how many most likely tokens are reported with each drawn one; undefined: `logprobs` are null */
  constructor(count: number, vocabulary: Vocabulary, returns: Returns, candidates: number | undefined) {
    this.#count = count;
    this.#candidates = candidates;
    this.#vocabulary = vocabulary;
    this.#returns = returns;
    // How Python prints "not yet": what clients of the vLLM backend compare with.
    this.#finishReasons = this.#each(() => 'None');
    this.#cumulative = this.#each(() => 0);
    this.#reported = this.#each(() => 0);
    this.clear();
  }

  take(event: GenerateEvent): void {
    if (event.kind === 'start') {
      this.#promptTokens = event.promptTokens;
    } else if (event.kind === 'delta') {
      this.#texts[event.index] += event.text;
      this.#advance(event.index, event.tokens.length);
      for (const token of event.tokens) {
        this.#cumulative[event.index] += token.logprob ?? 0;
        this.#newLogprobs[event.index].push(token.logprob ?? 0);
        if (this.#returns.logprobs && this.#candidates !== undefined) {
          this.#logprobs[event.index].push(describe(token, this.#vocabulary, this.#candidates));
        }
      }
    } else {
      this.#finishReasons[event.index] = event.reason;
      // An end token counts, though no delta shows it.
      this.#advance(event.index, event.generatedTokens - this.#reported[event.index]);
    }
  }

  /** Whether a streaming client would learn something. */
  hasNews(event: GenerateEvent): boolean {
    if (event.kind === 'start') return false;
    if (event.kind === 'end') return this.#returns.finish_reason || this.#returns.num_output_tokens;
    const { num_output_tokens, logprobs, log_probs } = this.#returns;
    return event.text !== '' || num_output_tokens || logprobs || log_probs;
  }

  /** @param prefix text in front of every answer */
  respond(prefix: string): Tensor[] {
    const returns = this.#returns;
    const tensors: Tensor[] = [
      texts(
        'text_output',
        this.#texts.map((text) => prefix + text),
      ),
    ];
    if (returns.finish_reason) tensors.push(texts('finish_reason', this.#finishReasons));
    if (returns.cumulative_logprob) tensors.push(numbers('cumulative_logprob', 'FP32', this.#cumulative));
    if (returns.logprobs)
      tensors.push(
        texts(
          'logprobs',
          this.#logprobs.map((list) => (this.#candidates === undefined ? 'null' : `[${list.join(',')}]`)),
        ),
      );
    if (returns.num_input_tokens) tensors.push(numbers('num_input_tokens', 'UINT32', [this.#promptTokens]));
    if (returns.num_output_tokens) tensors.push(numbers('num_output_tokens', 'UINT32', this.#newTokens));
    if (returns.log_probs) {
      tensors.push(numbers('cum_log_probs', 'FP32', this.#cumulative), padded('output_log_probs', this.#newLogprobs));
    }
    return tensors;
  }

  #advance(index: number, tokens: number): void {
    this.#newTokens[index] += tokens;
    this.#reported[index] += tokens;
  }

  /** What was reported is no news any more. */
  clear(): void {
    this.#texts = this.#each(() => '');
    this.#logprobs = this.#each(() => []);
    this.#newTokens = this.#each(() => 0);
    this.#newLogprobs = this.#each(() => []);
  }

  #each<T>(make: () => T): T[] {
    return Array.from({ length: this.#count }, make);
  }
}

/**
 * The vLLM backend's entry for a drawn token, as JSON: the drawn token first, then the most likely ones, by id. A drawn
 * token that is not among those has no rank.
 */
function describe({ token, logprob, top = [] }: GeneratedToken, vocabulary: Vocabulary, candidates: number): string {
  const entry = (id: number, value: number | undefined, rank: number | null): string =>
    `"${id}":${JSON.stringify({ logprob: value, rank, decoded_token: vocabulary.tokenText(id) })}`;
  const place = top.findIndex((candidate) => candidate.token === token);
  const others = top.slice(0, candidates).map((candidate, i) => entry(candidate.token, candidate.logprob, i + 1));
  if (place >= 0) others.splice(place, 1);
  return `{${[entry(token, logprob, place < 0 ? null : place + 1), ...others].join(',')}}`;
}

/** Rows of different lengths as one FP32 tensor: shorter ones end in zeros. */
function padded(name: string, rows: readonly (readonly number[])[]): NumericTensor {
  const width = Math.max(...rows.map(({ length }) => length));
  const filled = rows.map((row) => Float32Array.from({ length: width }, (_, i) => row[i] ?? 0));
  return fp32Rows(name, filled, width);
}

function flag(name: string): InputSpec {
  return { name, datatypes: ['BOOL'], dims: [1], optional: true };
}

function flagOf({ inputs }: ModelRequest, name: string): boolean | undefined {
  const tensor = inputs.get(name) as NumericTensor | undefined;
  return tensor === undefined ? undefined : numbersOf(tensor)[0] !== 0;
}
