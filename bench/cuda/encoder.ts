/**
 * An encoder of BERT-base's shape with random weights, bf16, from a real checkpoint on an NVIDIA GPU: tokens a second and
 * milliseconds of steps of the device alone, of the library's `embed`, and of `POST /v1/embeddings`, beside PyTorch with SDPA on
 * the same GPU in the same run.
 *
 *     node --conditions=development --import @rose/cute/register bench/cuda/encoder.ts [--no-peer] [--json FILE]
 *
 * Token ids go in, so no tokenizer is measured. Without --json the result goes to bench/results.
 */
import { spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { copyBandwidth } from '@rose/cuda';
import { openModels } from '@rose/engine';
import { openCheckpoint } from '../../packages/engine/src/checkpoint/open.ts';
import { DriverGpu } from '../../packages/engine/src/device/cuda/driver-gpu.ts';
import { CudaModel } from '../../packages/engine/src/device/cuda/model.ts';
import { Batch } from '../../packages/engine/src/engine/batch.ts';
import { bert, makeBert } from '../make-bert.ts';
import { circumstances, writeResult } from '../measure/report.ts';
import { RandomBits } from '../models/random.ts';
import { timeSteps } from './time-steps.ts';

const { values } = parseArgs({ options: { 'no-peer': { type: 'boolean', default: false }, json: { type: 'string' } } });

interface Case {
  readonly sequences: number;
  readonly tokens: number;
}

/** A call's figures. */
interface Figure extends Case {
  readonly milliseconds: number;
  readonly range: readonly [fastest: number, slowest: number];
  readonly tokensPerSecond: number;
}

const CASES: readonly Case[] = [
  { sequences: 64, tokens: 512 },
  { sequences: 8, tokens: 512 },
  { sequences: 1, tokens: 32 },
];
/** Rows of a step: what the engine takes by default, and all of the largest case. */
const MOST_ROWS = [4096, 64 * 512];
const CALLS = 30;
const WARM_UP = 5;
/** Calls under way at one time, where tokens a second are wanted rather than the time of one call. */
const AT_ONCE = 3;
const NAME = 'bert';
/** What the figures are held against. */
const BARS = { '64 x 512, tokens a second': 2_200_000, '1 x 32, milliseconds': 0.6 };

const gpu = DriverGpu.open(0);
const copy = copyBandwidth(gpu.stream.stream);
const device = gpu.description;
const { bf16: directory } = await makeBert();
const steps = await measureSteps();
gpu.close();
const library: object[] = [];
for (const maxRows of MOST_ROWS) library.push({ maxRows, ...(await measureLibrary(maxRows)) });
const http = { maxRows: MOST_ROWS[1], figures: await measureHttp(MOST_ROWS[1]) };
const peer = values['no-peer'] ? undefined : peers();
const result = {
  ...(await circumstances()),
  ...{ device, copyGigabytes: Number((copy / 1e9).toFixed(0)), model: bert, bars: BARS, steps, library, http },
  ...(peer === undefined ? {} : { peer }),
};
if (values.json === undefined) await writeResult('cuda-encoder', result);
else writeFileSync(values.json, JSON.stringify(result, undefined, 2));

/** Steps of the device, two under way at a time, as the engine has them. */
async function measureSteps(): Promise<readonly object[]> {
  const checkpoint = await openCheckpoint(directory);
  const options = { quantize: undefined, cacheDtype: undefined, maxSequences: 64, maxRows: MOST_ROWS[1] };
  const model = await CudaModel.load(gpu, checkpoint, options);
  const figures: object[] = [];
  for (const { sequences, tokens } of CASES) {
    const batch = new Batch(model.capacity);
    batch.clear();
    for (const ids of inputsOf({ sequences, tokens }, 1)) {
      const pages = Int32Array.from({ length: Math.ceil(tokens / 16) }, (_, i) => batch.pages + i);
      batch.addSequence(Int32Array.from(ids), undefined, 0, tokens, [pages], pages.length);
    }
    const { milliseconds, alone, host } = await timeSteps(model, batch, CALLS);
    const rate = (1000 * sequences * tokens) / milliseconds;
    figures.push({ sequences, tokens, milliseconds, alone, hostMicroseconds: host, tokensPerSecond: rate });
    console.log(
      `step ${sequences} x ${tokens}: ${milliseconds.toFixed(3)} ms, ${rate.toFixed(0)} tokens/s, alone ${alone.toFixed(3)} ms`,
    );
  }
  model.close();
  await checkpoint.close();
  return figures;
}

async function measureLibrary(maxRows: number): Promise<{ readonly figures: readonly Figure[] }> {
  const hub = await openModels({ models: [{ name: NAME, directory }], device: 'cuda', maxRows, maxSequences: 128 });
  try {
    const model = hub.get(NAME);
    return {
      figures: await measureCalls(`library, ${maxRows} rows`, async (inputs) => {
        const { embeddings } = await model.embed({ inputs });
        return embeddings[0];
      }),
    };
  } finally {
    await hub.close();
  }
}

async function measureHttp(maxRows: number): Promise<readonly Figure[]> {
  const launcher = fileURLToPath(new URL('../../packages/rose/bin/rose.cjs', import.meta.url));
  const options = [
    '--device',
    'cuda',
    '--port',
    '0',
    '--no-grpc',
    '--max-rows',
    String(maxRows),
    '--max-sequences',
    '128',
  ];
  const child = spawn(process.execPath, [launcher, 'serve', directory, '--served-model-name', NAME, ...options], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  try {
    let said = '';
    const url = await new Promise<string>((resolve, reject) => {
      child.stderr.on('data', (data: Buffer) => {
        said += String(data);
        const [, found] = /listening on (\S+)/.exec(said) ?? [];
        if (found !== undefined) resolve(found);
      });
      child.once('exit', () => reject(new Error(said)));
    });
    return await measureCalls('http', async (inputs) => {
      const response = await fetch(`${url}/v1/embeddings`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: NAME, input: inputs, encoding_format: 'base64' }),
      });
      if (!response.ok) throw new Error(await response.text());
      const { data } = (await response.json()) as { data: { embedding: string }[] };
      return new Float32Array(Uint8Array.from(Buffer.from(data[0].embedding, 'base64')).buffer);
    });
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}

