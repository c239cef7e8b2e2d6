import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bulkStore, cpAsync } from '../src/atoms/async-copy.ts';
import { mbarrier, mbarriers } from '../src/atoms/barrier.ts';
import { Accumulators, descriptorAdd, ldmatrix, mma, stmatrix, wgmma, wgmmaDescriptor } from '../src/atoms/matrix.ts';
import { sharedBytes, special, typed, type Int } from '../src/atoms/record.ts';
import { readSystem, readSystemVector, spinUntil, writeSystem } from '../src/atoms/system.ts';
import { tmaLoad } from '../src/atoms/tma.ts';
import { KernelError } from '../src/ir/error.ts';
import { walk, type KernelIR, type KernelParameter, type Node, type Value } from '../src/ir/ir.ts';
import { blockReduce, clusterReduce, warpReduce } from '../src/kit/reduce.ts';
import { Ring } from '../src/kit/ring.ts';
import { NamedBarrier } from '../src/kit/sync.ts';
import { bandedTile, persistentTiles } from '../src/kit/tiles.ts';
import { recordKernel, tensor } from './record-kernel.ts';

const MAP: KernelParameter = { kind: 'tensormap', name: 'map' };

function record(body: (x: Value, map: Value) => void): KernelIR {
  return recordKernel('k', { threads: [128, 1, 1], params: [tensor('x', 'f32', 'readwrite'), MAP] }, body);
}

function nodesOf(kernel: KernelIR, op: string): Node[] {
  const found: Node[] = [];
  walk(kernel.body, (node) => {
    if (node.op === op) found.push(node);
  });
  return found;
}

test('barriers: expectation of known and unknown bytes, other CTAs, several side by side', () => {
  const kernel = record(() => {
    const barriers = mbarriers(3, 'full');
    barriers.at(2).expect(512);
    barriers.at(special('ctaid.x')).expect(special('tid.x'));
    mbarrier('done').on(1).arrive(2);
    assert.throws(() => barriers.at(3), /3 barriers, 3 is none of them/);
  });
  assert.deepEqual(
    kernel.shared.map(({ name, bytes, align }) => ({ name, bytes, align })),
    [
      { name: 'full', bytes: 24, align: 8 },
      { name: 'done', bytes: 8, align: 8 },
    ],
  );
  const [known, unknown] = nodesOf(kernel, 'mbarrier_expect');
  assert.deepEqual([known.args.length, known.attributes.bytes], [1, 512]);
  assert.deepEqual([unknown.args.length, unknown.attributes.bytes], [2, undefined]);
  assert.deepEqual(
    nodesOf(kernel, 'ptr_add').map((node) => node.attributes),
    [{ bytes: 16 }, { scale: 8 }],
  );
  const [arrive] = nodesOf(kernel, 'mbarrier_arrive');
  assert.equal(arrive.args[0].type, 'ptr.cluster');
});

test('copies refuse places in the wrong memory and coordinates that are too many', () => {
  record((x, map) => {
    const tile = sharedBytes('tile', 1024, 128);
    const full = mbarrier();
    assert.throws(() => cpAsync(x, tile, { bytes: 16 }), /a place in ptr\.shared is needed, not in ptr\.global/);
    assert.throws(() => bulkStore(tile, tile, 64), /ptr\.global is needed, not in ptr\.shared/);
    assert.throws(() => tmaLoad(tile, map, [0, 0, 0, 0, 0, 0], full), /one to five coordinates, not 6/);
    assert.throws(() => tmaLoad(tile, tile, [0, 0], full), /ptr\.generic or ptr\.global is needed/);
  });
});

test('optional operands come with the attributes that announce them', () => {
  const kernel = record((_, map) => {
    const tile = sharedBytes('tile', 1024, 128);
    tmaLoad(tile, map, [0, special('ctaid.x')], mbarrier(), { multicast: 3 });
  });
  const [load] = nodesOf(kernel, 'tma_load');
  assert.deepEqual(load.attributes, { rank: 2, mode: 'tile', multicast: true });
  assert.deepEqual(
    load.args.map(({ type }) => type),
    ['ptr.shared', 'ptr.generic', 'ptr.shared', 'i32', 'i32', 'u16'],
  );
});

test('matrices: as many registers as the form has', () => {
  const kernel = record(() => {
    const tile = sharedBytes('tile', 1024, 128);
    const words = ldmatrix(tile, { count: 4 });
    const zero = typed(0, 'f32') as unknown as Int;
    const types = { a: 'bf16', b: 'bf16', d: 'f32' } as const;
    const sums = mma('m16n8k16', types, words, words.slice(0, 2), [zero, zero, zero, zero]);
    assert.equal(sums.length, 4);
    assert.throws(() => mma('m16n8k16', types, words, words, sums), /2 registers of B from each lane, not 4/);
    assert.throws(() => mma('m16n8k32', types, words, words, sums), /no mma m16n8k32 of bf16/);
  });
  assert.equal(nodesOf(kernel, 'mma').length, 1);
});

