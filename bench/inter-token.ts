/**
 * What a very long prompt does to streams that run: the inter-token time of 16 streams while a prompt as long as the
 * model's context is computed beside them, and alone, before and after it: the streams' own contexts grow meanwhile, and
 * with them their steps. The bar: twice the median alone.
 *
 *   node --conditions=development bench/inter-token.ts [--streams 16] [--rounds 3] [--threads 2] [--models tiny,llama]
 */
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { openModels, type ServedModel } from '@rose/engine';
import { makeLlama } from './make-llama.ts';
import { circumstances, writeResult } from './measure/report.ts';
import { RandomBits } from './models/random.ts';

const { values: options } = parseArgs({
  options: {
    streams: { type: 'string', default: '16' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: '2' },
    models: { type: 'string', default: 'tiny,llama' },
  },
});
const streams = Number(options.streams);
const rounds = Number(options.rounds);
const threads = Number(options.threads);

const BAR = 2;
/** Tokens of each stream's own prompt. */
const PROMPT = 16;
/** Tokens of each stream before the long prompt comes, and again after it. */
const ALONE = 32;
/** Left of the context for the answer to the long prompt. */
const ROOM = 8;

const directories: Record<string, () => Promise<string>> = {
  tiny: async () => fileURLToPath(new URL('../models/tiny-chat', import.meta.url)),
  llama: async () => (await makeLlama()).directory,
};

/** Of gaps between tokens, in milliseconds. */
interface Gaps {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

interface Round {
  readonly alone: Gaps;
  readonly beside: Gaps;
  /** Share of the gaps beside the prompt that are longer than the bar allows, and of those alone: the machine's own. */
  readonly over: number;
  readonly overAlone: number;
  readonly promptSeconds: number;
}

const results: Record<string, object> = {};
for (const name of options.models.split(',')) {
  const hub = await openModels({ models: [{ name, directory: await directories[name]() }], threads });
  try {
    const model = hub.get(name);
    const list: Round[] = [];
    for (let i = 0; i < rounds; i++) list.push(await run(model, i));
    const beside = middle(list.map((each) => each.beside.p50 / each.alone.p50));
    const p99 = middle(list.map((each) => each.beside.p99 / each.alone.p50));
    results[name] = {
      ...{ device: hub.stats.device, context: model.spec.contextLength, prompt: model.spec.contextLength - ROOM },
      ...{ p50OverMedianAlone: rounded(beside), p99OverMedianAlone: rounded(p99), rounds: list },
    };
    console.log(
      `${name}: beside the prompt p50 ${rounded(beside)}, p99 ${rounded(p99)} times the median alone (bar: ${BAR})`,
    );
    console.table(
      list.flatMap(({ alone, beside: other, over, overAlone, promptSeconds }, round) => [
        { round, phase: 'alone', ...alone, 'over the bar': overAlone, seconds: '' },
        { round, phase: 'beside the prompt', ...other, 'over the bar': over, seconds: promptSeconds },
      ]),
    );
    await writeResult('inter-token', { ...(await circumstances()), streams, threads, bar: BAR, results });
  } finally {
    await hub.close();
  }
}

async function run(model: ServedModel, number: number): Promise<Round> {
  const bits = new RandomBits(number + 2);
  const { contextLength, vocabSize } = model.spec;
  const tokens = (count: number): number[] => Array.from({ length: count }, () => 10 + bits.below(vocabSize - 10));
  const times: number[][] = Array.from({ length: streams }, () => []);
  const stopping = new AbortController();
  /** Each stream has so many tokens. */
  let wanted = ALONE;
  let reached = (): void => {};
  const all = (): Promise<void> => new Promise((resolve) => (reached = resolve));
  const stream = async (list: number[]): Promise<void> => {
    try {
      for await (const now of tokenTimes(model, tokens(PROMPT), contextLength - PROMPT, stopping.signal)) {
        list.push(now);
        if (list.length >= wanted && times.every(({ length }) => length >= wanted)) reached();
      }
    } catch (error) {
      if (!stopping.signal.aborted) throw error;
    }
  };
  const before = all();
  const running = times.map(stream);
  await before;
  const begin = Math.max(...times.map(([first]) => first));
  const from = performance.now();
  let to = from;
  for await (const now of tokenTimes(model, tokens(contextLength - ROOM), 1, stopping.signal)) to = now;
  wanted = ALONE + Math.max(...times.map(({ length }) => length));
  await all();
  stopping.abort();
  await Promise.all(running);

  const gaps = (low: number, high: number): number[] =>
    times.flatMap((list) =>
      list.flatMap((time, i) => (i > 0 && list[i - 1] >= low && time <= high ? [time - list[i - 1]] : [])),
    );
  const alone = [...gaps(begin, from), ...gaps(to, Infinity)];
  const beside = gaps(from, to);
  const limit = BAR * gapsOf(alone).p50;
  const over = (values: number[]): number => rounded(values.filter((gap) => gap > limit).length / values.length);
  return {
    ...{ alone: gapsOf(alone), beside: gapsOf(beside), over: over(beside), overAlone: over(alone) },
    promptSeconds: rounded((to - from) / 1000),
  };
}

/** When each token comes. */
async function* tokenTimes(
  model: ServedModel,
  tokens: readonly number[],
  maxTokens: number,
  signal: AbortSignal,
): AsyncIterable<number> {
  const sampling = { temperature: 0 };
  const prompt = { kind: 'tokens', tokens } as const;
  for await (const event of model.generate({ prompt, maxTokens, ignoreEos: true, sampling, signal })) {
    if (event.kind !== 'delta') continue;
    const now = performance.now();
    for (const _ of event.tokens) yield now;
  }
}

function gapsOf(values: readonly number[]): Gaps {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number => rounded(sorted[Math.ceil(share * sorted.length) - 1]);
  return { count: sorted.length, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

function middle(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

function rounded(value: number): number {
  return Number(value.toPrecision(3));
}
