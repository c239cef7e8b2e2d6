/**
 * From the start of `rose serve` on an NVIDIA GPU to the first token of an answer over HTTP: with empty caches of compiled kernels,
 * and with full ones; the checkpoint is in the system's page cache. Of the last start, when each part of it was done.
 *
 *     node --conditions=development --import @rose/cute/register bench/cuda/start.ts [--shape llama-8b,llama-1b] [--json FILE]
 *
 * Without --json the result goes to bench/results.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { listDevices, loadDriver } from '@rose/cuda';
import { circumstances, writeResult } from '../measure/report.ts';
import { LLAMA_SHAPES, makeLlamaShape } from '../models/llama-shapes.ts';

const { values } = parseArgs({ options: { shape: { type: 'string' }, json: { type: 'string' } } });
const wanted = values.shape?.split(',');
const launcher = fileURLToPath(new URL('../../packages/rose/bin/rose.cjs', import.meta.url));
/** Starts with full caches; the best one counts, since whatever else the machine does only adds. */
const WARM_STARTS = 3;

interface Start {
  readonly listeningMilliseconds: number;
  readonly firstTokenMilliseconds: number;
  readonly timeline: readonly string[];
}

interface Figure {
  readonly shape: string;
  readonly emptyCaches: Start;
  readonly fullCaches: Start;
}

const figures: Figure[] = [];
for (const shape of LLAMA_SHAPES) {
  if (wanted !== undefined && !wanted.includes(shape.name)) continue;
  const directory = await makeLlamaShape(shape);
  const caches = mkdtempSync(join(tmpdir(), 'rose-start-'));
  try {
    const emptyCaches = await start(directory, caches);
    const warm: Start[] = [];
    for (let i = 0; i < WARM_STARTS; i++) warm.push(await start(directory, caches));
    const [fullCaches] = warm.toSorted((a, b) => a.firstTokenMilliseconds - b.firstTokenMilliseconds);
    figures.push({ shape: shape.name, emptyCaches, fullCaches });
    const seconds = ({ firstTokenMilliseconds }: Start): string => (firstTokenMilliseconds / 1000).toFixed(2);
    console.log(
      `${shape.name}: first token after ${seconds(fullCaches)} s, with empty caches ${seconds(emptyCaches)} s`,
    );
    console.log(fullCaches.timeline.join('\n'));
  } finally {
    rmSync(caches, { recursive: true, force: true });
  }
}
const result = { ...(await circumstances()), device: String(listDevices(loadDriver())[0]), figures };
if (values.json === undefined) await writeResult('cuda-start', result);
else writeFileSync(values.json, JSON.stringify(result, undefined, 2));

async function start(directory: string, caches: string): Promise<Start> {
  const began = performance.now();
  const child = spawn(
    process.execPath,
    [launcher, 'serve', directory, '--served-model-name', 'm', '--device', 'cuda', '--port', '0', '--timeline'],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ROSE_CACHE_DIR: caches, CUDA_CACHE_PATH: join(caches, 'driver') },
    },
  );
  const ended = new Promise((resolve) => child.once('exit', resolve));
  let said = '';
  try {
    const url = await new Promise<string>((resolve, reject) => {
      child.stderr.on('data', (data: Buffer) => {
        said += String(data);
        const [, found] = /listening on (\S+)/.exec(said) ?? [];
        if (found !== undefined) resolve(found);
      });
      child.once('exit', () => reject(new Error(said)));
    });
    const listening = performance.now() - began;
    const body = { model: 'm', prompt: 'Once upon a time', max_tokens: 2, ignore_eos: true, stream: true };
    const response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const reader = response.body!.getReader();
    await reader.read();
    const first = performance.now() - began;
    await reader.cancel();
    if (response.status !== 200) throw new Error(`the request was answered with ${response.status}: ${said}`);
    const timeline = said.split('timeline in ms since the process began\n')[1]?.trimEnd().split('\n') ?? [];
    return { listeningMilliseconds: listening, firstTokenMilliseconds: first, timeline };
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}
