import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel, simulate } from '@rose/cute';
import attentionCombine from '../src/attention_combine.ts';
import attentionDecode from '../src/attention_decode.ts';
import attentionPrefill from '../src/attention_prefill.ts';
import attentionPrefillWgmma from '../src/attention_prefill_wgmma.ts';
import attentionRows from '../src/attention_rows.ts';
import { specialise, type Dims, type KernelCase, type KernelModule } from '../src/spec.ts';
import { encode } from '../src/support/storage.ts';
import { seededRandom } from '../src/support/random.ts';
import { decodeAttention, randomSequence, SIMULATED, type Sequence, type Shape } from './attention-sequences.ts';

/** What of a batch is no part of the kernels: how many sequences there are, how long they are, and which are there at all. */

const SHAPE: Shape = { qHeads: 4, kvHeads: 2, head: 64 };

const BATCHES: readonly Dims[] = [
  { sequences: 1, longest: 32768, shortest: 9 },
  { sequences: 1, longest: 9, shortest: 9 },
  { sequences: 700, longest: 300, shortest: 20 },
];

/** With one or several queries of each. */
const PROMPTS: readonly Dims[] = BATCHES.flatMap((batch) => [1, 9].map((tokens) => ({ ...batch, tokens })));

/** Kernels, and of their sizes those that a batch may have otherwise without another kernel. */
const COMPILED: readonly [KernelModule, KernelCase, readonly Dims[]][] = [
  [attentionDecode, { dims: { ...SHAPE, tokens: 2 } }, BATCHES],
  [attentionDecode, { dims: { ...SHAPE, tokens: 1 }, options: { whole: true } }, BATCHES],
  [attentionDecode, { dims: { ...SHAPE, tokens: 1 }, options: { cache: 'e4m3', window: true } }, BATCHES],
  [
    attentionCombine,
    { dims: { qHeads: 4, head: 64, tokens: 2 } },
    [1, 2, 700].map((sequences) => ({ sequences, splits: sequences })),
  ],
  [attentionRows, { dims: { ...SHAPE } }, PROMPTS],
  ...[attentionPrefill, attentionPrefillWgmma].flatMap((module) =>
    [false, true].flatMap((pack) =>
      ['paged', 'rows'].map((layout): [KernelModule, KernelCase, readonly Dims[]] => {
        return [module, { dims: { ...SHAPE }, options: { layout }, tuning: { pack } }, PROMPTS];
      }),
    ),
  ),
];

for (const [module, { dims, ...choice }, batches] of COMPILED) {
  test(`${module.name} ${JSON.stringify(choice)}: one kernel for every batch`, () => {
    const [first, ...others] = batches.map((batch) => {
      const s = specialise(module, { dims: { ...dims, ...batch }, ...choice });
      return compileKernel(module.trace(s), { arch: 'sm_90a' }).program.ptx;
    });
    assert.ok(others.length > 1);
    for (const [i, other] of others.entries()) assert.ok(other === first, JSON.stringify(batches[i + 1]));
  });
}

test('rows of an answer that are asked as sequences of one row each share its pages and keep their bits', () => {
  const sequence = randomSequence(SHAPE, 530, 1);
  const other = { sequence: randomSequence(SHAPE, 40, 2), length: 40, count: 1 };
  const last = [{ sequence, length: 530, count: 8 }];
  const whole = decodeAttention([...last, other], SHAPE);
  const rows = Array.from({ length: 8 }, (_none, i) => ({ sequence, length: 523 + i, count: 1 }));
  assert.deepEqual(decodeAttention([...rows, other], SHAPE, {}, 9), whole);
});

test('many splits are put together by the last of them to the bits of the kernel that does only that', () => {
  const shape: Shape = { qHeads: 1, kvHeads: 1, head: 32 };
  const splits = 18;
  // A window of so many splits that begins in the second, third, fourth or fifth: an item's group is that of its number.
  const asked = [1, 2, 3, 4].map((first) => {
    const length = 512 * (first + splits - 1) + 450;
    return { sequence: cancelling(shape, length, first, splits), length, count: 1 };
  });
  const settings = { window: 512 * (splits - 1) + 194, sinks: [0.5] };
  const whole = decodeAttention(asked, shape, settings, 1, SIMULATED, true);
  assert.deepEqual(whole, decodeAttention(asked, shape, settings));
});

