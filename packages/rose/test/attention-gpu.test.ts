import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '@rose/cute';
import { DeviceMemory, encodeTensorMap, Kernel, type Argument } from '@rose/cuda';
import { KERNELS, makeCase, seededRandom, specialise } from '@rose/kernels';
import {
  decodeAttention,
  expectedAttention,
  prefillAttention,
  randomSequence,
  relativeError,
  type Asked,
  type Backend,
  type Sequence,
  type Settings,
  type Shape,
} from '../../kernels/test/attention-sequences.ts';
import { gpuExecutor, openGpu, type Gpu } from '../src/kernel/gpu.ts';
import { withoutGpu } from './linear-rows.ts';

/** Attention on a GPU: the bits of a token's row whatever is computed beside it, in lengths beyond the simulator. */

const skip = withoutGpu();
/** bf16 weights and results each round to 2^-9; against a float64 reference. */
const CLOSE = 1e-2;

function backendOf(gpu: Gpu, prefill: string): Backend {
  return {
    prefill: KERNELS.find(({ name }) => name === prefill)!,
    run(module, s, grid, args) {
      using kernel = new Kernel(gpu.context, compileKernel(module.trace(s), { arch: gpu.arch }).program);
      using stack = new DisposableStack();
      const maps = module.maps(s);
      const values: Record<string, Argument> = {};
      const outputs: [DeviceMemory, Uint8Array][] = [];
      for (const [name, given] of Object.entries(args)) {
        if (typeof given === 'number') {
          values[name] = given;
          continue;
        }
        const memory = stack.use(new DeviceMemory(gpu.context, given.byteLength));
        const bytes = new Uint8Array(given.buffer, given.byteOffset, given.byteLength);
        memory.write(bytes);
        outputs.push([memory, bytes]);
        const map = maps[name];
        if (map === undefined) values[name] = memory;
        else {
          // As many rows as there are here.
          const row = map.shape.slice(0, -1);
          const shape = [...row, given.length / row.reduce((a, b) => a * b, 1)];
          values[name] = encodeTensorMap(gpu.context, { ...map, shape, memory });
        }
      }
      kernel
        .prepare()
        .grid(...grid)
        .args(values)
        .launch(gpu.stream);
      gpu.stream.synchronize();
      for (const [memory, bytes] of outputs) memory.read(bytes);
    },
  };
}

const SETTINGS: readonly [string, Settings][] = [
  ['causal', {}],
  ['window, cap and sinks', { window: 700, cap: 3, sinks: [0.5, -1, 2, 0] }],
];
const SHAPES: readonly Shape[] = [64, 96, 128, 192, 256].map((head) => ({ qHeads: 4, kvHeads: 2, head }));

for (const shape of SHAPES) {
  for (const [name, settings] of SETTINGS) {
    test(`prompts, heads of ${shape.head}, ${name}: any chunks, batch, pages and kernel`, { skip }, () => {
      using gpu = openGpu(0);
      const [wgmma, mma] = ['attention_prefill_wgmma', 'attention_prefill'].map((prefill) => backendOf(gpu, prefill));
      const [long, other] = [randomSequence(shape, 1500, 1), randomSequence(shape, 77, 2)];
      const row = shape.qHeads * shape.head;
      const whole = prefillAttention([all(long)], shape, settings, 1, wgmma);
      assert.deepEqual(prefillAttention([all(long)], shape, settings, 2, mma), whole, 'by mma.sync');
      assert.deepEqual(prefillAttention([all(long)], shape, settings, undefined, wgmma), whole, 'from rows');
      const random = seededRandom(shape.head);
      for (let round = 0; round < 6; round++) {
        const from = random.integer(1499);
        const to = from + 1 + random.integer(1499 - from);
        const asked = [all(other), { sequence: long, length: to, count: to - from }];
        const got = prefillAttention(asked, shape, settings, 3 + round, round % 3 === 2 ? mma : wgmma);
        assert.deepEqual(got.subarray(77 * row), whole.subarray(from * row, to * row), `tokens ${from} to ${to}`);
      }
      const last = [{ sequence: long, length: 1500, count: 3 }];
      assert.ok(relativeError(whole.subarray(1497 * row), expectedAttention(last, shape, settings)) < CLOSE);
    });

    test(`decoding, heads of ${shape.head}, ${name}: any batch, pages and number of tokens`, { skip }, () => {
      using gpu = openGpu(0);
      const backend = backendOf(gpu, 'attention_prefill');
      const random = seededRandom(shape.head + 1);
      const row = shape.qHeads * shape.head;
      const asked = [1, 16, 511, 512, 513, 1031, 2500].map((length, i) => ({
        sequence: randomSequence(shape, length, 10 + i),
        length,
        count: Math.min(length, 1 + random.integer(8)),
      }));
      const together = decodeAttention(asked, shape, settings, 1, backend);
      assert.ok(relativeError(together, expectedAttention(asked, shape, settings)) < CLOSE);
      let at = 0;
      for (const { sequence, length, count } of asked) {
        const rows = together.subarray(at * row, (at + count) * row);
        for (let token = 0; token < count; token++) {
          const one = [{ sequence, length: length - count + token + 1, count: 1 }];
          const alone = decodeAttention(one, shape, settings, 2 + token, backend);
          const mine = rows.subarray(token * row, (token + 1) * row);
          assert.deepEqual(alone, mine, `${length} tokens, number ${token} of ${count}`);
        }
        at += count;
      }
    });
  }
}

test('prompts over caches of 8 bits: by wgmma, packed or not, the bits of mma.sync', { skip }, async (t) => {
  using gpu = openGpu(0);
  const executor = gpuExecutor(gpu, t.diagnostic.bind(t));
  for (const [i, { head }] of SHAPES.entries()) {
    const dims = { sequences: 2, tokens: 141, longest: 700, shortest: 333, qHeads: 4, kvHeads: 2, head };
    const layout = i % 2 === 0 ? 'paged' : 'rows';
    const wanted = { dims, options: { cache: 'e4m3', type: i % 3 === 0 ? 'f16' : 'bf16', layout, sinks: true } };
    const bits: Uint8Array[] = [];
    for (const [name, tuning] of [
      ['attention_prefill', { pack: false }],
      ['attention_prefill', { pack: true }],
      ['attention_prefill_wgmma', { pack: false }],
      ['attention_prefill_wgmma', { pack: true }],
    ] as const) {
      const module = KERNELS.find((kernel) => kernel.name === name)!;
      const s = specialise(module, { ...wanted, tuning });
      const { args } = makeCase(module, s, head);
      const compiled = compileKernel(module.trace(s), { arch: gpu.arch });
      await executor.run(compiled, args, module.grid(s, { multiprocessors: 132 }));
      const { y } = args;
      assert.ok(typeof y === 'object');
      bits.push(y.bytes);
    }
    for (const i of [1, 2, 3]) assert.ok(Buffer.compare(bits[i], bits[0]) === 0, `heads of ${head}, run ${i}`);
  }
});

function all(sequence: Sequence): Asked {
  return { sequence, length: sequence.length, count: sequence.length };
}
