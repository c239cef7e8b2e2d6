import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mbarrier, fenceAsync, fenceBarrierInit } from '../src/atoms/barrier.ts';
import { clusterLaunchQuery, clusterLaunchTryCancel } from '../src/atoms/cluster.ts';
import {
  barrier,
  emit,
  loadFrom,
  loop,
  moved,
  newSlot,
  readSlot,
  sharedBytes,
  storeTo,
  when,
  writeSlot,
} from '../src/atoms/record.ts';
import {
  tensorMapAcquire,
  tensorMapCopy,
  tensorMapPublish,
  tensorMapReplace,
  tmaLoad,
  tmaStore,
} from '../src/atoms/tma.ts';
import { bulkCommit, bulkWait } from '../src/atoms/async-copy.ts';
import { compileKernel } from '../src/compile.ts';
import type { KernelIR, Value } from '../src/ir/ir.ts';
import { runPasses } from '../src/passes/passes.ts';
import type { SimulatorResult } from '../src/sim/api.ts';
import { simulate } from '../src/sim/simulate.ts';
import type { TensorMapDescription } from '../src/types/tensor-map.ts';
import { assemble, WITHOUT_PTXAS } from './ptxas.ts';
import { block, recordKernel, tensor, thread } from './record-kernel.ts';
import { kinds } from './sim-kernel.ts';

type Mistake = 'no publish' | 'no acquire' | 'no map' | 'past the tensor' | 'changed again';

const COLUMNS = 32;

/** Every CTA copies its matrix of COLUMNS x `rows[cta]` numbers from the tensor's start at `starts[cta]`, through a map of its own. */
function grouped(mistake?: Mistake): KernelIR {
  const params = [
    { kind: 'tensormap', name: 'template' } as const,
    tensor('x', 'f32'),
    tensor('y', 'f32', 'write'),
    tensor('maps', 'u8', 'readwrite'),
    tensor('starts', 'i32'),
    tensor('rows', 'i32'),
  ];
  return recordKernel('grouped', { threads: [32, 1, 1], params }, (template, x, y, maps, starts, rows) => {
    'use gpu';
    const tile = sharedBytes('tile', COLUMNS * 8 * 4, 128, 'f32');
    const copy = sharedBytes('map', 128, 128, 'b8');
    const full = mbarrier('full');
    const cta = block();
    const mine = moved(maps, cta, 128);
    if (mistake !== 'no map') tensorMapCopy(copy, template);
    if (thread() === 0) {
      full.init(1);
      fenceBarrierInit();
      const first = loadFrom(moved(starts, cta, 4), 'i32');
      tensorMapReplace(copy, 'global_address', moved(x, first, 4));
      const height = loadFrom(moved(rows, cta, 4), 'i32');
      tensorMapReplace(copy, 'global_dim', mistake === 'past the tensor' ? height + 1000 : height, 1);
    }
    barrier();
    if (mistake !== 'no publish') tensorMapPublish(mine, copy);
    else tensorMapCopyOut(mine, copy);
    if (mistake !== 'no acquire') tensorMapAcquire(mine);
    if (mistake === 'changed again') tensorMapPublish(mine, copy);
    if (thread() === 0) {
      full.expect(COLUMNS * 8 * 4);
      tmaLoad(tile, mine, [0, 0], full);
    }
    full.wait(0);
    for (let row = 0; row < 8; row++) {
      const value = loadFrom(moved(moved(tile, row * COLUMNS, 4), thread(), 4), 'f32');
      storeTo(moved(y, (cta * 8 + row) * COLUMNS + thread(), 4), value, 'f32');
    }
  });
}

/** What a published map is not: written by ordinary stores. */
function tensorMapCopyOut(to: Value, from: Value): void {
  storeTo(moved(to, thread(), 4), loadFrom(moved(from, thread(), 4), 'b32'), 'b32');
  emit('warp_sync', { attributes: { mask: 0xffffffff } });
}

const HEIGHTS = [3, 8, 5];
const STARTS = [0, 96, 352];

function runGrouped(mistake?: Mistake): { result: SimulatorResult; y: Float32Array } {
  const x = Float32Array.from({ length: 32 * 16 }, (_, i) => i);
  const y = new Float32Array(3 * 8 * COLUMNS);
  const map: TensorMapDescription = { element: 'f32', shape: [COLUMNS, 1], box: [COLUMNS, 8] };
  const result = simulate(runPasses(grouped(mistake)), {
    grid: [3, 1, 1],
    args: {
      template: { map, tensor: x },
      ...{ x, y, maps: new Uint8Array(3 * 128), starts: Int32Array.from(STARTS), rows: Int32Array.from(HEIGHTS) },
    },
  });
  return { result, y };
}

