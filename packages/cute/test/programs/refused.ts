/* oxlint-disable -- what authors do wrong is what these programs are for */
import {
  bf16,
  bitcast,
  e4m3,
  f32,
  fragment,
  i32,
  i64,
  min,
  mutable,
  printf,
  range,
  shared,
  tid,
  u32,
  type Fragment,
  type Tensor,
} from '../../src/trace/index.ts';

export interface Arguments {
  readonly y: Tensor<f32>;
  readonly b: Tensor<bf16>;
  readonly m: Tensor<f32>;
  readonly n: i32;
  readonly u: u32;
  readonly f: f32;
}

let outside = 0;

export type Refused = Readonly<Record<string, readonly [run: (args: Arguments) => void, message: RegExp]>>;

/** What is refused while tracing. The line is the one that says `HERE`; the message has to match. */
export const REFUSED: Refused = {
  'a constant assigned under a condition': [
    ({ y, n }) => {
      'use gpu';
      let k = 3;
      if (n > 1) k = 4; // HERE
      y[0] = k;
    },
    /'k' is known at compile time \(3\) .*let k = i32\(3\)/,
  ],
  'a constant that becomes a float': [
    ({ y, n, f }) => {
      'use gpu';
      let sum = 0;
      for (const k of range(n)) sum += f * k; // HERE
      y[0] = sum;
    },
    /f32 \* i32 mixes types/,
  ],
  'a constant assigned a float in a loop': [
    ({ y, n, f }) => {
      'use gpu';
      let sum = 0;
      for (const _k of range(n)) sum += f; // HERE
      y[0] = sum;
    },
    /'sum' .*let sum = f32\(0\)/,
  ],
  'a while loop over a constant': [
    ({ y, n }) => {
      'use gpu';
      let k = 0;
      while (k < n) k++; // HERE
      y[0] = f32(k);
    },
    /'k' .*let k = i32\(0\)/,
  ],
  'a truth assigned under a condition': [
    ({ y, n }) => {
      'use gpu';
      let found = false;
      if (n > 2) found = true; // HERE
      y[0] = found ? 1 : 0;
    },
    /'found' .*let found = pred\(false\)/,
  ],
  'a tensor chosen by the device': [
    ({ y, m, n }) => {
      'use gpu';
      let t = y;
      if (n > 2) t = m; // HERE
      t[0] = 1;
    },
    /'t' holds .* only numbers and fragments/,
  ],
  'a tensor returned under a condition': [
    ({ y, m, n }) => {
      'use gpu';
      const pick = (): Tensor<f32> => {
        if (n > 2) return y;
        return m; // HERE
      };
      pick()[0] = 1;
    },
    /the result of .* depends on a run-time condition/,
  ],
  'a value on some ways only': [
    ({ y, n }) => {
      'use gpu';
      const pick = (): f32 | undefined => {
        if (n > 2) return 1; // HERE
      };
      y[0] = pick()!;
    },
    /returns a value on some of its ways only/,
  ],
  'a member assigned in a loop': [
    ({ y, n }) => {
      'use gpu';
      const o = { sum: f32(0) };
      for (const _k of range(n)) o.sum += 1; // HERE
      y[0] = o.sum;
    },
    /'sum' of an object .*mutable\(/,
  ],
  'an element of an array assigned in a loop': [
    ({ y, n }) => {
      'use gpu';
      const list = [f32(0), f32(1)];
      for (const _k of range(n)) list[0] += 1; // HERE
      y[0] = list[0];
    },
    /'0' of .*under a run-time condition or loop/,
  ],
  'an array that grows in a loop': [
    ({ n }) => {
      'use gpu';
      const list: number[] = [];
      for (const k of range(n)) list.push(k); // HERE
    },
    /'push' of /,
  ],
  'a variable of the module in a loop': [
    ({ n }) => {
      'use gpu';
      for (const _k of range(n)) outside += 1; // HERE
    },
    /'outside' is declared outside/,
  ],
  'throw under a condition': [
    ({ n }) => {
      'use gpu';
      if (n > 3) throw new Error('n'); // HERE
    },
    /throw under a run-time condition.*assert/,
  ],
  'a case that runs into the next one': [
    ({ y, n }) => {
      'use gpu';
      let r = f32(0);
      switch (n) {
        // @ts-expect-error on purpose
        case 1: // HERE
          r = 1;
        default:
          r = 2;
      }
      y[0] = r;
    },
    /a case without break runs into the next one/,
  ],
  'a condition that turns into one of the device': [
    ({ y, n }) => {
      'use gpu';
      let k: number = 0;
      while (k < 4) k = n; // HERE
      y[0] = k;
    },
    /the condition of a loop turned into a run-time value/,
  ],
  'an array indexed by the device': [
    ({ y, n }) => {
      'use gpu';
      const table = [1, 2, 3];
      y[0] = table[n]; // HERE
    },
    /cannot be indexed by a run-time value/,
  ],
  'a fragment indexed by the device': [
    ({ y, n }) => {
      'use gpu';
      const f = fragment(f32, 4);
      y[0] = f[n]; // HERE
    },
    /registers have no addresses/,
  ],
  'an element that a fragment lacks': [
    ({ y }) => {
      'use gpu';
      const f = fragment(f32, 4);
      y[0] = f[4]; // HERE
    },
    /a fragment of 4 elements has no element 4/,
  ],
  'a fragment as a number': [
    ({ y }) => {
      'use gpu';
      const f = fragment(f32, 4);
      y[0] = (f as unknown as number) + 1; // HERE
    },
    /is no number: compute with its elements/,
  ],
  'fragments of other lengths stored': [
    ({ y }) => {
      'use gpu';
      y.store(fragment(f32, 3)); // HERE
    },
    /a fragment of 3 elements does not fit/,
  ],
  'integers and floats': [
    ({ y, n, f }) => {
      'use gpu';
      y[0] = n * f; // HERE
    },
    /i32 \* f32 mixes types.*convert one side/,
  ],
  'signed and unsigned': [
    ({ y, n, u }) => {
      'use gpu';
      y[0] = f32(n + u); // HERE
    },
    /i32 \+ u32 mixes types/,
  ],
  'an integer and a fraction': [
    ({ y, n }) => {
      'use gpu';
      y[0] = f32(n * 0.5); // HERE
    },
    /i32 \* 0\.5 mixes integers and floats/,
  ],
  'division of integers': [
    ({ y, n }) => {
      'use gpu';
      y[0] = f32(n / 2); // HERE
    },
    /idiv\(a, b\)/,
  ],
  powers: [
    ({ y, f }) => {
      'use gpu';
      y[0] = f ** 2; // HERE
    },
    /\*\* has no instruction/,
  ],
  'bits of a float': [
    ({ y, f }) => {
      'use gpu';
      y[0] = f & 1; // HERE
    },
    /& works on integers/,
  ],
  'a store of another type': [
    ({ y, n }) => {
      'use gpu';
      // @ts-expect-error on purpose
      y[0] = n; // HERE
    },
    /the element to store has type i32, but f32 is needed/,
  ],
  'a variable assigned another type': [
    ({ y, n, f }) => {
      'use gpu';
      let a = i32(0);
      // @ts-expect-error on purpose
      a = f; // HERE
      y[0] = f32(a + n);
    },
    /'a' has type i32 and is assigned a device value of type f32/,
  ],
  'arithmetic of 8-bit floats': [
    ({ y, f }) => {
      'use gpu';
      y[0] = f32(e4m3(f) + e4m3(f)); // HERE
    },
    /e4m3 does not compute/,
  ],
  'arithmetic of predicates': [
    ({ y, n }) => {
      'use gpu';
      y[0] = f32(((n > 1) as unknown as number) + 1); // HERE
    },
    /predicates do not compute/,
  ],
  'a constant that does not fit': [
    ({ y, n }) => {
      'use gpu';
      y[0] = f32(n + 2 ** 40); // HERE
    },
    /does not fit into i32/,
  ],
  'min of mixed types': [
    ({ y, n, f }) => {
      'use gpu';
      // @ts-expect-error on purpose
      y[0] = min(n, f); // HERE
    },
    /i32 min f32 mixes/,
  ],
  'bits of another width': [
    ({ y, n }) => {
      'use gpu';
      y[0] = f32(bitcast(i64, n)); // HERE
    },
    /i64/,
  ],
  'shared memory of a size that only the device knows': [
    ({ n }) => {
      'use gpu';
      shared(f32, n); // HERE
    },
    /known at compile time/,
  ],
  'a load of a size that only the device knows': [
    ({ m }) => {
      'use gpu';
      m.load(); // HERE
    },
    /has a size that only the device knows/,
  ],
  'a print that does not fit its format': [
    ({ n }) => {
      'use gpu';
      printf('{} {}', n); // HERE
    },
    /2|places|values/,
  ],
  'registers that start without the device': [
    () => {
      'use gpu';
      mutable({ stage: 0 }); // HERE
    },
    /mutable\.stage starts with a device value/,
  ],
  'a helper that is not marked': [
    ({ y, f }) => {
      'use gpu';
      y[0] = unmarked(f); // HERE
    },
    /the function unmarked \(.*refused\.ts:\d+\) lacks 'use gpu'/,
  ],
  'a fragment of another length in a loop': [
    ({ y, n }) => {
      'use gpu';
      let f: Fragment = fragment(f32, 2);
      for (const _k of range(n)) f = fragment(f32, 3); // HERE
      y[0] = f[0];
    },
    /'f' holds .* fragments of one length/,
  ],
  'branches of different kinds': [
    ({ y, n }) => {
      'use gpu';
      const v = n > 1 ? [1, 2] : 3; // HERE
      y[0] = v as number;
    },
    /the value depends on a run-time condition/,
  ],
  'a text chosen by the device': [
    ({ n }) => {
      'use gpu';
      const v = n > 1 ? 'a' : 'b'; // HERE
      void v;
    },
    /the value depends on a run-time condition and is "a" or "b"/,
  ],
  'a helper in a helper, with the way there': [
    ({ y, n }) => {
      'use gpu';
      y[0] = f32(half(n) + tid());
    },
    /idiv.*\n.*refused\.ts:\d+:\d+ \(called at .*refused\.ts:\d+:\d+ \(called at/,
  ],
};

function unmarked(v: number): number {
  return v * 2;
}

function half(v: i32): i32 {
  'use gpu';
  return v / 2; // HERE last
}
