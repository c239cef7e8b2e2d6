/* oxlint-disable -- odd corners of JavaScript are what these programs are for */
import { i32, mutable, range } from '../../src/trace/index.ts';

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
