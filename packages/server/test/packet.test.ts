import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Tensor as TypedTensor } from '../src/backend/api.ts';
import { PacketReader, PacketWriter, transfersOf, typedOf, wordsOf } from '../src/backend/packet.ts';

const words = wordsOf({ name: 'm', input: [{ name: 'IN', data_type: 'TYPE_INT32', dims: [1] }] });

const TENSORS: Readonly<Record<string, TypedTensor>> = {
  BOOL: { datatype: 'BOOL', shape: [3], data: Uint8Array.of(1, 0, 1) },
  IN: { datatype: 'INT32', shape: [16], data: Int32Array.from({ length: 16 }, (_, i) => i - 8) },
  INT64: { datatype: 'INT64', shape: [1], data: BigInt64Array.of(-(2n ** 60n)) },
  FP16: { datatype: 'FP16', shape: [2], data: Float16Array.of(0.5, -2) },
  FP64: { datatype: 'FP64', shape: [2, 1], data: Float64Array.of(Math.PI, -0) },
  'a part': { datatype: 'UINT16', shape: [2], data: Uint16Array.of(1, 2, 3, 4).subarray(1, 3) },
  'with a buffer': { datatype: 'INT32', shape: [17], data: Int32Array.from({ length: 17 }, (_, i) => i) },
  'larger than the first room': { datatype: 'FP32', shape: [3000], data: new Float32Array(3000).fill(1.5) },
  'in shared memory': { datatype: 'INT8', shape: [2], data: new Int8Array(new SharedArrayBuffer(2)).fill(3) },
  large: { datatype: 'UINT8', shape: [20_000], data: new Uint8Array(20_000).fill(7) },
  texts: { datatype: 'BYTES', shape: [2], data: [Buffer.from('a'), Buffer.from('')] },
  empty: { datatype: 'INT32', shape: [0], data: new Int32Array(0) },
};

test('tensors of every kind come out of a packet as they went in, again and again', () => {
  const writer = new PacketWriter(words);
  for (let round = 0; round < 2; round++) {
    for (const [name, tensor] of Object.entries(TENSORS)) writer.addTyped(name, tensor);
    const taken = writer.take();
    const packet = structuredClone(taken, { transfer: transfersOf(taken) });
    const reader = new PacketReader(packet, words);
    for (const [name, tensor] of Object.entries(TENSORS)) {
      const wire = reader.tensor();
      assert.equal(wire.name, name);
      const { datatype, shape, data } = typedOf(wire);
      assert.deepEqual(
        [datatype, shape, [...data].map(plain)],
        [tensor.datatype, tensor.shape, [...tensor.data].map(plain)],
      );
    }
  }
});

test('known words travel as numbers, others as they are', () => {
  const writer = new PacketWriter(words);
  for (const word of ['IN', 'FP32', 'OUT', '3']) writer.addWord(word);
  const packet = writer.take();
  assert.deepEqual(packet.values, ['OUT', '3']);
  const reader = new PacketReader(packet, words);
  assert.deepEqual(
    [1, 2, 3, 4].map(() => reader.word()),
    ['IN', 'FP32', 'OUT', '3'],
  );
});

test('what is no number is found again beside more numbers than there was room for', () => {
  const writer = new PacketWriter();
  const numbers = Array.from({ length: 2000 }, (_, i) => i - 0.5);
  for (const number of numbers) writer.add(number);
  writer.addValue(undefined);
  writer.addValue({ id: 7n });
  writer.addWord('');
  const reader = new PacketReader(structuredClone(writer.take()));
  assert.deepEqual(
    numbers.map(() => reader.number()),
    numbers,
  );
  assert.deepEqual([reader.value(), reader.value(), reader.word()], [undefined, { id: 7n }, '']);
});

test('a large tensor goes in memory that nobody else has, and its writer keeps its own', () => {
  const writer = new PacketWriter();
  const data = new Float32Array(10_000).fill(2);
  for (const name of ['a', 'b']) writer.addTyped(name, { datatype: 'FP32', shape: [10_000], data });
  writer.addTensor({ name: 'c', datatype: 'FP32', shape: [9999], data: new Uint8Array(data.buffer, 4) });
  const packet = writer.take();
  const received = structuredClone(packet, { transfer: transfersOf(packet) });
  const reader = new PacketReader(received);
  data.fill(3);
  const [a, b, c] = [1, 2, 3].map(() => typedOf(reader.tensor()).data as Float32Array);
  a.fill(4);
  assert.deepEqual([new Set(a), new Set(b), new Set(c)], [new Set([4]), new Set([2]), new Set([2])]);
  assert.deepEqual(
    packet.large.map(({ length }) => length),
    [0, 0, 0],
    'handed over',
  );
});

test('what was not written whole leaves nothing behind', () => {
  const writer = new PacketWriter();
  writer.addWord('before');
  const write = (): void => {
    writer.addWord('gone');
    writer.addTyped('gone', { datatype: 'UINT8', shape: [20_000], data: new Uint8Array(20_000) });
    writer.addTyped('gone', { datatype: 'UINT8', shape: [1], data: Uint8Array.of(1) });
    throw new Error('no more');
  };
  assert.throws(() => writer.whole(write), /no more/);
  writer.addWord('after');
  const packet = writer.take();
  assert.deepEqual([packet.count, packet.values, packet.large], [2, ['before', 'after'], []]);
  assert.equal(packet.data.byteLength, 16);
});

function plain(element: number | bigint | Uint8Array): unknown {
  return element instanceof Uint8Array ? Buffer.from(element).toString() : element;
}
