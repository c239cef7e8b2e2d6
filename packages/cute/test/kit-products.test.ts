import assert from 'node:assert/strict';
import { test } from 'node:test';
import { walk, type KernelIR, type Node, type Value } from '../src/ir/ir.ts';
import { LeafTree } from '../src/kit/leaves.ts';
import { Ring } from '../src/kit/ring.ts';
import { persistentTiles } from '../src/kit/tiles.ts';
import { recordKernel, tensor } from './record-kernel.ts';

/** What matrix products are built from: sums of leaves, rings that a cluster shares, walks of clusters. */

function record(body: (x: Value) => void): KernelIR {
  return recordKernel('k', { threads: [128, 1, 1], params: [tensor('x', 'f32')] }, body);
}

function nodesOf(kernel: KernelIR, op: string): Node[] {
  const found: Node[] = [];
  walk(kernel.body, (node) => {
    if (node.op === op) found.push(node);
  });
  return found;
}

/** Numbers whose sum depends on the order of the additions. */
const LEAVES = [0.1, 1e16, -1e16, 0.7, 3e15, 0.3, -3e15, 0.9];

test('leaves are added by a binary tree, in registers or elsewhere', () => {
  const [a, b, c, d, e, f, g, h] = LEAVES;
  const sums = { 1: a, 2: a + b, 4: a + b + (c + d), 8: a + b + (c + d) + (e + f + (g + h)) };
  for (const [count, expected] of Object.entries(sums)) {
    const kept: number[][] = [];
    const place = { put: (values: readonly number[]) => kept.push([...values]), take: () => kept.pop()! };
    for (const places of [{}, { 0: place }, { 1: place, 2: place }]) {
      const tree = new LeafTree(Number(count), places);
      const results = LEAVES.slice(0, Number(count)).map((leaf) => tree.add([leaf, 1]));
      assert.deepEqual(results.at(-1), [expected, Number(count)]);
      assert.ok(
        results.slice(0, -1).every((sum) => sum === undefined),
        'no sum before the last leaf',
      );
      assert.deepEqual(kept, []);
      assert.throws(() => tree.add([1, 1]), /has its \d leaves/);
    }
  }
  assert.throws(() => new LeafTree(3), /a power of two leaves, not 3/);
});

test('a stage that a cluster fills is empty when the consumers of all its CTAs have released it', () => {
  const kernel = record(() => {
    const ring = new Ring({ stages: 2, producer: { kind: 'tma' }, consumers: 4, ctas: 2 });
    ring.init();
    ring.producer().acquire();
    ring.consumer().wait().release();
  });
  const counts = nodesOf(kernel, 'mbarrier_init').map(({ attributes }) => attributes['count']);
  assert.deepEqual(counts, [1, 1, 8, 8]);
  const arrivals = nodesOf(kernel, 'mbarrier_arrive');
  assert.deepEqual(
    arrivals.map(({ args, attributes }) => [args[0].type, attributes['scope']]),
    [
      ['ptr.cluster', 'cta'],
      ['ptr.cluster', 'cta'],
    ],
  );
  const [empty, full] = nodesOf(kernel, 'mbarrier_wait').map(({ attributes }) => attributes['scope']);
  assert.deepEqual([empty, full], ['cluster', undefined]);
  record(() => {
    assert.throws(
      () => new Ring({ stages: 2, producer: { kind: 'tma' }, consumers: 1, ctas: 17 }),
      /1 to 16 CTAs, not 17/,
    );
  });
});

test('stages are released later in the order of their use, after lag()', () => {
  record(() => {
    const ring = new Ring({ stages: 3, producer: { kind: 'tma' }, consumers: 1 });
    assert.throws(() => ring.consumer().oldest(), /calls lag\(\) first/);
    const consumer = ring.consumer().lag();
    consumer.wait();
    consumer.oldest().release();
  });
});

test('clusters of a power of two CTAs walk over tiles', () => {
  const kernel = record(() => persistentTiles(10, () => {}, 4));
  const shifts = nodesOf(kernel, 'shr').length;
  assert.equal(shifts, 2, 'the first tile and the step count clusters');
  record(() => assert.throws(() => persistentTiles(10, () => {}, 3), /a power of two CTAs, not 3/));
});