test('matrices of 8 bits: two words of a lane for one of 16 x 16', () => {
  const kernel = record(() => {
    const tile = sharedBytes('tile', 1024, 128);
    assert.equal(ldmatrix(tile, { count: 2, shape: 'm16n16', transpose: true }).length, 4);
    const words = ldmatrix(tile, { count: 2, shape: 'm8n16', source: 'b4x16_p64' });
    assert.equal(words.length, 2);
    stmatrix(tile, words, { shape: 'm16n8', transpose: true });
  });
  const [square] = nodesOf(kernel, 'ldmatrix');
  assert.deepEqual(square.attributes, { count: 2, transpose: true, shape: 'm16n16' });
  assert.deepEqual(nodesOf(kernel, 'stmatrix')[0].attributes, { count: 2, transpose: true, shape: 'm16n8' });
});

test('wgmma: accumulators stay in their slots', () => {
  const kernel = record(() => {
    const tile = sharedBytes('tile', 16384, 1024);
    const sums = new Accumulators(16, 'f16');
    assert.equal(sums.length, 4);
    const first = wgmmaDescriptor(tile, { leading: 16, stride: 1024, swizzle: '128' });
    wgmma(sums, first, descriptorAdd(first, 32), { a: 'f16', accumulate: false, transposeB: true });
    assert.equal(descriptorAdd(first, 0), first);
    assert.throws(() => wgmma(sums, first, first, { a: 'bf16' }), /does not multiply bf16 by bf16 into f16/);
    assert.throws(() => wgmma(new Accumulators(12), first, first, { a: 'bf16' }), /no N of 12/);
    assert.throws(() => sums.get(4), /there is no 4/);
  });
  const [node] = nodesOf(kernel, 'wgmma');
  assert.deepEqual(
    node.slots.map(({ type }) => type),
    ['f16x2', 'f16x2', 'f16x2', 'f16x2'],
  );
  assert.equal(node.attributes.shape, 'm64n16k16');
  assert.equal(node.attributes.transpose_b, true);
});

test('accesses of the whole system: order, scope and vectors', () => {
  const kernel = record((x) => {
    readSystem(x, { type: 'f32' });
    readSystem(x, { type: 'f32', order: 'volatile' });
    const values = readSystemVector(x, 4, { type: 'f32', order: 'acquire', scope: 'gpu' });
    writeSystem(x, values, { type: 'f32', order: 'release' });
  });
  assert.deepEqual(
    nodesOf(kernel, 'load').map((node) => node.attributes),
    [
      { count: 1, order: 'relaxed', scope: 'sys' },
      { count: 1, order: 'volatile' },
      { count: 4, order: 'acquire', scope: 'gpu' },
    ],
  );
  assert.deepEqual(nodesOf(kernel, 'store')[0].attributes, { count: 4, order: 'release', scope: 'sys' });
});

test('a spin has a limit', () => {
  record((x) => {
    for (const limit of [0, -1, 1.5, 2 ** 31]) {
      assert.throws(() => spinUntil(x, () => true, { limit }), /has a limit from 1/);
    }
  });
});

test('reductions refuse groups and blocks that they cannot reduce', () => {
  record((x) => {
    const value = readSystem(x, { type: 'f32' });
    assert.throws(() => warpReduce(value, 'sum', 12), /power of two to 32, not of 12/);
    assert.throws(() => blockReduce(value, { threads: 100 }), /multiple of 32 threads to 1024, not 100/);
    assert.throws(() => blockReduce(value, { threads: 2048 }), /not 2048/);
    assert.throws(() => clusterReduce(value, { threads: 128, size: 17 }), /1 to 16 CTAs, not 17/);
    // Known in all lanes: known at once.
    assert.deepEqual([warpReduce(1), warpReduce(3, 'max')], [32, 3]);
    assert.throws(() => blockReduce(1, { threads: 64 }), KernelError);
  });
});

test('a ring is used as it was made', () => {
  record(() => {
    const byBytes = new Ring({ stages: 2, producer: { kind: 'tma' }, consumers: 1 });
    assert.throws(() => byBytes.producer().acquire().copied(), /call expect\(bytes\)/);
    const byThreads = new Ring({ stages: 2, producer: { kind: 'cp.async', threads: 128 }, consumers: 1 });
    assert.throws(() => byThreads.producer().acquire().expect(64), /call copied\(\)/);
    assert.throws(() => new Ring({ stages: 0, producer: { kind: 'tma' }, consumers: 1 }), /at least one stage, not 0/);
    assert.throws(() => new Ring({ stages: 2, producer: { kind: 'tma' }, consumers: 0 }), /at least one arrival/);
  });
});

test('named barriers have a number and whole warps', () => {
  const kernel = record(() => {
    const some = new NamedBarrier(3, 64);
    some.arrive();
    some.sync();
    assert.throws(() => new NamedBarrier(16, 64), /number 1 to 15, not 16/);
    assert.throws(() => new NamedBarrier(1, 48), /whole warps, 32 to 1024 threads, not 48/);
  });
  assert.deepEqual(nodesOf(kernel, 'barrier')[0].attributes, { id: 3, count: 64 });
});

test('tiles: a loop over the grid, and bands', () => {
  const kernel = record(() => {
    persistentTiles(100, (tile) => {
      bandedTile(tile, 7, 5, 3);
      assert.throws(() => bandedTile(tile, 7, 5, 0), /at least one row of tiles, not 0/);
    });
  });
  assert.equal(nodesOf(kernel, 'loop').length, 1);
  const specials = nodesOf(kernel, 'special').map(({ attributes }) => attributes.name);
  assert.deepEqual(specials, ['ctaid.x', 'nctaid.x']);
});

test('nothing is recorded outside of a kernel', () => {
  assert.throws(() => mbarrier(), /only while a kernel is traced/);
});
