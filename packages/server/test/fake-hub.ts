import { setImmediate, setTimeout } from 'node:timers/promises';
import {
  RoseError,
  type Dialect,
  type EmbedRequest,
  type GeneratedToken,
  type GenerateEvent,
  type GenerateRequest,
  type HeadSpec,
  type JudgedToken,
  type ModelHub,
  type ModelSpec,
  type Prompt,
  type ScoreRequest,
  type ServedModel,
  type Task,
  type Vocabulary,
} from '@rose/engine';

/** End of text in the fake vocabulary, whose other tokens are single bytes. */
export const END_TOKEN = 256;
const WIDTH = 4;

export interface FakeHub extends ModelHub {
  /** Requests whose signal was aborted while they ran. */
  aborted: number;
  /** Requests under way. */
  active: number;
  healthy: boolean;
  /** The last request each method got. */
  readonly seen: { generate?: GenerateRequest; embed?: EmbedRequest; score?: ScoreRequest };
}

/**
 * Models without arithmetic: `chat` repeats what it was told, a byte a token; `embed` counts letters; `rerank` counts
 * common words; `org/topics` sorts into two labels. A word in a prompt or text makes them misbehave: `!early` and `!full`
 * refuse it, `!fault` throws what is no RoseError, `!hang` never answers, `!late` fails after three tokens, `!endless`
 * never stops, `!steady` neither, but slowly. `chat` says what follows `!say ` as it is, and `!opened` before that has
 * the prompt begin its reasoning.
 */
export function fakeHub(dialect: Partial<Dialect> = {}): FakeHub {
  const hub: FakeHub = {
    models: [],
    aborted: 0,
    active: 0,
    healthy: true,
    seen: {},
    stats: { device: 'fake (no arithmetic)', restarts: 0 },
    get(name) {
      const model = hub.models.find((candidate) => candidate.name === name);
      if (model === undefined) throw new RoseError('not_found', `there is no model '${name}'`);
      return model;
    },
    ready: async () => hub.healthy,
    drain: async () => {},
    close: async () => {},
  };
  const pooling = 'mean';
  const models: ServedModel[] = [
    fakeModel(hub, 'chat', 'generate', { kind: 'logits', tied: true }, dialect),
    fakeModel(hub, 'embed', 'embed', { kind: 'embedding', pooling, normalize: true }),
    fakeModel(hub, 'rerank', 'score', { kind: 'classifier', pooling, pooler: false, labels: ['relevance'] }),
    fakeModel(hub, 'org/topics', 'score', { kind: 'classifier', pooling, pooler: false, labels: ['sea', 'land'] }),
  ];
  (hub as { models: readonly ServedModel[] }).models = models;
  return hub;
}

function fakeModel(
  hub: FakeHub,
  name: string,
  task: Task,
  head: HeadSpec,
  dialect: Partial<Dialect> = {},
): ServedModel {
  const counters = {
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
  const spec = { architecture: 'FakeModel', vocabSize: 257, hiddenSize: WIDTH, contextLength: 512, blocks: [], head };
  return {
    name,
    task,
    spec: spec as unknown as ModelSpec,
    defaults: {
      temperature: undefined,
      topK: undefined,
      topP: undefined,
      minP: undefined,
      repetitionPenalty: undefined,
      maxNewTokens: undefined,
      sample: false,
      endTokens: [END_TOKEN],
    },
    vocabulary,
    dialect: { takesTools: true, tools: 'hermes', reasoning: undefined, ...dialect },
    text: {
      encodePrompt: async (prompt) => Int32Array.from(Buffer.from(textOf(prompt))),
      render: async (prompt) => (textOf(prompt).includes('!opened') ? 'prompt <think>\n' : 'prompt'),
      encodeTexts: async (texts) =>
        texts.map((text) => ({ tokens: Int32Array.from(Buffer.from(text)), types: new Int32Array(text.length) })),
      decode: async (tokens) => asText([...tokens]),
      tokenNames: async (tokens) => Array.from(tokens, (id) => `<${id}>`),
      configuration: async () => ({ eos_token: '<end>', chat_template: null }),
    },
    notes: [],
    loadedAt: 1_700_000_000,
    memory: { weights: 1000, sequences: 200, workspace: 30, pages: [] },
    counters,
    ready: async () => hub.healthy,
    async *generate(request) {
      hub.seen.generate = request;
      counters.requests++;
      counters.running++;
      const stop = watch(hub, request.signal);
      try {
        for await (const event of answers(request, stop.aborted)) {
          if (event.kind === 'start') counters.promptTokens += event.promptTokens;
          if (event.kind === 'delta') counters.generatedTokens += event.tokens.length;
          counters.steps++;
          counters.stepSequences++;
          yield event;
        }
      } finally {
        counters.running--;
        stop.release();
      }
    },
    async embed(request) {
      hub.seen.embed = request;
      const stop = watch(hub, request.signal);
      try {
        const texts = request.inputs.map((input) => (typeof input === 'string' ? input : asText(input)));
        for (const text of texts) await misbehave(text, stop.aborted);
        counters.steps++;
        const embeddings = texts.map((text) => embedding(text, request.dimensions ?? WIDTH));
        return { embeddings, promptTokens: texts.reduce((sum, text) => sum + text.length, 0) };
      } finally {
        stop.release();
      }
    },
    async score(request) {
      hub.seen.score = request;
      const stop = watch(hub, request.signal);
      try {
        const pairs = request.inputs.map((input) =>
          'query' in input ? input : { query: '', text: asText(input.tokens) },
        );
        for (const { text } of pairs) await misbehave(text, stop.aborted);
        counters.steps++;
        const logits = pairs.map(({ query, text }) => {
          const common = query.split(' ').filter((word) => text.split(' ').includes(word)).length;
          return head.kind === 'classifier' && head.labels.length === 1
            ? Float32Array.of(common - 1)
            : Float32Array.of(common, text.length);
        });
        return { logits, promptTokens: pairs.length };
      } finally {
        stop.release();
      }
    },
  };
}

/** Counts an abort as the engine would see it. */
function watch(hub: FakeHub, signal: AbortSignal | undefined): { aborted: Promise<never>; release: () => void } {
  hub.active++;
  let abort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => {
      hub.aborted++;
      reject(new RoseError('cancelled', 'the request was cancelled'));
    };
  });
  aborted.catch(() => {});
  if (signal?.aborted === true) abort();
  else signal?.addEventListener('abort', abort);
  return {
    aborted,
    release: () => {
      hub.active--;
      signal?.removeEventListener('abort', abort);
    },
  };
}