type Embed = (inputs: number[][]) => Promise<Float32Array>;

/** Each case: the time of one call after the other, and the rate of several at a time. */
async function measureCalls(what: string, embed: Embed): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  for (const one of CASES) {
    const { sequences, tokens } = one;
    const inputs = Array.from({ length: WARM_UP + CALLS }, (_, i) => inputsOf(one, i));
    const times: number[] = [];
    for (const [i, input] of inputs.entries()) {
      const began = performance.now();
      const vector = await embed(input);
      if (i >= WARM_UP) times.push(performance.now() - began);
      const length = Math.hypot(...vector);
      if (vector.length !== bert.hidden || Math.abs(length - 1) > 1e-3) throw new Error(`a vector of length ${length}`);
    }
    const began = performance.now();
    let next = 0;
    const caller = async (): Promise<void> => {
      while (next < inputs.length) await embed(inputs[next++]);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, caller));
    const rate = (1000 * inputs.length * sequences * tokens) / (performance.now() - began);
    times.sort((a, b) => a - b);
    const figure = {
      sequences,
      tokens,
      milliseconds: times[Math.floor(times.length / 2)],
      range: [times[0], times.at(-1)!] as const,
      tokensPerSecond: rate,
    };
    figures.push(figure);
    console.log(
      `${what} ${sequences} x ${tokens}: ${figure.milliseconds.toFixed(3)} ms a call; ${AT_ONCE} at a time ${rate.toFixed(0)} tokens/s`,
    );
  }
  return figures;
}

function inputsOf({ sequences, tokens }: Case, seed: number): number[][] {
  const bits = new RandomBits(seed + 1);
  const SPECIAL = 5;
  const token = (): number => SPECIAL + bits.below(bert.vocabulary - SPECIAL);
  return Array.from({ length: sequences }, () => Array.from({ length: tokens }, token));
}

function peers(): object {
  const script = fileURLToPath(new URL('../encoder/peer.py', import.meta.url));
  const run = spawnSync('python3', [script], { encoding: 'utf8', timeout: 120_000 });
  if (run.status !== 0) return { failed: run.error?.message ?? run.stderr.trim().split('\n').at(-1) };
  console.log(run.stdout.trim());
  return JSON.parse(run.stdout) as object;
}
