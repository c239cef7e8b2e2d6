import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Layout,
  LayoutError,
  TiledCopy,
  TiledMma,
  makeCotiledCopy,
  makeLayout,
  makeTiledCopy,
  makeTiledCopyCAtom,
  makeTiledCopyD,
  makeTiledCopyFor,
  makeTiledCopyS,
  sameFunction,
  type CopyAtomLayouts,
  type MmaAtomLayouts,
} from '../src/layout/index.ts';

/** mma.m16n8k16 of bf16: PTX ISA, figures of its fragments. */
const MMA: MmaAtomLayouts = {
  shape: [16, 8, 16],
  threads: makeLayout(32),
  a: makeLayout(
    [
      [4, 8],
      [2, 2, 2],
    ],
    [
      [32, 1],
      [16, 8, 128],
    ],
  ),
  b: makeLayout(
    [
      [4, 8],
      [2, 2],
    ],
    [
      [16, 1],
      [8, 64],
    ],
  ),
  c: makeLayout(
    [
      [4, 8],
      [2, 2],
    ],
    [
      [32, 1],
      [16, 8],
    ],
  ),
};

/** ldmatrix.x4 of 16-bit elements: a thread names a row of eight, and receives pairs. */
const LDMATRIX: CopyAtomLayouts = {
  threads: makeLayout(32),
  source: makeLayout([32, 8], [8, 1]),
  destination: makeLayout([32, [2, 4]], [2, [1, 64]]),
  reference: makeLayout([32, [2, 4]], [2, [1, 64]]),
};

function vector(elements: number): CopyAtomLayouts {
  const alone = makeLayout([1, elements], [0, 1]);
  return { threads: makeLayout(1), source: alone, destination: alone, reference: alone };
}

const rows = makeLayout([128, 64], 'right');
const mma = new TiledMma(MMA, makeLayout([2, 2, 1]), [32, 32, 16]);

test('a tiled mma gives each operand to threads and values', () => {
  assert.equal(String(mma.threadLayout), '(32,2,2,1):(1,32,64,0)');
  assert.equal(String(mma.layoutTV('A')), '((4,8,2,2),((2,2,2),(1,1))):((64,1,16,0),((32,8,256),(0,0)))');
  assert.equal(String(mma.layoutTV('B')), '((4,8,2,2),((2,2),(2,1))):((64,1,0,8),((32,256),(16,0)))');
  assert.equal(String(mma.layoutTV('C')), '((4,8,2,2),((2,2),(1,2))):((64,1,16,256),((32,8),(0,512)))');
  const split = new TiledMma(MMA, makeLayout([2, 1, 2]));
  assert.equal(String(split.layoutTV('A')), '((4,8,2,2),((2,2,2),(1,1))):((64,1,16,512),((32,8,256),(0,0)))');
  assert.equal(String(split.layoutTV('B')), '((4,8,2,2),((2,2),(1,1))):((16,1,0,128),((8,64),(0,0)))');
  assert.equal(String(split.layoutTV('C')), '((4,8,2,2),((2,2),(1,1))):((64,1,16,0),((32,8),(0,0)))');
});

test('a tiled mma partitions layouts', () => {
  assert.equal(
    String(mma.threadFragment('C', rows)),
    '(((4,8),(2,2)),((2,2),(4,4))):(((2,64),(1024,8)),((1,512),(2048,16)))',
  );
  assert.equal(
    String(mma.threadFragment('A', rows)),
    '(((4,8),(2,1)),((2,2,2),(4,4))):(((2,64),(1024,0)),((1,512,8),(2048,16)))',
  );
  assert.equal(
    String(mma.threadFragment('B', rows)),
    '(((4,8),(2,1)),((2,2),(8,4))):(((2,64),(512,0)),((1,8),(1024,16)))',
  );
  assert.deepEqual(mma.partition('C', rows, 77).map(String), ['((2,2),4,4):((1,512),2048,16)', '202']);
  assert.deepEqual(mma.partition('A', rows, 77).map(String), ['((2,2,2),4,4):((1,512,8),2048,16)', '194']);
  assert.deepEqual(mma.partitionShape('C', [128, 64]), [[2, 2], 4, 4]);
  assert.throws(() => mma.partition('C', makeLayout(8), 0), /has two modes at least/);
});

