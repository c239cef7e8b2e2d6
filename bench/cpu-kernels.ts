/**
 * Matrix products of the CPU's kernels: GFLOP/s and GB/s of weights by format, rows and threads, with their share of what
 * the machine can do.
 *
 *     node --conditions=development bench/cpu-kernels.ts [--size 2048] [--threads 1,2] [--json FILE]
 */
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { createCpu, type Arena, type Cpu, type MatrixFormat, type Program } from '@rose/cpu';
import { LimitsMeter, type MachineLimits } from './measure/limits.ts';

const FORMATS: readonly MatrixFormat[] = ['f32', 'bf16', 'int8', 'int4'];
const ROWS = [1, 2, 4, 8, 16, 128, 512];
/** Weights that take turns, so that DRAM and not a cache is read where rows are few. */
const ROTATION_BYTES = 256 << 20;
const MOST_MATRICES = 16;
const REPEATS = 3;
/** Time spent on one figure's repeat, at least. */
const MILLISECONDS = 60;

interface Figure {
  readonly threads: number;
  readonly format: MatrixFormat;
  readonly rows: number;
  readonly gigaflops: number;
  /** Share of the multiply-add limit in float32; int8 and int4 may pass 1. */
  readonly flopsShare: number;
  /** GB/s of weights, each read once for all rows. */
  readonly weightGigabytes: number;
  readonly readShare: number;
}

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '2048' },
    threads: { type: 'string', default: '1,2' },
    'no-huge-pages': { type: 'boolean', default: false },
    json: { type: 'string' },
  },
});
const size = Number(values.size);
const figures: Figure[] = [];
const machines: MachineLimits[] = [];
const descriptions: string[] = [];
for (const threads of values.threads.split(',').map(Number)) {
  const meter = new LimitsMeter(threads);
  const cpu = await createCpu({ threads, hugePages: !values['no-huge-pages'] });
  descriptions.push(cpu.description);
  console.log(`\n${cpu.description}`);
  for (const format of FORMATS) {
    // Other load makes any one measurement too small: the best so far counts.
    await meter.measure();
    const limits = meter.best;
    console.log(
      `\nlimits: ${giga(limits.wasmFlopsPerSecond)} GFLOP/s, ${giga(limits.readBytesPerSecond)} GB/s\n` +
        'format   rows   GFLOP/s  of limit     GB/s  of limit',
    );
    await measureFormat(cpu, format, limits);
  }
  machines.push(meter.best);
  meter.close();
  await cpu.close();
}
if (values.json !== undefined) {
  const machine = { cpu: cpus()[0]?.model.trim(), node: process.version, limits: machines };
  const result = { date: new Date().toISOString(), machine, descriptions, inputs: size, outputs: size, figures };
  await writeFile(values.json, `${JSON.stringify(result, undefined, 2)}\n`);
}

/** Each figure is the best of several repeats: others may disturb. */
async function measureFormat(cpu: Cpu, format: MatrixFormat, limits: MachineLimits): Promise<void> {
  const bytes = cpu.matrixBytes(size, size, format);
  const count = Math.max(1, Math.min(MOST_MATRICES, Math.ceil(ROTATION_BYTES / bytes)));
  const most = Math.max(...ROWS);
  const need = { maxRows: most, maxInputs: size, maxContext: 1, maxHeadDim: 1, maxWidth: 1 };
  const room = count * bytes + 4 * size * size + 8 * most * size + cpu.scratchBytes(need);
  const arena = await cpu.createArena(room + 64 * (count + 16 + 4 * cpu.threads));
  arena.reserve(need);
  const [input, output] = [arena.alloc(4 * most * size), arena.alloc(4 * most * size)];
  arena.f32(input, most * size).forEach((_, i, x) => (x[i] = Math.sin(i)));
  const weights = matrices(arena, format, count);
  for (const rows of ROWS) {
    const program = arena.program();
    for (const weight of weights) program.linear({ input, weight, output, rows });
    const seconds = fastest(program);
    const flops = (2 * rows * size * size * count) / seconds;
    const read = (bytes * count) / seconds;
    const figure: Figure = {
      ...{ threads: cpu.threads, format, rows },
      gigaflops: flops / 1e9,
      flopsShare: flops / limits.wasmFlopsPerSecond,
      weightGigabytes: read / 1e9,
      readShare: read / limits.readBytesPerSecond,
    };
    figures.push(figure);
    console.log(
      [
        format.padEnd(6),
        String(rows).padStart(6),
        giga(flops).padStart(9),
        percent(figure.flopsShare).padStart(9),
        giga(read).padStart(8),
        percent(figure.readShare).padStart(9),
      ].join(' '),
    );
  }
  arena.close();
}

function matrices(arena: Arena, format: MatrixFormat, count: number): ReturnType<Arena['matrix']>[] {
  const list = Array.from({ length: count }, () => arena.matrix(size, size, format));
  const source = arena.alloc(4 * size * size);
  arena.f32(source, size * size).forEach((_, i, w) => (w[i] = Math.cos(i)));
  for (const matrix of list) arena.pack(matrix, 0, size, source, 'F32');
  return list;
}

/** Seconds of the fastest run. */
function fastest(program: Program): number {
  program.run();
  let best = Infinity;
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const start = performance.now();
    do {
      const from = performance.now();
      program.run();
      best = Math.min(best, performance.now() - from);
    } while (performance.now() - start < MILLISECONDS);
  }
  return best / 1000;
}

function giga(value: number): string {
  return (value / 1e9).toFixed(1);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}
