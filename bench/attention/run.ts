/**
 * Attention on an NVIDIA GPU: decoding (beside the bandwidth of a device-to-device copy) and prompts (beside
 * PyTorch's flash and cuDNN attention in the same run, before and after). Graphs are replayed, inputs rotate, numbers are
 * medians; of prompts the better of two, as for the peers.
 *
 *     node --conditions=development --import @rose/cute/register bench/attention/run.ts [--no-peer] [--only decode] [--json FILE]
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { versionText } from '@rose/cuda';
import { compileKernel } from '@rose/cute';
import { KERNELS, specialise, type KernelModule } from '@rose/kernels';
import { copyOf, openGpu, timeKernel } from '../../packages/rose/src/kernel/gpu.ts';
import { circumstances, writeResult } from '../measure/report.ts';

const HEADS = { qHeads: 32, kvHeads: 8, head: 128 } as const;

const { values } = parseArgs({
  options: { 'no-peer': { type: 'boolean', default: false }, only: { type: 'string' }, json: { type: 'string' } },
});
if (values.only !== undefined && values.only !== 'decode')
  throw new Error(`--only ${values.only}: only decode can be asked`);
const decodeOnly = values.only !== undefined;
using gpu = openGpu(0);
const { context } = gpu;
const copy = copyOf(gpu);
console.log(`${context.device.name}: a device-to-device copy moves ${(copy / 1e9).toFixed(0)} GB/s`);

const decoding = [
  { sequences: 32, length: 4096, cache: 'same' },
  { sequences: 128, length: 2048, cache: 'same' },
  { sequences: 1, length: 32768, cache: 'same' },
  { sequences: 32, length: 1024, cache: 'same' },
  { sequences: 32, length: 4096, cache: 'e4m3' },
].map((one) => decode(one));
const prompts: readonly Prompts[] = [
  { sequences: 1, tokens: 8192, head: 128 },
  { sequences: 1, tokens: 2048, head: 128 },
  { sequences: 1, tokens: 8192, head: 64 },
  { sequences: 1, tokens: 8192, head: 256 },
  { sequences: 1, tokens: 8192, head: 128, kvHeads: 8, cache: 'e4m3' },
  { sequences: 1, tokens: 8192, head: 256, kvHeads: 8, cache: 'e4m3' },
  { sequences: 32, tokens: 16, head: 128, length: 4096, kvHeads: 8, pack: false },
  { sequences: 32, tokens: 16, head: 128, length: 4096, kvHeads: 8, pack: true },
];
// Clocks fall where much is asked of a GPU for long: each goes first once, and each goes last once.
const asked = decodeOnly ? [] : prompts;
const before = peers();
const first = asked.map((one) => prefill(one));
const after = peers();
const second = asked.map((one) => prefill(one));
const prefills = first.map((one, i) => (one.microseconds <= second[i].microseconds ? one : second[i]));
const result = {
  ...(await circumstances()),
  ...{ device: context.device.name, driver: versionText(context.driver.version), copyGigabytes: copy / 1e9 },
  ...{ decoding, prompts: prefills, ...(before && after && { peer: [...before, ...after] }) },
};
if (values.json === undefined) await writeResult('attention', result);
else writeFileSync(values.json, JSON.stringify(result, undefined, 2));

function moduleOf(name: string): KernelModule {
  return KERNELS.find((kernel) => kernel.name === name)!;
}

/** One token of each sequence: `attention_decode`, which puts splits together itself, by the bytes of keys and values. */
function decode({ sequences, length, cache }: { sequences: number; length: number; cache: string }): object {
  const module = moduleOf('attention_decode');
  const dims = { sequences, tokens: 1, longest: length, shortest: length, ...HEADS };
  const s = specialise(module, { dims, options: { cache, whole: true } });
  const bytes = 2 * sequences * length * HEADS.kvHeads * HEADS.head * (cache === 'same' ? 2 : 1);
  const { median } = timeKernel(gpu, module, s, compileKernel(module.trace(s), { arch: gpu.arch }), copy);
  const figure = { sequences, length, cache, microseconds: median, copyShare: (bytes * 1e6) / median / copy };
  console.log(figure);
  return figure;
}

interface Prompts {
  readonly sequences: number;
  readonly tokens: number;
  readonly head: number;
  /** Tokens of each sequence, where not all of them ask. */
  readonly length?: number;
  readonly kvHeads?: number;
  readonly cache?: string;
  readonly pack?: boolean;
}

interface PromptFigure extends Prompts {
  readonly kernel: string;
  readonly microseconds: number;
  readonly teraflops: number;
}

function prefill({
  sequences,
  tokens,
  head,
  length = tokens,
  kvHeads = 32,
  cache = 'same',
  pack,
}: Prompts): PromptFigure {
  const module = moduleOf(gpu.arch === 'sm_90a' ? 'attention_prefill_wgmma' : 'attention_prefill');
  const dims = { sequences, tokens, longest: length, shortest: length, qHeads: 32, kvHeads, head };
  const s = specialise(module, { dims, options: { cache }, tuning: pack === undefined ? {} : { pack } });
  const timing = timeKernel(gpu, module, s, compileKernel(module.trace(s), { arch: gpu.arch }), copy);
  const figure = {
    kernel: module.name,
    sequences,
    tokens,
    head,
    ...{ length, kvHeads, cache, pack: s.tuning['pack'] as boolean },
    microseconds: timing.median,
    teraflops: timing.rate / 1e12,
  };
  console.log(figure);
  return figure;
}

function peers(): string[] | undefined {
  if (values['no-peer'] || decodeOnly) return undefined;
  const script = fileURLToPath(new URL('peer.py', import.meta.url));
  const { status, stdout, stderr, error } = spawnSync('python3', [script], { encoding: 'utf8' });
  if (status !== 0) console.log(`no peer: ${error?.message ?? stderr.trim().split('\n').at(-1)}`);
  else console.log(stdout);
  return status === 0 ? stdout.trim().split('\n') : undefined;
}