test('tensor maps are copied, changed, published and acquired: each CTA has its own', () => {
  const { result, y } = runGrouped();
  assert.deepEqual(
    result.findings.map(({ message }) => message),
    [],
  );
  const expected = Float32Array.from(y, (_, i) => {
    const cta = Math.floor(i / (8 * COLUMNS));
    const row = Math.floor(i / COLUMNS) % 8;
    return row < HEIGHTS[cta] ? STARTS[cta] + row * COLUMNS + (i % COLUMNS) : 0;
  });
  assert.deepEqual(y, expected);
});

for (const [mistake, message] of [
  ['no publish', /was written and not published since/],
  ['no acquire', /this thread has not acquired it since/],
  ['changed again', /this thread has not acquired it since/],
  ['no map', /read before anybody wrote it|holds no tensor map/],
  ['past the tensor', /the tensor ends at byte \d+ and its memory has/],
] as const) {
  test(`tensor maps in memory: ${mistake}`, () => {
    const { result } = runGrouped(mistake);
    assert.ok(
      result.findings.some((finding) => message.test(finding.message)),
      result.findings.map((finding) => finding.message).join('\n'),
    );
  });
}

test('a kernel that changes tensor maps assembles', { skip: WITHOUT_PTXAS }, () => {
  const { program } = compileKernel(grouped(), { arch: 'sm_90a' });
  assert.equal(assemble(program.ptx, 'sm_90a').errors, '');
});

/** A 3 x 3 convolution's columns: pixels of a box between two corners, for one element of the filter. */
function im2col(direction: 'load' | 'store'): KernelIR {
  const params = [
    { kind: 'tensormap', name: 'from' } as const,
    { kind: 'tensormap', name: 'to' } as const,
    { kind: 'value', name: 'w', type: 'i32' } as const,
    { kind: 'value', name: 'h', type: 'i32' } as const,
  ];
  return recordKernel('im2col', { threads: [32, 1, 1], params }, (from, to, w, h) => {
    'use gpu';
    const tile = sharedBytes('tile', 4 * 16 * 4, 128, 'f32');
    const full = mbarrier('full');
    if (thread() === 0) {
      full.init(1);
      fenceBarrierInit();
      full.expect(4 * 16 * 4);
      const offsets = [w, h] as unknown as number[];
      if (direction === 'load') tmaLoad(tile, from, [0, -1, 2, 0], full, { mode: 'im2col', offsets });
      else tmaLoad(tile, from, [0, 0], full);
      full.wait(0);
      fenceAsync();
      if (direction === 'load') tmaStore(to, [0, 0], tile);
      else tmaStore(to, [0, -1, 2, 0], tile, { mode: 'im2col' });
      bulkCommit();
      bulkWait(0);
    }
  });
}

const [CHANNELS, WIDTH, HEIGHT, IMAGES] = [4, 5, 4, 2];
const CORNERS = { lower: [-1, -1], upper: [-1, -1] };
const IMAGE: TensorMapDescription = {
  ...{ element: 'f32', shape: [CHANNELS, WIDTH, HEIGHT, IMAGES], box: [CHANNELS, 16], im2col: CORNERS },
};
const ROWS: TensorMapDescription = { element: 'f32', shape: [CHANNELS, 16], box: [CHANNELS, 16] };

/** The 16 pixels from (-1, 2) of image 0 on, row by row between the corners; absent where they lie outside. */
function pixels(shiftW: number, shiftH: number): (number | undefined)[] {
  const out: (number | undefined)[] = [];
  let [w, h, n] = [-1, 2, 0];
  for (let i = 0; i < 16; i++) {
    const [x, y] = [w + shiftW, h + shiftH];
    const inside = x >= 0 && x < WIDTH && y >= 0 && y < HEIGHT && n < IMAGES;
    out.push(inside ? ((n * HEIGHT + y) * WIDTH + x) * CHANNELS : undefined);
    if (++w > WIDTH - 2) {
      w = -1;
      if (++h > HEIGHT - 2) [h, n] = [-1, n + 1];
    }
  }
  return out;
}

test('im2col loads the pixels of a filter element, zero outside of the image', () => {
  for (const [w, h] of [
    [0, 0],
    [1, 2],
    [2, 1],
  ]) {
    const image = Float32Array.from({ length: CHANNELS * WIDTH * HEIGHT * IMAGES }, (_, i) => i + 1);
    const out = new Float32Array(CHANNELS * 16);
    const args = { from: { map: IMAGE, tensor: image }, to: { map: ROWS, tensor: out }, w, h };
    assert.deepEqual(kinds(simulate(runPasses(im2col('load')), { grid: [1, 1, 1], args })), []);
    const expected = pixels(w, h).flatMap((at) => [0, 1, 2, 3].map((c) => (at === undefined ? 0 : at + c + 1)));
    assert.deepEqual([...out], expected);
  }
});

