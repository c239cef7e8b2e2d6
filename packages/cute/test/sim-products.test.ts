import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accumulateNarrow, decodeElement, exponentsOf } from '../src/sim/products.ts';

/** What an H100 gave for rows of 128 elements of e4m3 (hexadecimal), after 32, 64 and 128 products of wgmma m64n64k32. */
const MEASURED: readonly { readonly x: string; readonly w: string; readonly sums: readonly number[] }[] = [
  {
    x:
      'cc2945dadad84fda3f4caed1d151c9ba5f4d5ec4c7d048595ad158575a5dd453dbe25e5fd645b04addd2d850c95e4c63d559d947dbca56d9ded2d1bcdf524a4a' +
      '59524f55d2b9d1d8d9cb4cd5cc63dbd3d94c5453383f54d8cfc6cac16056de5c1a5e55d5d8d05b494f4f53da425a64c2d3dcdc5ac44755585c5ad0505c5bd6d8',
    w:
      'd85bdd5c5ed75cc85ad95058d6d34dd7544e5b555954d1d74c61db6051ca63bccc34da5b51adc557da444c56515c5a5ad5dfb8d6cbb84e545b48c9d6dbc15455' +
      '5259c846d55c5958bfdbba52de432e5850d8d9585ec24a49ced05d5bd3ce57555661cb60d9dbda5c5bc256ccd3d05c43d84c5dd5d5c95bd35a4ab3dcc3d24fd1',
    sums: [-781.3125, 1278, 1991.5],
  },
  {
    x:
      'a1c5db14435143c135820d0c428002831f9c631a024705028382002301cd824e9821810398100106080203a8cbc2a8822a01380400b24300074281291e3fa4a0' +
      '0d00013ac755dc3db13b89294f4c4c82ad56c4a930894a4f0082d1129791a606379d83b3c439ae8208168207aa0089c2310180028101a00135499723be2a8157',
    w:
      'cc5b87868022d182815501870100c8130297093be180b88fcacb003d001980288282018091a4b4e028920051bb844186099a0101842800031b2a805b60808a81' +
      '8882c936b9812f12135a322b1623c2a28808bd4549d09281ac8134ad82a18130d720800acb1cc2af2c9d80478f00baaf904103018bd4c9b9940431031501009c',
    sums: [-91.3984375, -76.6953125, -65.140625],
  },
  {
    x:
      '831eb90a84d1598000c299a38a559eaf101ac2b7530d01c38c17bc004d401e00da83e12b2eab318301804604ae028ac00280834a800c2a2f016001a5270002d2' +
      '338001e8008081d08dde010280012abfc380c14b91833a59003eb9810099351d8301008001ba214881ae1fddd718a1585a01834e800188268005b1015240d48a',
    w:
      '120e80e0001581a9a129010003861a87000295b38c009002528003cd02808037cbaac1041c5200ba081935ddaddb070000e1114b85cc0824cc02820080b51085' +
      '99bc301c8fa6cc294a82011238918122018d152e31ad3381494a9f1681389c9b32c83980160147234b00aacc5eba01d5b9a6e88800c44b91c8970d982ac94c0a',
    sums: [-1.686767578125, 216.296875, -351.53125],
  },
];

test('sums of e4m3 are those of an H100', () => {
  for (const { x, w, sums } of MEASURED) {
    const [a, b] = [x, w].map((text) => {
      const values = Float64Array.from(Buffer.from(text, 'hex'), (byte) => decodeElement('e4m3', byte));
      return { values, exponents: exponentsOf('e4m3', values) };
    });
    let sum = 0;
    const got: number[] = [];
    for (let at = 0; at < 128; at += 32) {
      sum = accumulateNarrow(sum, { ...a, at }, { ...b, at }, 32);
      if (at !== 64) got.push(sum);
    }
    assert.deepEqual(got, sums);
  }
});

test('zeros and what is no number', () => {
  const row = (...list: number[]): Parameters<typeof accumulateNarrow>[1] => {
    const values = Float64Array.from(list);
    return { values, exponents: exponentsOf('e5m2', values), at: 0 };
  };
  assert.equal(accumulateNarrow(0, row(0, 0), row(1, 2), 2), 0);
  assert.equal(accumulateNarrow(3, row(0, 0), row(1, 2), 2), 3);
  assert.ok(Number.isNaN(accumulateNarrow(1, row(NaN, 0), row(1, 2), 2)));
  assert.equal(accumulateNarrow(1, row(Infinity, 0), row(1, 2), 2), Infinity);
  // 2^-13 of the largest is kept, less is cut off.
  assert.equal(accumulateNarrow(2 ** -13, row(1), row(1), 1), 1 + 2 ** -13);
  assert.equal(accumulateNarrow(-(2 ** -13) * 1.75, row(1), row(1), 1), 1 - 2 ** -13);
});
