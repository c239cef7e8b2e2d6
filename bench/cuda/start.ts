/**
 * From the start of `rose serve` on an NVIDIA GPU to the first token of an answer over HTTP: with empty caches of compiled kernels,
 * and with full ones, the start in the middle of five; the checkpoint is in the system's page cache. When each part of it was done.
 *
 *     node --conditions=development --import @rose/cute/register bench/cuda/start.ts [--shape llama-8b,llama-1b] [--json FILE]
 *
 * Without --json the result goes to bench/results.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { listDevices, loadDriver } from '@rose/cuda';
import { circumstances, writeResult } from '../measure/report.ts';
import { LLAMA_SHAPES, makeLlamaShape } from '../models/llama-shapes.ts';
import { middleOf, StartedServer, type Start } from './started-server.ts';

const { values } = parseArgs({ options: { shape: { type: 'string' }, json: { type: 'string' } } });
const wanted = values.shape?.split(',');
/** Starts with full caches; the one in the middle counts. */
const WARM_STARTS = 5;

interface Figure {
  readonly shape: string;
  readonly emptyCaches: Start;
  readonly fullCaches: Start;
  /** Of all starts with full caches, the milliseconds to the first token, in their order. */
  readonly fullCachesMilliseconds: readonly number[];
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
    const fullCaches = middleOf(warm);
    const fullCachesMilliseconds = warm.map(({ firstTokenMilliseconds }) => firstTokenMilliseconds);
    figures.push({ shape: shape.name, emptyCaches, fullCaches, fullCachesMilliseconds });
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
  const env = { ROSE_CACHE_DIR: caches, CUDA_CACHE_PATH: join(caches, 'driver') };
  const server = await StartedServer.start(directory, [], env);
  try {
    return await server.firstToken();
  } finally {
    await server.stop();
  }
}
