/* oxlint-disable -- odd corners of JavaScript are what these programs are for */
import { fragment, i32, mutable, range, select, type f32, type Fragment } from '../../src/trace/index.ts';

/**
 * Functions that are run twice: by JavaScript with numbers, and by the simulator with device values for `i` (the thread)
 * and `n`. Both must agree for every thread.
 */
export const PROGRAMS: Readonly<Record<string, (i: i32, n: i32) => number>> = {
  'if and else'(i, n) {
    'use gpu';
    let r = i32(0);
    if (i < n) r = i * 2;
    else r = i - n;
    return r;
  },
  'else if'(i, n) {
    'use gpu';
    let r = i32(1);
    if (i === 3) {
      r = 10;
    } else if (i === 4 || i > n) r = 20;
    else if (i % 2 === 0 && i > 6) {
      r = 30;
    }
    return r;
  },
  'a variable without a first value'(i, n) {
    'use gpu';
    let r: i32;
    if (i < n) r = i32(1);
    else r = 2 as i32;
    return r;
  },
  'static if in a device if'(i, n) {
    'use gpu';
    let k = 0;
    let r = i32(0);
    if (i < n) {
      let inner = 1;
      if (k === 0) inner = 5;
      r += inner;
    }
    k = 7;
    return r + k;
  },
  'return under a condition'(i, n) {
    'use gpu';
    return early(i, n) * 100 + early(n, i);
  },
  'return in both branches'(i, n) {
    'use gpu';
    const pick = (a: number): number => {
      if (a < n) return a + 1;
      else return a - 1;
    };
    return pick(i) + 10 * pick(i + 3);
  },
  'return of nothing'(i, n) {
    'use gpu';
    const state = mutable({ v: i32(0) });
    const work = (): void => {
      if (i < n) return;
      state.v += 1;
      if (i > n + 2) return;
      state.v += 10;
    };
    work();
    state.v += 100;
    work();
    return state.v;
  },
  'return of an array'(i, n) {
    'use gpu';
    const [low, high] = sorted(i, n);
    return low * 100 + high;
  },
  'return of an object'(i, n) {
    'use gpu';
    const make = (): { a: number; b: number } => {
      if (i > n) return { a: i, b: 7 };
      return { a: 1, b: n };
    };
    const { a, b } = make();
    return a * 50 + b;
  },
  'return out of a device loop'(i, n) {
    'use gpu';
    const find = (): number => {
      for (const k of range(20)) {
        if (k * k > i) return k;
      }
      return -1 + n * 0;
    };
    return find();
  },
  'return out of an unrolled loop'(i, n) {
    'use gpu';
    const find = (): number => {
      for (let k = 0; k < 4; k++) {
        if (k * n > i) return k;
      }
      return 99;
    };
    return find();
  },
  'static variables after an early return'(i, n) {
    'use gpu';
    const work = (): number => {
      let k = 1;
      if (i > n) return 5;
      k += 2;
      for (let j = 0; j < 3; j++) k += j;
      return k + i;
    };
    return work();
  },
  'nested early returns'(i, n) {
    'use gpu';
    const inner = (a: number): number => {
      if (a > 5) return 1;
      if (a > 3) {
        if (a === 4) return 2;
        return 3;
      }
      return 4;
    };
    const outer = (): number => {
      if (i < n) return inner(i);
      const twice = inner(i - n) * 10;
      if (twice === 10) return 0;
      return twice;
    };
    return outer();
  },
  while(i, n) {
    'use gpu';
    let a = i32(i);
    let steps = i32(0);
    while (a > n) {
      a -= 3;
      steps++;
    }
    return steps * 100 + a;
  },
  'for with a device bound'(i, n) {
    'use gpu';
    let sum = i32(0);
    for (let k = 0; k < n; k++) sum += k * i;
    return sum;
  },
  'for with two counters'(i, n) {
    'use gpu';
    let sum = i32(0);
    for (let a = 0, b = 10; a < i; a += 2, b--) sum += a * b + n;
    return sum;
  },
  'for with a device start'(i, n) {
    'use gpu';
    let sum = i32(0);
    for (let k = i32(i); k < n; k++) sum += k;
    return sum;
  },
  'do while on the device'(i, n) {
    'use gpu';
    let a = i32(i);
    do {
      a += 5;
    } while (a < n);
    return a;
  },
  'do while with continue'(i, n) {
    'use gpu';
    let a = i32(0);
    let odd = i32(0);
    do {
      a++;
      if (a % 2 === 0) continue;
      odd++;
    } while (a < i);
    return odd * 10 + n;
  },
  'do while that is unrolled'(i, n) {
    'use gpu';
    let k = 3;
    let sum = i32(n);
    do {
      sum += k * i;
    } while (--k > 0);
    return sum;
  },
  'while true with a break'(i, n) {
    'use gpu';
    let a = i32(i);
    while (true) {
      if (a >= n) break;
      a += 2;
    }
    return a;
  },
  'for without a condition'(i, n) {
    'use gpu';
    let a = i32(0);
    for (;;) {
      a += 3;
      if (a > i) {
        if (a > n) break;
      }
    }
    return a;
  },
  'break and continue in a range'(i, n) {
    'use gpu';
    let sum = i32(0);
    for (const k of range(12)) {
      if (k % 3 === 0) continue;
      if (k > i) break;
      sum += k;
    }
    return sum + n;
  },
  'range with start and step'(i, n) {
    'use gpu';
    let sum = i32(0);
    for (const k of range(i, 40, n)) sum += k;
    for (const k of range(10, 0, -3)) sum += k;
    return sum;
  },
  labels(i, n) {
    'use gpu';
    let sum = i32(0);
    outer: for (const a of range(6)) {
      for (const b of range(6)) {
        if (b > a) continue outer;
        if (a * b > i) break outer;
        sum += a * 10 + b;
      }
      sum += n;
    }
    return sum;
  },
  'labels over unrolled loops'(i, n) {
    'use gpu';
    let sum = i32(0);
    outer: for (const a of range(5)) {
      for (let b = 0; b < 3; b++) {
        if (b === 2) continue outer;
        if (a * b > i) break outer;
        sum += a * 10 + b;
      }
      sum += n;
    }
    return sum;
  },
  'break of an unrolled loop by the device'(i, n) {
    'use gpu';
    let sum = i32(0);
    for (let k = 0; k < 5; k++) {
      if (k * 2 > i) break;
      sum += k + 1;
    }
    return sum * n;
  },
  'continue of an unrolled loop by the device'(i, n) {
    'use gpu';
    let sum = i32(0);
    for (let k = 0; k < 5; k++) {
      if ((i + k) % 2 === 0) continue;
      sum += k + 1;
    }
    for (const k of [1, 2, 3]) {
      if (k * n === i) continue;
      sum += 100 * k;
    }
    return sum;
  },
  'unrolled loops in each other with jumps'(i, n) {
    'use gpu';
    let sum = i32(0);
    outer: for (let a = 0; a < 4; a++) {
      for (let b = 0; b < 4; b++) {
        if (a === 3) break outer;
        if (b > i) continue outer;
        if (a + b > n) break;
        sum += 10 * a + b;
      }
      sum += 1000;
    }
    return sum;
  },
  'static break and continue'(i, n) {
    'use gpu';
    let sum = i32(i);
    for (let k = 0; k < 10; k++) {
      if (k === 2) continue;
      if (k === 5) break;
      sum += k * n;
    }
    return sum;
  },
  'labelled block'(i, n) {
    'use gpu';
    let r = i32(0);
    block: {
      r = 1;
      if (i < n) break block;
      r = 2;
      if (n === 5) {
        if (i === 7) break block;
        r = 3;
      }
      r += 10;
    }
    return r;
  },
  'switch on the device'(i, n) {
    'use gpu';
    let r = i32(0);
    switch (i % 5) {
      case 0:
        r = 1;
        break;
      case 1:
      case 2: {
        if (i > n) break;
        r = 2;
        break;
      }
      default:
        r = 3;
        break;
      case 4:
        r = 4;
    }
    return r;
  },
  'switch with return and continue'(i, n) {
    'use gpu';
    const name = (): number => {
      let sum = i32(0);
      for (const k of range(6)) {
        switch (k) {
          case 1:
            continue;
          case 3:
            if (i === 9) return 77;
            break;
          default:
            sum += k;
        }
        sum += 100;
      }
      return sum + n;
    };
    return name();
  },
  'switch that always returns'(i, n) {
    'use gpu';
    const name = (): number => {
      switch (i % 4) {
        case 0:
          return 5;
        case 1:
        case 2:
          if (i > n) return 6;
          return 7;
        default:
          return i;
      }
    };
    return name() * 10 + n;
  },
  'switch that returns and goes on'(i, n) {
    'use gpu';
    const name = (): number => {
      switch (i % 4) {
        case 0:
          return 5;
        default:
          if (i > n) break;
          return 7;
      }
      return 9;
    };
    return name();
  },
  'endless loop that returns'(i, n) {
    'use gpu';
    const find = (): number => {
      let a = i32(i);
      while (true) {
        if (a > 40) return a;
        if (a === n) return -1;
        a += 7;
      }
    };
    return find();
  },
  'switch that is known'(i, n) {
    'use gpu';
    let r = i32(0);
    for (const kind of ['a', 'b', 'c', 'd']) {
      switch (kind) {
        // @ts-expect-error it runs into the next case on purpose
        case 'a':
          r += i;
        // falls through
        case 'b':
          r += 10;
          break;
        case 'c':
          if (i > n) break;
          r += 1000;
          break;
        default:
          r += 5;
      }
    }
    return r;
  },
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

function early(a: number, b: number): number {
  'use gpu';
  if (a < b) return 1;
  if (a === b) {
    return 2;
  }
  return 3;
}

function sorted(a: number, b: number): number[] {
  'use gpu';
  if (a < b) return [a, b];
  return [b, a];
}

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
