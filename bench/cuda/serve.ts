/**
 * Llama-3.1-8B's and smaller shapes served by `rose serve --device cuda` over HTTP, as its clients see it (`rose bench serve`), beside
 * Hugging Face transformers on the same GPU in the same run, and beside the bandwidth of a copy.
 *
 *     node --conditions=development --import @rose/cute/register bench/cuda/serve.ts [--shape llama-8b,llama-1b,qwen3-0.6b]
 *       [--name cuda-serve] [--no-peer | --peer-only] [--peer-seconds 200] [--json FILE]
 *
 * Each shape: one stream; 32 streams at a context of 500 to 1,500 tokens, 1,000 in the middle; 256 streams of 128 + 512 tokens; prompts
 * of 8,000 tokens; prompts of 1,000 tokens with short answers, 32 at a time, where both take turns. No prompt is like another's, so that
 * nothing is in the cache. The time from the start of the process to the first token is taken twice: the second time with everything
 * that the first one kept.
 * Where answers are long, `limit` has the rate at which the weights, and the keys and values of contexts half way through the answer,
 * are read at the bandwidth of the copy, and what share of it the clients see. Without --json the result goes to bench/results under
 * the name.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { copyBandwidth } from '@rose/cuda';
import { DriverGpu } from '../../packages/engine/src/device/cuda/driver-gpu.ts';
import { circumstances, writeResult } from '../measure/report.ts';
import { LLAMA_SHAPES, makeLlamaShape, readBytes, tokenBytes, type LlamaShape } from '../models/llama-shapes.ts';
import { StartedServer, type Start } from './started-server.ts';
import { runTransformers } from './transformers-peer.ts';

const { values } = parseArgs({
  options: {
    shape: { type: 'string', default: 'llama-8b' },
    name: { type: 'string', default: 'cuda-serve' },
    'no-peer': { type: 'boolean', default: false },
    'peer-only': { type: 'boolean', default: false },
    /** For each shape; compiling takes most of them. */
    'peer-seconds': { type: 'string', default: '200' },
    json: { type: 'string' },
  },
});

const MAIN = fileURLToPath(new URL('../../packages/rose/src/main.ts', import.meta.url));
const NODE = ['--disable-warning=ExperimentalWarning', '--conditions=development'];

const OPTIONS = ['--no-grpc', '--max-sequences', '256', '--max-rows', '8192'];

interface Load {
  readonly name: string;
  readonly concurrency: number;
  readonly requests: number;
  readonly input: number;
  readonly output: number;
}

const LOADS: readonly Load[] = [
  { name: 'one stream', concurrency: 1, requests: 3, input: 128, output: 256 },
  { name: '32 streams at 1k', concurrency: 32, requests: 32, input: 500, output: 1000 },
  { name: '256 streams', concurrency: 256, requests: 256, input: 128, output: 512 },
  { name: 'prompts of 8k', concurrency: 4, requests: 16, input: 8000, output: 1 },
  { name: 'prompts of 1k, short answers', concurrency: 32, requests: 96, input: 1000, output: 128 },
];

const results: object[] = [];
const shapes = LLAMA_SHAPES.filter(({ name }) => values.shape.split(',').includes(name));
const gpu = DriverGpu.open(0);
const copy = copyBandwidth(gpu.stream.stream);
const device = gpu.description;
gpu.close();
for (const shape of shapes) results.push(await measureShape(shape));
const result = { ...(await circumstances()), device, copyGigabytes: copy / 1e9, results };
if (values.json === undefined) await writeResult(values.name, result);
else writeFileSync(values.json, JSON.stringify(result, undefined, 2));

async function measureShape(shape: LlamaShape): Promise<object> {
  if (values['peer-only'])
    return { shape: shape.name, peer: await runTransformers(shape, Number(values['peer-seconds'])) };
  const directory = await makeLlamaShape(shape);
  const starts: Start[] = [];
  let figures: Record<string, unknown> = {};
  for (const again of [false, true]) {
    const server = await StartedServer.start(directory, OPTIONS);
    try {
      const start = await server.firstToken();
      starts.push(start);
      const seconds = (start.firstTokenMilliseconds / 1000).toFixed(2);
      console.log(`${shape.name}: first token ${seconds} s after the start of the process`);
      for (const line of start.timeline) console.log(`    ${line}`);
      if (again) figures = load(shape, server.url);
    } finally {
      await server.stop();
    }
  }
  const peer = values['no-peer'] ? undefined : await runTransformers(shape, Number(values['peer-seconds']));
  return { shape: shape.name, starts, figures, peer };
}

function load(shape: LlamaShape, url: string): Record<string, unknown> {
  const figures: Record<string, unknown> = {};
  for (const [seed, one] of LOADS.entries()) {
    const { name, concurrency, requests, input, output } = one;
    const json = join(mkdtempSync(join(tmpdir(), 'rose-bench-')), 'result.json');
    const options = { concurrency, requests, 'input-tokens': input, 'output-tokens': output, 'warm-up': 2, seed };
    const run = spawnSync(
      process.execPath,
      [
        ...[...NODE, MAIN, 'bench', 'serve', url, '--api', 'completions', '--ignore-eos', '--json', json],
        ...Object.entries(options).flatMap(([option, value]) => [`--${option}`, String(value)]),
      ],
      { encoding: 'utf8', timeout: 120_000 },
    );
    if (run.status !== 0) throw new Error(`${name}: ${run.stderr}${run.stdout}`);
    const figure = JSON.parse(readFileSync(json, 'utf8')) as { summary: { outputTokensPerSecond: number } };
    const limit = output === 1 ? {} : { limit: limitOf(shape, one, figure.summary.outputTokensPerSecond) };
    figures[name] = { ...figure, ...limit };
    console.log(`--- ${shape.name}, ${name}\n${run.stdout}${JSON.stringify(limit)}`);
  }
  return figures;
}

/** Tokens a second of as many steps as the weights, keys and values can be read in at the bandwidth of a copy. */
function limitOf(
  shape: LlamaShape,
  { concurrency, input, output }: Load,
  rate: number,
): { readonly tokensPerSecond: number; readonly share: number } {
  const bytes = readBytes(shape) + concurrency * (input + output / 2) * tokenBytes(shape);
  const tokensPerSecond = (concurrency * copy) / bytes;
  return { tokensPerSecond, share: rate / tokensPerSecond };
}
