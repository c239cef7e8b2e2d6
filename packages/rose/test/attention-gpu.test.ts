import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '@rose/cute';
import { DeviceMemory, encodeTensorMap, Kernel, type Argument } from '@rose/cuda';
import { KERNELS, makeCase, seededRandom, specialise } from '@rose/kernels';
import { PAGE } from '../../kernels/src/support/page.ts';
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

/** `before`: pages of the cache before those that are used, of which nothing is written. */
function backendOf(gpu: Gpu, prefill: string, before = 0): Backend {
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
        const { kvHeads, head } = s.dims;
        const unused = name === 'keys' || name === 'values' ? before * kvHeads * PAGE * head : 0;
        const memory = stack.use(new DeviceMemory(gpu.context, unused * given.BYTES_PER_ELEMENT + given.byteLength));
        const own = name === 'table' ? given.map((page) => page + before) : given;
        const bytes = new Uint8Array(own.buffer, own.byteOffset, own.byteLength);
        memory.write(bytes, unused * given.BYTES_PER_ELEMENT);
        if (name !== 'keys' && name !== 'values') outputs.push([memory, bytes]);
        const map = maps[name];
        if (map === undefined) values[name] = memory;
        else {
          // As many rows as there are here.
          const row = map.shape.slice(0, -1);
          const shape = [...row, (unused + given.length) / row.reduce((a, b) => a * b, 1)];
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
const SHAPES: readonly Shape[] = [32, 64, 96, 128, 192, 256].map((head) => ({ qHeads: 4, kvHeads: 2, head }));

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
      for (let round = 0; round < 20; round++) {
        assert.deepEqual(
          decodeAttention(asked, shape, settings, 2, backend, true),
          together,
          `by one kernel, ${round}`,
        );
      }
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

for (const head of [16, 32, 80, 256]) {
  for (const [name, settings] of SETTINGS) {
    test(
      `by multiply-adds, heads of ${head}, ${name}: prompts and answers, any chunks, batch and pages`,
      { skip },
      () => {
        using gpu = openGpu(0);
        const backend = backendOf(gpu, 'attention_rows');
        const shape = { qHeads: 6, kvHeads: 2, head };
        const row = shape.qHeads * head;
        const own = settings.sinks ? { ...settings, sinks: [0.5, -1, 2, 0, 1, -2] } : settings;
        const [long, other] = [randomSequence(shape, 1100, 1), randomSequence(shape, 77, 2)];
        const whole = prefillAttention([all(long)], shape, own, 1, backend);
        const last = [{ sequence: long, length: 1100, count: 3 }];
        assert.ok(relativeError(whole.subarray(1097 * row), expectedAttention(last, shape, own)) < CLOSE);
        const random = seededRandom(head);
        for (let round = 0; round < 6; round++) {
          const from = random.integer(1099);
          const to = round % 2 === 0 ? from + 1 : from + 1 + random.integer(1099 - from);
          const asked = [all(other), { sequence: long, length: to, count: to - from }];
          const got = prefillAttention(asked, shape, own, round === 5 ? undefined : 3 + round, backend);
          assert.deepEqual(got.subarray(77 * row), whole.subarray(from * row, to * row), `tokens ${from} to ${to}`);
        }
      },
    );
  }
}

/** 2^31 elements of keys lie before the first page that is used. */
const FAR_SHAPE: Shape = { qHeads: 8, kvHeads: 8, head: 128 };
const FAR = 2 ** 31 / (FAR_SHAPE.kvHeads * PAGE * FAR_SHAPE.head) + 3;

test('caches of more than 2^31 elements are read where the pages are', { skip }, () => {
  using gpu = openGpu(0);
  const shape = FAR_SHAPE;
  const asked = [700, 33].map((length, i) => ({ sequence: randomSequence(shape, length, i), length, count: 5 }));
  for (const prefill of ['attention_prefill_wgmma', 'attention_prefill', 'attention_rows']) {
    const [near, far] = [0, FAR].map((before) =>
      prefillAttention(asked, shape, {}, 1, backendOf(gpu, prefill, before)),
    );
    assert.deepEqual(far, near, prefill);
  }
  const [near, far] = [0, FAR].map((before) => decodeAttention(asked, shape, {}, 1, backendOf(gpu, 'none', before)));
  assert.deepEqual(far, near, 'attention_decode');
});

test('and written there', { skip }, () => {
  using gpu = openGpu(0);
  const module = KERNELS.find(({ name }) => name === 'qk_rope_cache')!;
  const dims = { ...FAR_SHAPE, tokens: 40, rotary: 128, positions: 50, pages: 9 };
  const s = specialise(module, { dims });
  const { args } = makeCase(module, s);
  const run = (before: number): Record<string, Uint8Array> => {
    using kernel = new Kernel(gpu.context, compileKernel(module.trace(s), { arch: gpu.arch }).program);
    using stack = new DisposableStack();
    const values: Record<string, Argument> = {};
    const caches: Record<string, () => Uint8Array> = {};
    for (const [name, given] of Object.entries(args)) {
      if (typeof given === 'number') {
        values[name] = given;
        continue;
      }
      const bytes = given.bytes.slice(given.offset, given.offset + given.length);
      if (name === 'slots') {
        const slots = new Int32Array(bytes.buffer);
        for (const [i, slot] of slots.entries()) if (slot >= 0) slots[i] = slot + before * PAGE;
      }
      const isCache = name === 'keys' || name === 'values';
      const offset = isCache ? (before / dims.pages) * bytes.length : 0;
      const memory = stack.use(new DeviceMemory(gpu.context, offset + bytes.length));
      memory.write(bytes, offset);
      values[name] = memory;
      if (isCache) {
        caches[name] = () => {
          memory.read(bytes, offset);
          return bytes;
        };
      }
    }
    kernel
      .prepare()
      .grid(...module.grid(s, { multiprocessors: 1 }))
      .args(values)
      .launch(gpu.stream);
    gpu.stream.synchronize();
    return Object.fromEntries(Object.entries(caches).map(([name, read]) => [name, read()]));
  };
  assert.deepEqual(run(FAR), run(0));
});

function all(sequence: Sequence): Asked {
  return { sequence, length: sequence.length, count: sequence.length };
}