async function misbehave(text: string, aborted: Promise<never>): Promise<void> {
  if (text.includes('!early')) throw new RoseError('invalid', 'the prompt is too long', { param: 'prompt' });
  if (text.includes('!full')) {
    throw new RoseError('overloaded', 'the queue is full: Exceeds maximum queue size', { retryAfterSeconds: 7 });
  }
  if (text.includes('!fault')) throw new Error('a bug in the engine');
  if (text.includes('!hang')) await aborted;
}

async function* answers(request: GenerateRequest, aborted: Promise<never>): AsyncIterable<GenerateEvent> {
  const prompt = textOf(request.prompt);
  const n = request.n ?? 1;
  if (n < 1 || n > 128) throw new RoseError('invalid', `n is ${n}: it must be 1 to 128`, { param: 'n' });
  if ((request.sampling?.temperature ?? 0) < 0) {
    throw new RoseError('invalid', 'temperature is below 0', { param: 'temperature' });
  }
  await misbehave(prompt, aborted);
  yield start(Int32Array.from(Buffer.from(prompt)), request.promptLogprobs);
  for (let index = 0; index < n; index++) {
    const said = prompt.split('!say ')[1];
    let left = said ?? `echo: ${prompt}${index === 0 ? '' : ` (${index})`}`;
    const stop = (request.stop ?? []).find((text) => left.includes(text));
    if (stop !== undefined) left = left.slice(0, left.indexOf(stop));
    const bytes = [...Buffer.from(left)];
    const limit = request.maxTokens ?? 512;
    const detokenizer = vocabulary.detokenizer();
    let generated = 0;
    const most = /!endless|!steady/.test(prompt) ? Infinity : Math.min(bytes.length, limit);
    while (generated < most) {
      const byte = bytes[generated % bytes.length];
      generated++;
      await Promise.race([aborted, prompt.includes('!steady') ? setTimeout(5) : setImmediate()]);
      if (prompt.includes('!late') && generated > 3) throw new RoseError('internal', 'the device failed');
      yield { kind: 'delta', index, text: detokenizer.push(byte), tokens: [token(byte, request.logprobs)] };
    }
    const reason = generated < bytes.length ? 'length' : 'stop';
    const endToken = reason === 'stop' && stop === undefined ? 1 : 0;
    yield { kind: 'end', index, reason, stop, generatedTokens: generated + endToken };
  }
}

/** The prompt's i-th token has the log-probability -i and the rank i; others in its place are less likely. */
function start(prompt: Int32Array, top: number | undefined): GenerateEvent {
  const judge = (byte: number, i: number): JudgedToken => {
    const others = Array.from({ length: top ?? 0 }, (_, k) => ({ token: (byte + k) % 256, logprob: -i - 1 - k }));
    return { token: byte, logprob: -i - 1, rank: i + 1, top: others };
  };
  return {
    kind: 'start',
    promptTokens: prompt.length,
    cachedTokens: Math.min(1, prompt.length),
    prompt,
    judged: top === undefined ? undefined : [...prompt.subarray(1)].map(judge),
  };
}

function token(byte: number, logprobs: number | undefined): GeneratedToken {
  if (logprobs === undefined) return { token: byte };
  const top = Array.from({ length: logprobs }, (_, i) => ({ token: (byte + i) % 256, logprob: -0.5 - i }));
  return { token: byte, logprob: -0.5, top };
}

function textOf(prompt: Prompt): string {
  if (prompt.kind === 'text') return prompt.text;
  if (prompt.kind === 'tokens') return asText([...prompt.tokens]);
  return prompt.messages.at(-1)?.content ?? '';
}

function asText(tokens: readonly number[]): string {
  return Buffer.from(tokens.filter((id) => id < 256)).toString('utf8');
}

function embedding(text: string, dimensions: number): Float32Array {
  const vector = Float32Array.from({ length: WIDTH }, (_, i) => 1 + (Buffer.from(text)[i] ?? 0));
  const short = vector.slice(0, dimensions);
  const length = Math.hypot(...short);
  return short.map((x) => x / length);
}

const vocabulary: Vocabulary = {
  size: 257,
  detokenizer: () => {
    const decoder = new TextDecoder();
    return {
      push: (id) => (id === END_TOKEN ? '' : decoder.decode(Uint8Array.of(id), { stream: true })),
      flush: () => decoder.decode(),
    };
  },
  tokenBytes: (id) => (id === END_TOKEN ? Buffer.from('<end>') : Uint8Array.of(id)),
  tokenText: (id) => (id === END_TOKEN ? '<end>' : Buffer.from([id]).toString('utf8')),
};
