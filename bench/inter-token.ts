/**
 * What a very long prompt does to streams that run: the inter-token time of 16 streams while a prompt as long as the
 * model's context is computed beside them, and alone, before and after it: the streams' own contexts grow meanwhile, and
 * with them their steps. The bar: twice the median alone.
 *
 *   node --conditions=development bench/inter-token.ts [--streams 16] [--threads 2] [--models tiny,tiny/1,llama]
 *     [--rounds N] [--alone TOKENS] [--memory-share 0.12]
 *
 * `tiny/1` is the model on one thread, which leaves a core of two to the thread that takes the tokens. Rounds and tokens
 * alone are as many as each model needs, unless given; a round of the larger takes up to a minute.
 */
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { openModels, type ServedModel } from '@rose/engine';
import { makeLlama } from './make-llama.ts';
import { circumstances, watchOthers, writeResult } from './measure/report.ts';
import { RandomBits } from './models/random.ts';

const { values: options } = parseArgs({
  options: {
    streams: { type: 'string', default: '16' },
    rounds: { type: 'string' },
    threads: { type: 'string', default: '2' },
    models: { type: 'string', default: 'tiny,tiny/1,llama' },
    alone: { type: 'string' },
    /** Where pages run out, sequences yield: that would be measured instead. */
    'memory-share': { type: 'string', default: '0.12' },
  },
});
const streams = Number(options.streams);
const memoryShare = Number(options['memory-share']);
const began = await circumstances();

const BAR = 2;
/** Tokens of each stream's own prompt. */
const PROMPT = 16;
/** Left of the context for the answer to the long prompt. */
const ROOM = 8;

interface Known {
  readonly directory: () => Promise<string>;
  readonly rounds: number;
  /** Tokens of each stream before the long prompt comes, and again after it: enough to know how streams are alone. */
  readonly alone: number;
}

const known: Record<string, Known> = {
  tiny: {
    directory: async () => fileURLToPath(new URL('../models/tiny-chat', import.meta.url)),
    ...{ rounds: 5, alone: 160 },
  },
  llama: { directory: async () => (await makeLlama()).directory, rounds: 2, alone: 32 },
};

/** Of gaps between tokens, in milliseconds, or of their ratios to what is usual. */
interface Gaps {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

interface Round {
  /** Before the prompt and after it. */
  readonly alone: Gaps;
  readonly beside: Gaps;
  /** Gaps over what is usual, alone and beside the prompt. */
  readonly ratiosAlone: Gaps;
  readonly ratios: Gaps;
  /** Share of the gaps beside the prompt that are longer than the bar allows, and of those alone. */
  readonly over: number;
  readonly overAlone: number;
  /** The same for twice the median of all gaps alone, whatever their contexts. */
  readonly overMedian: number;
  readonly promptSeconds: number;
}

const results: Record<string, object> = {};
for (const what of options.models.split(',')) {
  const [name, threads = options.threads] = what.split('/');
  const directory = await known[name].directory();
  const tokens = Number(options.alone ?? known[name].alone);
  const rounds = Number(options.rounds ?? known[name].rounds);
  const hub = await openModels({ models: [{ name, directory }], threads: Number(threads), memoryShare });
  try {
    const model = hub.get(name);
    const others = await watchOthers();
    const list: Round[] = [];
    for (let i = 0; i < rounds; i++) list.push(await run(model, i, tokens));
    // Medians over the rounds.
    const typical = (of: (round: Round) => number): number => rounded(middle(list.map(of)));
    const summary = {
      p50OverUsual: typical(({ ratios }) => ratios.p50),
      p99OverUsual: typical(({ ratios }) => ratios.p99),
      p99OverUsualAlone: typical(({ ratiosAlone }) => ratiosAlone.p99),
      overTheBar: typical(({ over }) => over),
      overTheBarAlone: typical(({ overAlone }) => overAlone),
      overTwiceTheMedian: typical(({ overMedian }) => overMedian),
      promptSeconds: typical(({ promptSeconds }) => promptSeconds),
      coresOfOthers: await others(),
    };
    const { contextLength: context } = model.spec;
    results[`${name}, threads: ${threads}`] = {
      ...{ device: hub.stats.device, context, prompt: context - ROOM, alone: tokens },
      ...{ preemptions: model.counters.preemptions, ...summary, rounds: list },
    };
    console.log(`${name}, threads: ${threads}:`, summary);
    console.table(
      list.flatMap(({ alone, beside, ratiosAlone, ratios, over, overAlone, promptSeconds }, round) => [
        { round, phase: 'alone', ...alone, 'p99/usual': ratiosAlone.p99, 'over the bar': overAlone, seconds: '' },
        { round, phase: 'beside', ...beside, 'p99/usual': ratios.p99, 'over the bar': over, seconds: promptSeconds },
      ]),
    );
    await writeResult('inter-token', { ...began, streams, memoryShare, bar: BAR, results });
  } finally {
    await hub.close();
  }
}

/** @param tokensAlone tokens of each stream before the long prompt comes, and again after it */
async function run(model: ServedModel, number: number, tokensAlone: number): Promise<Round> {
  const bits = new RandomBits(number + 2);
  const { contextLength, vocabSize } = model.spec;
  const tokens = (count: number): number[] => Array.from({ length: count }, () => 10 + bits.below(vocabSize - 10));
  const times: number[][] = Array.from({ length: streams }, () => []);
  const stopping = new AbortController();
  /** Each stream has so many tokens. */
  let wanted = tokensAlone;
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
  const begun = all();
  const running = times.map(stream);
  await begun;
  const begin = Math.max(...times.map(([first]) => first));
  const from = performance.now();
  let to = from;
  for await (const now of tokenTimes(model, tokens(contextLength - ROOM), 1, stopping.signal)) to = now;
  wanted = tokensAlone + Math.max(...times.map(({ length }) => length));
  await all();
  stopping.abort();
  await Promise.all(running);

  const gaps = (low: number, high: number): Gap[] =>
    times.flatMap((list) =>
      list.flatMap((time, i) =>
        i > 0 && list[i - 1] >= low && time <= high ? [{ time, gap: time - list[i - 1] }] : [],
      ),
    );
  const [before, beside, after] = [gaps(begin, from), gaps(from, to), gaps(to, Infinity)];
  const [first, last] = [lengthsOf(before).p50, lengthsOf(after).p50];
  const usual = (time: number): number => {
    const passed = Math.min(1, Math.max(0, (time - from) / (to - from)));
    return first + passed * (last - first);
  };
  const ratios = (list: readonly Gap[]): number[] => list.map(({ time, gap }) => gap / usual(time));
  const share = (values: readonly number[], most: number): number =>
    rounded(values.filter((value) => value > most).length / values.length);
  const alone = [...before, ...after];
  const lengths = beside.map(({ gap }) => gap);
  return {
    ...{ alone: lengthsOf(alone), beside: lengthsOf(beside) },
    ...{ ratiosAlone: gapsOf(ratios(alone)), ratios: gapsOf(ratios(beside)) },
    ...{ over: share(ratios(beside), BAR), overAlone: share(ratios(alone), BAR) },
    overMedian: share(lengths, BAR * lengthsOf(alone).p50),
    promptSeconds: rounded((to - from) / 1000),
  };
}

interface Gap {
  /** When it ended, and its milliseconds. */
  readonly time: number;
  readonly gap: number;
}

function lengthsOf(gaps: readonly Gap[]): Gaps {
  return gapsOf(gaps.map(({ gap }) => gap));
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