test('every element of a tile of C is held once, by the thread that its partition says', () => {
  const tile = makeLayout([32, 32]);
  const holders = new Set<number>();
  const all = mma.layoutTV('C');
  for (let thread = 0; thread < 128; thread += 1) {
    const [part, at] = mma.partition('C', tile, thread);
    for (let value = 0; value < 8; value += 1) {
      const element = (part.at(value) as number) + (at as number);
      assert.equal(element, all.at(thread, value));
      holders.add(element);
    }
  }
  assert.equal(holders.size, 32 * 32);
});

test('ldmatrix fits operand A of an mma, and its fragment is retiled', () => {
  const copy = makeTiledCopyFor('A', LDMATRIX, mma);
  assert.equal(String(copy.layoutSTV), '((16,2,2,2),(8,1)):((1,256,16,0),(32,0))');
  assert.equal(String(copy.layoutDTV), '((4,8,2,2),((2,2,2),1)):((64,1,16,0),((32,8,256),0))');
  assert.deepEqual(copy.partitionS(rows, 77).map(String), ['((8,1),4,4):((1,0),2048,16)', '832']);
  const fragment = makeLayout([[2, 2, 2], 4, 4]);
  assert.equal(String(copy.retile(fragment, 'destination')), '((8,1),4,4):((1,0),8,32)');
  assert.throws(() => copy.retile(fragment, 'source'), /the source of this atom is not its reference/);
});

test('tiled copies of threads and values', () => {
  const copy = makeTiledCopy(vector(8), makeLayout([32, 8], 'right'), makeLayout([1, 8]));
  assert.equal(String(copy.layoutTV), '((8,32),8):((256,1),32)');
  assert.deepEqual(copy.tileShape, [32, 64]);
  assert.deepEqual(copy.partitionS(rows, 77).map(String), ['((8,1),4,1):((1,0),2048,0)', '616']);
  assert.equal(String(copy.partitionD(rows, 77)[0]), '((8,1),4,1):((1,0),2048,0)');
  assert.ok(sameFunction(makeTiledCopyS(vector(8), copy).layoutTV, copy.layoutTV));
  assert.ok(sameFunction(makeTiledCopyD(vector(8), copy).layoutTV, copy.layoutTV));
});

test('a copy of C that holds one atom, and one that follows addresses', () => {
  const epilogue = makeTiledCopyCAtom(vector(2), mma);
  assert.equal(String(epilogue.layoutTV), '((4,8,2,2),2):((16,1,8,64),128)');
  assert.deepEqual((epilogue.tiler as readonly Layout[]).map(String), ['(8,2):(1,16)', '(8,2):(2,1)']);
  const along = makeCotiledCopy(vector(8), makeLayout([128, 8], 'right'), makeLayout([64, 32], 'right'));
  assert.equal(String(along.layoutTV), '((4,32),8):((32,1),128)');
  assert.deepEqual((along.tiler as readonly Layout[]).map(String), ['32:1', '(4,8):(8,1)']);
  assert.throws(
    () => makeCotiledCopy(vector(8), new Layout([4, 8], [8, 1]), new Layout([4, 4], [8, 1])),
    /points at elements that \(4,4\):\(8,1\) does not have/,
  );
});

test('a tiled copy is made of whole atoms', () => {
  assert.throws(
    () => new TiledCopy(vector(8), makeLayout([4, 4]), [4, 4]),
    new LayoutError('a tiled copy of 4 values cannot be made of an atom with 8 values'),
  );
});