/**
 * A sequence whose splits from `first` on have one huge value each, which is there with both signs: their sum is small, and
 * what is left of it shows in which order they were added.
 */
function cancelling(shape: Shape, length: number, first: number, splits: number): Sequence {
  const sequence = randomSequence(shape, length, first);
  // All tokens count alike.
  sequence.keys.fill(0);
  const random = seededRandom(first);
  for (let e = 0; e < shape.head; e++) {
    const huge = Array.from({ length: splits / 2 }, () => 2 ** (18 + random.integer(5))).flatMap((v) => [v, -v]);
    const order = huge.map((value) => ({ value, at: random.uniform() })).toSorted((x, y) => x.at - y.at);
    const bits = new Uint16Array(
      encode(
        'bf16',
        Float64Array.from(order, ({ value }) => value),
      ).buffer,
    );
    for (let s = 0; s < splits; s++) sequence.values[(512 * (first + s) + 400) * shape.head + e] = bits[s];
  }
  return sequence;
}

/** Runs a kernel in the simulator, which must find nothing. */
function clean(
  module: KernelModule,
  dims: Dims,
  args: Parameters<typeof simulate>[1]['args'],
  grid?: [number, number, number],
): void {
  const s = specialise(module, { dims });
  const { findings } = simulate(module.trace(s), { grid: grid ?? module.grid(s, { multiprocessors: 1 }), args });
  assert.deepEqual(
    findings.map(({ message }) => message),
    [],
  );
}

const NOTHING = { qHeads: 4, kvHeads: 2, head: 64, tokens: 1 } as const;
/** Of what nobody may read there is nothing: one element, where some must be. */
const NONE = Int32Array.of(0);

test('an item that is nothing reads and writes nothing', () => {
  const dims = { ...NOTHING, sequences: 1, longest: 16, shortest: 16 };
  const o = new Float32Array(3 * 4 * 64).fill(7);
  const stats = new Float32Array(3 * 4 * 2).fill(7);
  const args = {
    ...{ q: new Uint16Array(1), keys: new Uint16Array(1), values: new Uint16Array(1) },
    ...{ table: NONE, tableStarts: NONE, rowStarts: NONE, lengths: NONE },
    ...{ items: Int32Array.of(-1, 0, -1, 5, -1, -1), o, stats, scale: 1 },
  };
  clean(attentionDecode, dims, args, [3, 2, 1]);
  assert.ok([...o, ...stats].every((e) => e === 7));
});

test('of a sequence without items nothing is read or written', () => {
  const dims = { sequences: 3, splits: 1, qHeads: 4, head: 64, tokens: 2 };
  const y = new Uint16Array(4 * 64).fill(7);
  const args = {
    ...{ o: new Float32Array(1), stats: new Float32Array(1), items: NONE, rowStarts: NONE, y },
    starts: Int32Array.of(5, 5, 5, 5),
  };
  clean(attentionCombine, dims, args);
  assert.ok(y.every((e) => e === 7));
});

test('of prompts, a sequence without tokens leaves its rows as they are', () => {
  const dims = { ...NOTHING, sequences: 2, tokens: 3, longest: 16, shortest: 16 };
  const y = new Uint16Array(3 * 4 * 64).fill(7);
  const args = {
    ...{ q: new Uint16Array(1), keys: new Uint16Array(1), values: new Uint16Array(1) },
    ...{
      table: NONE,
      tableStarts: Int32Array.of(0, 0),
      rowStarts: Int32Array.of(0, 3, 3),
      lengths: Int32Array.of(0, 0),
    },
    ...{ y, scale: 1 },
  };
  clean(attentionPrefill, dims, args);
  clean(attentionRows, dims, {
    ...args,
    q: new Float32Array(1),
    keys: new Float32Array(1),
    values: new Float32Array(1),
  });
  assert.ok(y.every((e) => e === 7));
});
