/**
 * Rose beside llama.cpp: one sequence of a synthetic Llama of 374 million parameters.
 *
 *   node bench/llama.ts [--formats bf16,int4,int8] [--rounds 7] [--threads 2] [--peer-only]
 */
import { parseArgs } from 'node:util';
import { TOP, type DecoderRun, type DecoderTimes, type TopLogprobs } from './contenders/decoder.ts';
import { llama, makeLlama, type LlamaFiles } from './make-llama.ts';
import { Contender } from './measure/contender.ts';
import { LimitsMeter } from './measure/limits.ts';
import { circumstances, writeResult } from './measure/report.ts';
import { alternate } from './measure/rounds.ts';
import { printSummaries, round, summarize } from './measure/summary.ts';
import { RandomBits } from './models/random.ts';

type Format = 'bf16' | 'int4' | 'int8';

/** Rose's format and the one of llama.cpp that a user would compare it with. */
const peerFile: Record<Format, (files: LlamaFiles) => string> = {
  bf16: (files) => files.bf16,
  int4: (files) => files.q4,
  int8: (files) => files.q8,
};
const peerFormat: Record<Format, string> = { bf16: 'BF16', int4: 'Q4_0', int8: 'Q8_0' };

/** Bytes of a weight; Rose's groups of 32 carry a float32 scale, ggml's a float16 one. */
const weightBytes = {
  rose: { bf16: 2, int8: 1 + 4 / 32, int4: 0.5 + 4 / 32 },
  peer: { bf16: 2, int8: 34 / 32, int4: 18 / 32 },
};
/** Rose keeps keys and values in float32, llama.cpp in float16: each engine's default. */
const cacheBytes = { rose: 4, peer: 2 };

interface Case {
  readonly prompt: number;
  readonly generate: number;
  readonly tokensPerSecond: (times: DecoderTimes) => number;
}

const DECODED = 65;
const decodeRate = ({ restMs }: DecoderTimes): number => (1000 * (DECODED - 1)) / restMs;
const cases: Record<string, Case> = {
  'prefill 512': { prompt: 512, generate: 1, tokensPerSecond: ({ firstMs }) => (1000 * 512) / firstMs },
  'decode after 16': { prompt: 16, generate: DECODED, tokensPerSecond: decodeRate },
  'decode after 512': { prompt: 512, generate: DECODED, tokensPerSecond: decodeRate },
};

const ROSE = 'Rose';
const peers = { 'llama.cpp': { flashAttention: false }, 'llama.cpp, flash attention': { flashAttention: true } };
const isPeer = (name: string): boolean => name !== ROSE;

/**
 * How far the two engines' log-probabilities of the most likely tokens may be apart. In bf16 only roundings of
 * activations differ: llama.cpp was within 0.01 of transformers in float32. int8 and int4 are each engine's own
 * quantization of random weights (0.07 and 0.8); another model's logits, of deviation 2, would be several apart.
 */
const agreementBounds: Record<Format, number> = { bf16: 0.03, int8: 0.2, int4: 2 };

const { values: options } = parseArgs({
  options: {
    formats: { type: 'string', default: 'bf16,int4' },
    rounds: { type: 'string', default: '7' },
    threads: { type: 'string', default: '2' },
    'peer-only': { type: 'boolean', default: false },
  },
});
const threads = Number(options.threads);
const rounds = Number(options.rounds);
const formats = options.formats.split(',') as Format[];
for (const format of formats) {
  if (!Object.hasOwn(peerFormat, format)) throw new Error(`--formats: '${format}' is not one of bf16, int8, int4`);
}

const files = await makeLlama();
const limits = new LimitsMeter(threads);
const results: Record<string, object> = {};
try {
  for (const format of formats) results[format] = await compare(format);
} finally {
  limits.close();
}
if (!options['peer-only']) {
  await writeResult('llama', {
    ...(await circumstances()),
    model: { ...llama, parameters: matrixWeights() + llama.vocabulary * llama.hidden },
    threads,
    limits: limits.best,
    results,
  });
}

