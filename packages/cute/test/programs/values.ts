/* oxlint-disable -- odd corners of JavaScript are what these programs are for */
import { fragment, i32, mutable, range, select, type f32, type Fragment } from '../../src/trace/index.ts';

/** As the programs of control.ts: values, assignments, functions, classes and fragments. */
export const VALUES: Readonly<Record<string, (i: i32, n: i32) => number>> = {
  ternary(i, n) {
    'use gpu';
    const a = i < n ? i : n;
    const b = i > 3 ? (i > 5 ? 1 : 2) : 3;
    return a * 10 + b;
  },
  'ternary with effects'(i, n) {
    'use gpu';
    const state = mutable({ count: i32(0) });
    const bump = (by: number): number => {
      state.count += by;
      return by * 2;
    };
    const v = i < n ? bump(1) : bump(10);
    return v * 100 + state.count;
  },
  'and and or with effects'(i, n) {
    'use gpu';
    const state = mutable({ count: i32(0) });
    const touched = (v: boolean): boolean => {
      state.count += 1;
      return v;
    };
    let r = i32(0);
    if (i < n && touched(i > 2)) r += 1;
    if (i === n || touched(i > 4)) r += 10;
    return r * 100 + state.count;
  },
  'not and comparisons'(i, n) {
    'use gpu';
    let r = i32(0);
    if (!(i < n)) r += 1;
    if (i !== n && !(i <= 2)) r += 10;
    if (!i) r += 100;
    return r;
  },
  'logical assignment'(i, n) {
    'use gpu';
    let p = i < n;
    p &&= i > 1;
    let q = i === n;
    q ||= p;
    let r: i32 | undefined;
    r ??= i;
    return select(p, 1, 0) + select(q, 10, 0) + r * 100;
  },
  'operators on integers'(i, n) {
    'use gpu';
    let a = i32(i);
    a += 7;
    a *= 3;
    a -= n;
    a <<= 2;
    a ^= 0x55;
    a |= 8;
    a &= 0xff;
    a >>= 1;
    a %= 50;
    return -a + ~i + +n;
  },
  increments(i, n) {
    'use gpu';
    let a = i32(i);
    const b = a++;
    const c = ++a;
    const d = a--;
    const e = --a;
    return ((b * 10 + c) * 10 + d) * 10 + e + n;
  },
  destructuring(i, n) {
    'use gpu';
    let [a, b] = [i, n];
    const { x, y: z = 4 } = { x: a } as { x: number; y?: number };
    if (i > 2) a = b;
    b += 1;
    return a * 100 + b * 10 + x + z;
  },
  'destructuring assignment'(i, n) {
    'use gpu';
    let a = i32(i);
    let b = i32(n);
    let rest: number[];
    [a, b] = [b, a];
    const o = { p: 0, q: 0 };
    ({ p: o.p, q: o.q = 5 } = { p: a } as { p: number; q?: number });
    [, ...rest] = [1, a, b];
    if (i > n) [a, b] = [b, a];
    return a * 1000 + b * 100 + o.p * 10 + o.q + rest[1];
  },
  'destructuring in a loop'(i, n) {
    'use gpu';
    let sum = i32(0);
    for (const [k, v] of [
      [1, i],
      [2, n],
    ])
      sum += k * v;
    for (let { w } of [{ w: 1 }, { w: 2 }]) {
      w += 1;
      sum += w;
    }
    return sum;
  },
  'counters that closures keep'(i, n) {
    'use gpu';
    const get: (() => number)[] = [];
    for (let k = 0; k < 3; k++) get.push(() => k * i);
    let sum = i32(n);
    for (const one of get) sum += one();
    return sum;
  },
  'counters that closures keep and the body changes'(i, n) {
    'use gpu';
    const get: (() => number)[] = [];
    for (let k = 0; k < 6; k++) {
      get.push(() => k);
      k++;
    }
    return get[0]() * 100 + get[1]() * 10 + get[2]() + i + n;
  },
  'members and elements'(i, n) {
    'use gpu';
    const o = { x: i, list: [1, 2, 3] };
    o.x += n;
    o.list[1] *= 5;
    o.list[2]++;
    const key = 'x';
    o[key] -= 1;
    return o.x * 100 + o.list[1] + o.list[2];
  },
  'objects made in a loop'(i, n) {
    'use gpu';
    let sum = i32(0);
    for (const k of range(n)) {
      const o = { v: k };
      o.v += i;
      const list = [k];
      list.push(o.v);
      sum += list[0] * list[1];
    }
    return sum;
  },
  classes(i, n) {
    'use gpu';
    const counter = new Counter(i);
    counter.add(n);
    counter.add(1);
    return counter.value * 10 + counter.doubled;
  },
  'default parameters'(i, n) {
    'use gpu';
    const f = (a: number, b: number = a * 2, { c = b + 1 }: { c?: number } = {}): number => {
      if (a > n) b = 1;
      a += c;
      return a * 100 + b;
    };
    return f(i) + f(i, i32(3)) + f(i, i32(3), { c: 4 });
  },
  'functions as values'(i, n) {
    'use gpu';
    const twice = (f: (v: number) => number, v: number): number => f(f(v));
    return twice((v) => v * 2 + n, i) + [1, 2, 3].map((k) => k * i).reduce((a, b) => a + b);
  },
  'arrow that changes its parameter'(i, n) {
    'use gpu';
    const f = (v: number): number => (v += n) * 2;
    return f(i);
  },
  'spread and rest'(i, n) {
    'use gpu';
    const sum = (...v: number[]): number => v.reduce((a, b) => a + b, 0);
    const list = [i, ...[n, 3]];
    const { a, ...others } = { a: 1, b: i, c: n };
    return sum(...list) * 10 + others.b + a + Object.keys({ ...others, z: 1 }).length;
  },
  'optional chaining'(i, n) {
    'use gpu';
    const o: { list?: number[]; f?: (v: number) => number } = { list: [i, n], f: (v) => v + 1 };
    const none: typeof o = {};
    return (
      (o.list?.[1] ?? 0) * 10 + (none.list?.[0] ?? 7) + (o.f?.(i) ?? 0) + (none.f?.(i) ?? 2) + (o?.list?.length ?? 0)
    );
  },
  'template literals'(i, n) {
    'use gpu';
    const table: Record<string, number> = { a1: 3, a2: 4 };
    return table[`a${1}`] * i + table[`a${1 + 1}`] * n;
  },
  'for in'(i, n) {
    'use gpu';
    let sum = i32(0);
    const table: Record<string, number> = { a: i, b: n };
    for (const key in table) sum += table[key] * key.length;
    return sum;
  },
  'comma and void'(i, n) {
    'use gpu';
    let a = i32(0);
    a = ((a += i), a + n);
    return void 0 === undefined ? a : 0;
  },
  'recursion at compile time'(i, n) {
    'use gpu';
    return power(i, 3) + power(n, 2);
  },
  'fragments in a loop'(i, n) {
    'use gpu';
    const sums = fragment(i32, 3);
    for (const k of range(n)) {
      sums[0] += k;
      sums[2] += sums[0] * i;
    }
    if (i > 3) sums[1] = 9;
    return sums[0] + sums[1] * 100 + sums[2];
  },
  'a fragment variable'(i, n) {
    'use gpu';
    let a: Fragment<number> = fragment(i32, 2, 1);
    for (const k of range(3)) a = a.map((v, j) => v * 2 + j + k);
    const b = a;
    if (i > n) a = a.map((v) => v + 1);
    return a[0] * 100 + a[1] + b[0] * 0;
  },
  'a fragment is a value'(i, n) {
    'use gpu';
    const a = fragment(i32, 2, 1);
    let b = a;
    b[0] = i;
    b = b.map((v) => v + n);
    return a[0] * 100 + b[0] + b[1];
  },
  'variables swapped in a loop'(i, n) {
    'use gpu';
    let a = i32(0);
    let b = i32(1);
    for (const _k of range(i % 8)) {
      const next = a + b;
      a = b;
      b = next;
    }
    return a * 2 + n;
  },
  'loops in loops'(i, n) {
    'use gpu';
    let sum = i32(0);
    for (const a of range(3)) {
      let inner = i32(0);
      for (const b of range(a, 5)) {
        if (b === n) continue;
        for (let c = 0; c < 2; c++) inner += a * b + c;
      }
      sum += inner * (i + 1);
    }
    return sum;
  },
};

function power(v: number, exponent: number): number {
  'use gpu';
  if (exponent === 0) return 1;
  return v * power(v, exponent - 1);
}

class Counter {
  value: number;
  readonly #step: number;
  #calls = 0;

  constructor(start: number) {
    'use gpu';
    this.value = start * 1;
    this.#step = 2;
  }

  add(by: number): void {
    'use gpu';
    this.#calls += 1;
    this.value += by * this.#step + this.#calls;
  }

  get doubled(): number {
    'use gpu';
    return this.value * 2;
  }
}

/** Floats too: comparisons with NaN are JavaScript's. */
export const FLOATS: Readonly<Record<string, (x: f32, y: f32) => number>> = {
  less: (x, y) => {
    'use gpu';
    return (
      (x < y ? 1 : 0) + (x <= y ? 2 : 0) + (x > y ? 4 : 0) + (x >= y ? 8 : 0) + (x === y ? 16 : 0) + (x !== y ? 32 : 0)
    );
  },
  truth: (x, y) => {
    'use gpu';
    let r = i32(0);
    if (x) r += 1;
    if (!y) r += 2;
    return r;
  },
};
