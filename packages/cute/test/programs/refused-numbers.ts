/* oxlint-disable -- what authors do wrong is what these programs are for */
import { Accumulators, mma, wgmma } from '../../src/atoms/index.ts';
import { f32, i32, idiv, range, shared } from '../../src/trace/index.ts';
import type { Refused } from './refused.ts';

/** Numbers that are none, or too large or too many: as in refused.ts. */
export const REFUSED_NUMBERS: Refused = {
  'an index that is NaN': [
    ({ y, m }) => {
      'use gpu';
      y[0] = m[NaN]; // HERE
    },
    /the index NaN is no whole number/,
  ],
  'an index that is infinite': [
    ({ y }) => {
      'use gpu';
      y[0] = shared(f32, 8)[Infinity]; // HERE
    },
    /the index Infinity is no whole number/,
  ],
  'an index between two elements': [
    ({ y, m }) => {
      'use gpu';
      y[0] = m[1.5]; // HERE
    },
    /the index 1\.5 is no whole number/,
  ],
  'an index that is a float': [
    ({ y, m, f }) => {
      'use gpu';
      y[0] = m[f]; // HERE
    },
    /an index is an integer, not f32: convert it, e\.g\. i32\(/,
  ],
  'a store at a float': [
    ({ y, f }) => {
      'use gpu';
      y[f] = 1; // HERE
    },
    /an index is an integer, not f32/,
  ],
  'an index that is a condition': [
    ({ y, m, n }) => {
      'use gpu';
      y[0] = m[(n > 1) as unknown as number]; // HERE
    },
    /an index is an integer, not pred/,
  ],
  'a tile at NaN': [
    ({ y, m }) => {
      'use gpu';
      y[0] = m.tile(4, NaN)[0]; // HERE
    },
    /the index NaN is no whole number/,
  ],
  'a quotient by a known 0': [
    ({ y, m }) => {
      'use gpu';
      y[0] = m[idiv(5, 0)]; // HERE
    },
    /a quotient by 0: 5 is divided by 0/,
  ],
  'an index that is a remainder by 0': [
    ({ y, m }) => {
      'use gpu';
      const zero = 0;
      y[0] = m[5 % zero]; // HERE
    },
    /the index NaN is no whole number/,
  ],
  'a quotient of the device by 0': [
    ({ y, n }) => {
      'use gpu';
      y[0] = f32(idiv(n, 0)); // HERE
    },
    /a quotient by 0: i32 is divided by 0/,
  ],
  'a quotient by 0 with a type': [
    ({ y, n }) => {
      'use gpu';
      y[0] = f32(idiv(n, i32(0))); // HERE
    },
    /a quotient by 0/,
  ],
  'a remainder of the device by 0': [
    ({ y, n }) => {
      'use gpu';
      y[0] = f32(n % 0); // HERE
    },
    /a remainder by 0: i32 is divided by 0/,
  ],
  'a loop that steps by 0': [
    ({ y, n }) => {
      'use gpu';
      for (const k of range(0, n, 0)) y[k] = 0; // HERE
    },
    /a step other than 0/,
  ],
  'a loop that unrolls too much': [
    ({ y }) => {
      'use gpu';
      for (let i = 0; i < 10_000_000; i++) y[i % 8] = 1; // HERE
    },
    /more than 250000 operations, and the loop here was unrolled for \d+ rounds.*range\(n\)/,
  ],
  'a loop without end': [
    ({ y }) => {
      'use gpu';
      let i = 0;
      while (i >= 0) i++; // HERE
      y[0] = i;
    },
    /unrolled for 1048576 rounds, .* has no end/,
  ],
  'a product that there is not': [
    ({ y }) => {
      'use gpu';
      y[0] = f32(mma('m16n8k17', { a: 'bf16', b: 'bf16', d: 'f32' }, [], [], [])[0]); // HERE
    },
    /there is no mma m16n8k17 of bf16 and bf16 into f32; there is m16n8k8, m16n8k16/,
  ],
  'registers that do not fit a product': [
    ({ y }) => {
      'use gpu';
      y[0] = f32(mma('m16n8k16', { a: 'bf16', b: 'bf16', d: 'f32' }, [], [], [])[0]); // HERE
    },
    /takes 4 registers of A from each lane, not 0/,
  ],
  'wgmma of numbers': [
    ({ y }) => {
      'use gpu';
      const sums = new Accumulators(64);
      // @ts-expect-error on purpose
      wgmma(sums, 3, 4, { a: 'bf16' }); // HERE
      y[0] = 1;
    },
    /wgmma takes A as a descriptor, not 3: wgmmaDescriptor/,
  ],
  'what JavaScript finds out of range': [
    ({ y }) => {
      'use gpu';
      y[0] = 'ab'.repeat(-1).length; // HERE
    },
    /Invalid count value/,
  ],
  'a function of Math': [
    ({ y, f }) => {
      'use gpu';
      y[0] = Math.max(f, 0); // HERE
    },
    /Math\.max computes with JavaScript's numbers; use max\(\.\.\.\) of @rose\/cute/,
  ],
  'a function of Math that the device lacks': [
    ({ y, f }) => {
      'use gpu';
      y[0] = Math.cbrt(f); // HERE
    },
    /Math\.cbrt computes with JavaScript's numbers; write it with/,
  ],
};
