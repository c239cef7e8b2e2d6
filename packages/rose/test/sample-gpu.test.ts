import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '@rose/cute';
import { CudaUnavailableError, listDevices, loadDriver } from '@rose/cuda';
import {
  checkKernel,
  formatReport,
  KERNELS,
  makeCase,
  SAMPLE_WORDS,
  specialise,
  type CaseData,
  type ExecutorArgument,
  type KernelCase,
  type KernelModule,
} from '@rose/kernels';
import { gpuExecutor, openGpu, type Gpu } from '../src/kernel/gpu.ts';

/** Sampling on an NVIDIA GPU with Hopper's clusters, where there is one. */

const skip = whyNot();

function whyNot(): string | false {
  try {
    const [device] = listDevices(loadDriver());
    return device.capability < 90 && `compute capability ${device.capability / 10}`;
  } catch (error) {
    if (error instanceof CudaUnavailableError) return error.message;
    throw error;
  }
}

function moduleOf(name: string): KernelModule {
  return KERNELS.find((module) => module.name === name)!;
}

for (const name of ['sample', 'sample_logprobs', 'sample_history']) {
  test(`${name}: what the definition says, to the bit, also for large vocabularies`, { skip }, async () => {
    using gpu = openGpu(0);
    const module = moduleOf(name);
    const executor = gpuExecutor(gpu, () => {});
    // The reference sorts every row.
    for (const wanted of module.cases.filter(({ dims }) => (dims.rows ?? 1) <= 64)) {
      const s = specialise(module, wanted);
      const compiled = compileKernel(module.trace(s), { arch: gpu.arch });
      const report = await checkKernel(module, s, executor, compiled, { multiprocessors: 132 });
      assert.ok(report.passed, formatReport(report));
    }
  });
}

const ROWS = 35;
const DIMS = { rows: ROWS, vocabulary: 128256, words: ROWS * SAMPLE_WORDS + 40, history: 64, masks: 2 * 4008 };

async function tokens(gpu: Gpu, wanted: KernelCase, change: (data: CaseData) => void = () => {}): Promise<Int32Array> {
  const module = moduleOf('sample');
  const s = specialise(module, wanted);
  const data = makeCase(module, s);
  change(data);
  const compiled = compileKernel(module.trace(s), { arch: gpu.arch });
  await gpuExecutor(gpu, () => {}).run(compiled, data.args, module.grid(s, { multiprocessors: 132 }));
  return Int32Array.from(wordsOf(data.args.token).subarray(0, wanted.dims.rows));
}

function wordsOf(argument: ExecutorArgument): Int32Array {
  assert.ok(typeof argument !== 'number');
  return new Int32Array(argument.bytes.buffer, argument.bytes.byteOffset + argument.offset, argument.length / 4);
}

test('a row’s draw depends on nothing else: not on the grid, the batch or where rows are held', { skip }, async () => {
  using gpu = openGpu(0);
  const expected = await tokens(gpu, { dims: DIMS });
  assert.ok(new Set(expected).size > ROWS / 2);
  for (const tuning of [
    { cluster: 8, threads: 512 },
    { cluster: 8, threads: 1024 },
    { cluster: 4, threads: 256 },
    { cluster: 4, threads: 1024 },
  ]) {
    assert.deepEqual(await tokens(gpu, { dims: DIMS, tuning }), expected, JSON.stringify(tuning));
  }
  assert.deepEqual(await tokens(gpu, { dims: DIMS, options: { held: 'global' } }), expected, 'in global memory');
  const all = makeCase(moduleOf('sample'), specialise(moduleOf('sample'), { dims: DIMS })).args;
  const size = DIMS.vocabulary;
  for (let row = 0; row < ROWS; row += 4) {
    const alone = await tokens(gpu, { dims: { ...DIMS, rows: 1 } }, ({ args }) => {
      wordsOf(args.logits).set(wordsOf(all.logits).subarray(row * size, (row + 1) * size));
      for (const name of ['step', 'history', 'masks']) wordsOf(args[name]).set(wordsOf(all[name]));
      wordsOf(args.step).set(wordsOf(all.step).subarray(row * SAMPLE_WORDS, (row + 1) * SAMPLE_WORDS));
    });
    assert.equal(alone[0], expected[row], `row ${row} alone`);
  }
});
