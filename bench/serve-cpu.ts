/**
 * Many streams beside one: Rose and llama.cpp (node-llama-cpp) decode 1 and 32 sequences of a synthetic Llama of 374
 * million parameters in bf16. The bar: 32 streams reach at least 2.5 times the tokens a second of one.
 *
 *   node bench/serve-cpu.ts [--streams 32] [--rounds 5] [--threads 2] [--prompt 16] [--generate 33] [--rose-only]
 */
import { parseArgs } from 'node:util';
import type { StreamsRun, StreamsTimes } from './contenders/decoder.ts';
import { llama, makeLlama } from './make-llama.ts';
import { Contender } from './measure/contender.ts';
import { LimitsMeter } from './measure/limits.ts';
import { circumstances, writeResult } from './measure/report.ts';
import { alternate, type Samples } from './measure/rounds.ts';
import { printSummaries, round, summarize } from './measure/summary.ts';
import { RandomBits } from './models/random.ts';

const { values: options } = parseArgs({
  options: {
    streams: { type: 'string', default: '32' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: '2' },
    prompt: { type: 'string', default: '16' },
    generate: { type: 'string', default: '33' },
    'rose-only': { type: 'boolean', default: false },
  },
});
const streams = Number(options.streams);
const rounds = Number(options.rounds);
const threads = Number(options.threads);
const prompt = Number(options.prompt);
const generate = Number(options.generate);

const BAR = 2.5;
const WARM_UP = 5;
const ROSE = 'Rose';
const peers = { 'llama.cpp': { flashAttention: false }, 'llama.cpp, flash attention': { flashAttention: true } };
const isPeer = (name: string): boolean => name !== ROSE;
const cases = { '1 stream': 1, [`${streams} streams`]: streams };

/** Weights that every token is multiplied with: all but the embedding table. */
const MATRIX_WEIGHTS =
  llama.layers * (4 * llama.hidden ** 2 + 3 * llama.hidden * llama.channel) + llama.vocabulary * llama.hidden;

const files = await makeLlama();
const limits = new LimitsMeter(threads);
const rose = Contender.start(new URL('./contenders/rose-decoder.ts', import.meta.url));
const peer = options['rose-only'] ? undefined : Contender.start(new URL('./contenders/llama-cpp.ts', import.meta.url));
try {
  const open = { threads, quantize: undefined, streams };
  const description = {
    [ROSE]: await rose.call<string>('open', { ...open, path: files.directory }),
    ...(peer && { 'llama.cpp': await peer.call<string>('open', { ...open, path: files.bf16 }) }),
  };
  /** Beside the rates of whole runs: while all streams decode and nothing else runs. */
  const decoding: Samples = {};
  const names = [ROSE, ...(peer ? Object.keys(peers) : [])];
  const run = async (name: string, caseName: string, number: number): Promise<number> => {
    const count = cases[caseName];
    const settings = name === ROSE ? {} : peers[name as keyof typeof peers];
    // The round that is thrown away need not be long.
    const length = number < 0 ? Math.min(generate, WARM_UP) : generate;
    const request: StreamsRun = { prompts: promptsOf(count, number), generate: length, ...settings };
    const times = await (name === ROSE ? rose : peer!).call<StreamsTimes>('together', request);
    if (times.some((list) => list.length !== length)) throw new Error(`${name}: a stream ended before its time`);
    if (number >= 0) ((decoding[caseName] ??= {})[name] ??= []).push(decodeRate(times));
    return (1000 * count * length) / Math.max(...times.map((list) => list.at(-1)!));
  };
  process.stderr.write('rounds: ');
  const { samples, load } = await alternate(rounds, Object.keys(cases), names, () => limits.measure(), run);

  if (!peer) console.log({ whole: samples, decoding });
  const gains = Object.fromEntries(names.map((name) => [name, gainsOf(name, samples, decoding)]));
  if (peer) {
    const summaries = { whole: summaryOf(samples), decoding: summaryOf(decoding) };
    printSummaries(`from sending to the last token, prompts of ${prompt}`, 'tokens/s', summaries.whole);
    printSummaries('while all streams decode', 'tokens/s', summaries.decoding);
    await writeResult('serve-cpu', {
      ...(await circumstances()),
      model: { ...llama, parameters: MATRIX_WEIGHTS + llama.vocabulary * llama.hidden, format: 'bf16' },
      streams,
      threads,
      prompt,
      generate,
      limits: limits.best,
      description,
      bar: BAR,
      gains,
      whole: { summary: summaries.whole, samples },
      decoding: { summary: summaries.decoding, samples: decoding },
      load,
    });
  }
  console.log(`\n${streams} streams over one (the bar: ${BAR})`);
  console.table(gains);
} finally {
  peer?.close();
  rose.close();
  limits.close();
}

/** The same for all contenders of a round, new ones in the next. */
function promptsOf(count: number, number: number): number[][] {
  const bits = new RandomBits(1000 * count + number + 1);
  const CONTROL = 2;
  return Array.from({ length: count }, () =>
    Array.from({ length: prompt }, () => CONTROL + bits.below(llama.vocabulary - CONTROL)),
  );
}

/** Tokens a second between the last stream's first token and the first stream's last one. */
function decodeRate(times: StreamsTimes): number {
  const from = Math.max(...times.map((list) => list[0]));
  const to = Math.min(...times.map((list) => list.at(-1)!));
  const decoded = times.flat().filter((time) => time > from && time <= to).length;
  return (1000 * decoded) / (to - from);
}

function summaryOf(samples: Samples): Record<string, ReturnType<typeof summarize>> {
  return Object.fromEntries(
    Object.entries(samples).map(([name, rates]) => [
      name,
      summarize(rates, isPeer, (contender, rate) => shareOf(cases[name], contender, rate)),
    ]),
  );
}

/** One stream reads all weights for every token; many share the reading and multiply. */
function shareOf(count: number, name: string, rate: number): number {
  const cacheBytes = (name === ROSE ? 4 : 2) * 2 * (prompt + generate / 2) * llama.hidden * llama.layers;
  const reads = (2 * MATRIX_WEIGHTS) / count + cacheBytes;
  const operations = 2 * MATRIX_WEIGHTS + 4 * (prompt + generate / 2) * llama.hidden * llama.layers;
  const { readBytesPerSecond, wasmFlopsPerSecond } = limits.best;
  return rate * Math.max(reads / readBytesPerSecond, operations / wasmFlopsPerSecond);
}

/** What many streams give over one: of medians, and the median of the rounds' own ratios. */
function gainsOf(name: string, whole: Samples, decoding: Samples): Record<string, number> {
  const [one, many] = Object.keys(cases);
  const of = (samples: Samples): number[] => samples[many][name].map((rate, i) => rate / samples[one][name][i]);
  const middle = (values: number[]): number => round(values.toSorted((a, b) => a - b)[values.length >> 1], 3);
  return { whole: middle(of(whole)), decoding: middle(of(decoding)) };
}
