import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkTensorMap, DeviceMemory, encodeTensorMap, type TensorMapOptions } from '../src/index.ts';
import { fakeContext } from './fake/setup.ts';

type Plan = Parameters<typeof checkTensorMap>[0];

const GOOD: Plan = {
  element: 'bf16',
  memory: { address: 0x1000, bytes: 64 * 4096 * 2 },
  shape: [4096, 64],
  box: [64, 64],
  swizzle: '128',
};

test('each rule of tensor maps is checked, and the message says which value breaks it', () => {
  assert.equal(checkTensorMap(GOOD), undefined);
  const broken: [Partial<Plan>, RegExp][] = [
    [{ shape: [], box: [] }, /1 to 5 dimensions, and this one 0/],
    [{ shape: [16, 1, 1, 1, 1, 1], box: [16, 1, 1, 1, 1, 1] }, /this one 6/],
    [{ box: [64] }, /the box has 1 dimensions and the tensor 2/],
    [{ strides: [8192, 16] }, /2 dimensions need 1 strides/],
    [{ elementStrides: [1] }, /need 2 element strides/],
    [{ memory: { address: 0x1008, bytes: 2 ** 30 } }, /address \(0x1008\) must be a multiple of 16/],
    [{ shape: [0, 64] }, /size of dimension 0 is 0/],
    [{ shape: [4096, 2 ** 31 + 1] }, /size of dimension 1 is 2147483649/],
    [{ box: [64, 257] }, /box in dimension 1 is 257 and must be an integer from 1 to 256/],
    [{ box: [64, 0] }, /box in dimension 1 is 0/],
    [{ elementStrides: [1, 9] }, /element stride of dimension 1 is 9/],
    [{ strides: [8200] }, /stride of dimension 1 is 8200 bytes and must be a multiple of 16/],
    [{ strides: [2 ** 40] }, /below 2\^40/],
    [{ shape: [4100, 62], memory: { address: 0, bytes: 2 ** 30 } }, /stride of dimension 1 is 8200 bytes/],
    [{ box: [20, 64], swizzle: 'none' }, /row of the box has 40 bytes \(20 bf16\) and must be a multiple of 16/],
    [{ box: [128, 64] }, /256 bytes and swizzle 128 spans 128: use a box of at most 64/],
    [{ box: [64, 64], swizzle: '64' }, /swizzle 64 spans 64: use a box of at most 32/],
    [{ element: 'u16', outside: 'nan' }, /only floats can read as NaN outside of the tensor, and u16 are not/],
    [{ memory: { address: 0, bytes: 64 * 4096 * 2 - 1 } }, /ends after 524288 bytes and its memory has 524287/],
  ];
  for (const [change, message] of broken)
    assert.match(checkTensorMap({ ...GOOD, ...change }) ?? 'nothing wrong', message);
  assert.equal(checkTensorMap({ ...GOOD, box: [256, 64], swizzle: 'none' }), undefined);
  assert.equal(checkTensorMap({ ...GOOD, element: 'e4m3', box: [128, 64] }), undefined);
  assert.equal(checkTensorMap({ ...GOOD, shape: [64, 60], strides: [8192] }), undefined);
});

test('a tensor map is encoded at an aligned address, and refused before the driver sees it', () => {
  using setup = fakeContext();
  using memory = new DeviceMemory(setup.context, 64 * 128);
  const options: TensorMapOptions = { element: 'f32', memory, shape: [16, 8, 4], box: [8, 4, 2], swizzle: '32' };
  const { bytes } = encodeTensorMap(setup.context, options);
  assert.equal(bytes.length, 128);
  assert.deepEqual([...bytes.subarray(0, 4)], [7, 3, 0, 1]);
  assert.throws(
    () => encodeTensorMap(setup.context, { ...options, box: [8, 4, 300] }),
    /not possible: the box in dimension 2 is 300/,
  );
  assert.equal(setup.fake.counts.get('cuTensorMapEncodeTiled'), 1);
});