async function compare(format: Format): Promise<object> {
  const peer = Contender.start(new URL('./contenders/llama-cpp.ts', import.meta.url));
  const rose = options['peer-only']
    ? undefined
    : Contender.start(new URL('./contenders/rose-decoder.ts', import.meta.url));
  try {
    const quantize = format === 'bf16' ? undefined : format;
    const description = {
      'llama.cpp': await peer.call<string>('open', { path: peerFile[format](files), threads, quantize: undefined }),
      ...(rose && { [ROSE]: await rose.call<string>('open', { path: files.directory, threads, quantize }) }),
    };
    const agreement = rose && (await compareLogprobs(format, rose, peer));
    const names = [...(rose ? [ROSE] : []), ...Object.keys(peers)];
    process.stderr.write(`${format}: rounds: `);
    const before = (): Promise<void> => limits.measure();
    const { samples, load } = await alternate(
      rounds,
      Object.keys(cases),
      names,
      before,
      async (name, caseName, number) => {
        const { prompt, generate, tokensPerSecond } = cases[caseName];
        // The same ids for all of a round, new ones in the next: no engine can reuse what it has computed.
        const run: DecoderRun = { tokens: randomTokens(prompt, 1000 * prompt + generate + number), generate };
        const times =
          name === ROSE
            ? await rose!.call<DecoderTimes>('run', run)
            : await peer.call<DecoderTimes>('run', { ...run, ...peers[name as keyof typeof peers] });
        if (times.tokens.length !== generate) throw new Error(`${name} generated ${times.tokens.length} tokens`);
        return tokensPerSecond(times);
      },
    );
    const summary = Object.fromEntries(
      Object.entries(samples).map(([name, rates]) => [
        name,
        summarize(rates, isPeer, (contender, rate) => shareOf(format, cases[name], contender, rate)),
      ]),
    );
    printSummaries(`${format} beside ${peerFormat[format]}, ${threads} threads`, 'tokens/s', summary);
    return {
      formats: { [ROSE]: format, 'llama.cpp': peerFormat[format] },
      description,
      agreement,
      summary,
      samples,
      load,
    };
  } finally {
    peer.close();
    rose?.close();
  }
}

/** Of what the machine allows: memory reads when decoding, multiply-adds in prefill. */
function shareOf(format: Format, { prompt, generate }: Case, name: string, rate: number): number {
  if (generate === 1) return (rate * prefillOperations(prompt)) / limits.best.wasmFlopsPerSecond;
  const side = name === ROSE ? 'rose' : 'peer';
  return (rate * decodeBytes(side, format, prompt + DECODED / 2)) / limits.best.readBytesPerSecond;
}

/** Weights that every token is multiplied with: all but the embedding table. */
function matrixWeights(): number {
  return blockWeights() + llama.vocabulary * llama.hidden;
}

function blockWeights(): number {
  return llama.layers * (4 * llama.hidden ** 2 + 3 * llama.hidden * llama.channel);
}

/** float32 operations for each token of a prompt; its output matrix is needed once. */
function prefillOperations(prompt: number): number {
  const attention = 2 * 2 * (prompt / 2) * llama.hidden * llama.layers;
  return 2 * blockWeights() + attention + (2 * llama.vocabulary * llama.hidden) / prompt;
}

/** Bytes that one token's step reads: weights, keys and values. */
function decodeBytes(side: 'rose' | 'peer', format: Format, context: number): number {
  return matrixWeights() * weightBytes[side][format] + 2 * context * llama.hidden * llama.layers * cacheBytes[side];
}

function randomTokens(length: number, seed: number): number[] {
  const bits = new RandomBits(seed);
  const CONTROL = 2;
  return Array.from({ length }, () => CONTROL + bits.below(llama.vocabulary - CONTROL));
}

/** The two engines must compute the same model before their speeds mean anything. */
async function compareLogprobs(format: Format, rose: Contender, peer: Contender): Promise<object> {
  let largest = 0;
  let sameFirst = 0;
  const lengths = [1, 7, 16, 17, 100, 512];
  for (const length of lengths) {
    const tokens = randomTokens(length, length);
    const ours = await rose.call<TopLogprobs>('top', tokens);
    const theirs = new Map((await peer.call<TopLogprobs>('top', tokens)).map(({ token, logprob }) => [token, logprob]));
    if (ours.length !== TOP) throw new Error(`Rose gave ${ours.length} log-probabilities instead of ${TOP}`);
    if (ours[0].token === theirs.keys().next().value) sameFirst++;
    const common = ours.filter(({ token }) => theirs.has(token));
    if (common.length === 0) largest = Infinity;
    for (const { token, logprob } of common) largest = Math.max(largest, Math.abs(logprob - theirs.get(token)!));
  }
  if (!(largest <= agreementBounds[format])) {
    throw new Error(
      `log-probabilities differ by ${largest}, more than ${agreementBounds[format]}: one engine computes something else`,
    );
  }
  return {
    prompts: lengths,
    largestDifference: round(largest, 3),
    sameMostLikelyToken: `${sameFirst}/${lengths.length}`,
  };
}
