/**
 * Rose beside onnxruntime-node: embeddings by a synthetic BERT of the shape of BERT-base, 16 texts of 128 tokens a call.
 *
 *   node bench/bert.ts [--rounds 9] [--threads 2] [--peer-only]
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { EncoderOpen, EncoderResult, EncoderRun } from './contenders/encoder.ts';
import { bert, makeBert } from './make-bert.ts';
import { exists } from './models/cache.ts';
import { RandomBits } from './models/random.ts';
import { Contender } from './measure/contender.ts';
import { LimitsMeter } from './measure/limits.ts';
import { circumstances, writeResult } from './measure/report.ts';
import { alternate } from './measure/rounds.ts';
import { printSummaries, round, summarize } from './measure/summary.ts';

const BATCH = 16;
const LENGTH = 128;
const CASE = `${BATCH} x ${LENGTH}`;

/** All are the same function in float32 arithmetic; cosines are further apart only if one computes something else. */
const SMALLEST_COSINE = 0.9999;

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '9' },
    threads: { type: 'string', default: '2' },
    'peer-only': { type: 'boolean', default: false },
  },
});
const threads = Number(options.threads);
const rounds = Number(options.rounds);

const files = await makeBert();
const onnx = { plain: join(files.onnx, 'model.onnx'), fused: join(files.onnx, 'fused.onnx') };
if (!(await exists(onnx.fused))) throw new Error('run bench/bert_to_onnx.py first: it makes the ONNX files');

/** Rose's two checkpoints hold the same numbers; the peer's best is float32. */
const ours = { 'Rose, float32': files.f32, 'Rose, bfloat16': files.bf16 };
const peers = { onnxruntime: onnx.plain, 'onnxruntime, fused': onnx.fused };

const limits = new LimitsMeter(threads);
const contenders = new Map<string, Contender>();
try {
  const description: Record<string, string> = {};
  const start = async (paths: Record<string, string>, file: string): Promise<void> => {
    for (const [name, path] of Object.entries(paths)) {
      const contender = Contender.start(new URL(`./contenders/${file}`, import.meta.url));
      contenders.set(name, contender);
      description[name] = await contender.call<string>('open', { path, threads } satisfies EncoderOpen);
    }
  };
  if (!options['peer-only']) await start(ours, 'rose-encoder.ts');
  await start(peers, 'onnxruntime.ts');

  const agreement = { smallestCosine: await smallestCosine() };
  process.stderr.write('rounds: ');
  const before = (): Promise<void> => limits.measure();
  const { samples, load } = await alternate(rounds, [CASE], [...contenders.keys()], before, async (name, _, number) => {
    const run: EncoderRun = { inputs: randomInputs(number + 1) };
    const { milliseconds } = await contenders.get(name)!.call<EncoderResult>('run', run);
    return (1000 * BATCH * LENGTH) / milliseconds;
  });
  const share = (_: string, rate: number): number => (rate * operations()) / limits.best.wasmFlopsPerSecond;
  const summary = { [CASE]: summarize(samples[CASE], (name) => name in peers, share) };
  printSummaries(`BERT-base, ${BATCH} texts of ${LENGTH} tokens, ${threads} threads`, 'tokens/s', summary);
  if (!options['peer-only']) {
    await writeResult('bert', {
      ...(await circumstances()),
      model: bert,
      threads,
      limits: limits.best,
      description,
      agreement,
      summary,
      samples,
      load,
    });
  }
} finally {
  limits.close();
  for (const contender of contenders.values()) contender.close();
}

/** float32 operations a token: the matrices, and attention over the sequence. */
function operations(): number {
  const matrices = bert.layers * (4 * bert.hidden ** 2 + 2 * bert.hidden * bert.channel);
  return 2 * matrices + 2 * 2 * LENGTH * bert.hidden * bert.layers;
}

function randomInputs(seed: number): number[][] {
  const bits = new RandomBits(seed);
  const SPECIAL = 5;
  const token = (): number => SPECIAL + bits.below(bert.vocabulary - SPECIAL);
  return Array.from({ length: BATCH }, () => Array.from({ length: LENGTH }, token));
}

/** Between the embeddings of the first contender and those of all others. */
async function smallestCosine(): Promise<number> {
  const inputs = randomInputs(0);
  let reference: readonly Float32Array[] | undefined;
  let smallest = 1;
  for (const [name, contender] of contenders) {
    const { embeddings } = await contender.call<EncoderResult>('run', { inputs } satisfies EncoderRun);
    reference ??= embeddings;
    for (const [i, embedding] of embeddings.entries()) {
      const cosine = embedding.reduce((sum, value, j) => sum + value * reference![i][j], 0);
      if (!(cosine >= SMALLEST_COSINE)) throw new Error(`${name}: cosine ${cosine} to the others' embedding ${i}`);
      smallest = Math.min(smallest, cosine);
    }
  }
  return round(smallest, 8);
}