test('im2col stores pixels where they lie inside', () => {
  const rows = Float32Array.from({ length: CHANNELS * 16 }, (_, i) => i + 1);
  const image = new Float32Array(CHANNELS * WIDTH * HEIGHT * IMAGES);
  const args = { from: { map: ROWS, tensor: rows }, to: { map: IMAGE, tensor: image }, w: 0, h: 0 };
  assert.deepEqual(kinds(simulate(runPasses(im2col('store')), { grid: [1, 1, 1], args })), []);
  const expected = new Float32Array(image.length);
  for (const [i, at] of pixels(0, 0).entries()) {
    if (at !== undefined)
      expected.set(
        [1, 2, 3, 4].map((c) => i * CHANNELS + c),
        at,
      );
  }
  assert.deepEqual(image, expected);
  const tiles = { ...IMAGE, box: [4, 4, 1, 1], im2col: undefined } as unknown as TensorMapDescription;
  const wrong = simulate(runPasses(im2col('load')), {
    grid: [1, 1, 1],
    args: { from: { map: tiles, tensor: image }, to: { map: ROWS, tensor: rows }, w: 0, h: 0 },
  });
  assert.match(wrong.findings[0].message, /of mode im2col goes through a tensor map for tiles/);
});

/** Each CTA writes its number's square, and takes over CTAs that have not started until there are none. */
function worker(again: boolean): KernelIR {
  const params = [tensor('y', 'i32', 'write'), tensor('by', 'i32', 'write')];
  return recordKernel('worker', { threads: [32, 1, 1], params }, (y, by) => {
    'use gpu';
    const answer = sharedBytes('answer', 16, 16, 'b128');
    const told = mbarrier('told');
    const t = thread();
    if (t === 0) {
      told.init(1);
      fenceBarrierInit();
    }
    barrier();
    const work = newSlot('i32', 'work');
    const phase = newSlot('i32', 'phase');
    writeSlot(work, block());
    writeSlot(phase, 0);
    loop('work', (leave) => {
      when(t === 0, () => {
        told.expect(16);
        clusterLaunchTryCancel(answer, told);
      });
      const mine = readSlot(work);
      when(t === 0, () => {
        storeTo(moved(y, mine, 4), mine * mine, 'i32');
        storeTo(moved(by, mine, 4), block(), 'i32');
      });
      told.wait(readSlot(phase));
      writeSlot(phase, readSlot(phase) ^ 1);
      const { cancelled, x } = clusterLaunchQuery(loadFrom(answer, 'b128', { align: 16 }) as unknown as Value);
      fenceAsync();
      barrier();
      when(!cancelled, () => {
        if (again) {
          when(t === 0, () => {
            told.expect(16);
            clusterLaunchTryCancel(answer, told);
          });
          told.wait(readSlot(phase));
        }
        leave();
      });
      writeSlot(work, x);
    });
  });
}

test('a CTA takes over those that have not started', () => {
  const [y, by] = [new Int32Array(10), new Int32Array(10)];
  const result = simulate(runPasses(worker(false)), { grid: [10, 1, 1], args: { y, by } });
  assert.deepEqual(
    result.findings.map(({ message }) => message),
    [],
  );
  assert.deepEqual(
    [...y],
    Array.from({ length: 10 }, (_, i) => i * i),
  );
  assert.equal(result.stats.ctas, 1);
  assert.deepEqual(new Set(by), new Set([0]));
});

test('nobody asks for more work after there was none', () => {
  const args = { y: new Int32Array(3), by: new Int32Array(3) };
  const { findings } = simulate(runPasses(worker(true)), { grid: [3, 1, 1], args });
  assert.match(findings[0].message, /does not ask again/);
});

test('taking over work assembles for sm_100a', { skip: WITHOUT_PTXAS }, () => {
  const { program } = compileKernel(worker(false), { arch: 'sm_100a' });
  assert.equal(assemble(program.ptx, 'sm_100a').errors, '');
});

test('a tensor in the place of a tensor map is refused', () => {
  const x = new Float32Array(64);
  assert.throws(
    () => simulate(runPasses(onlyMap()), { grid: [1, 1, 1], args: { x } }),
    /only_map: parameter x is a tensor map: give a map and the tensor/,
  );
});

function onlyMap(): KernelIR {
  const params = [{ kind: 'tensormap', name: 'x' } as const];
  return recordKernel('only_map', { threads: [32, 1, 1], params }, () => {
    'use gpu';
    barrier();
  });
}
