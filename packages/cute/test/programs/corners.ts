/* oxlint-disable -- odd corners of JavaScript are what these programs are for */
import { fragment, i32, idiv, mutable, range } from '../../src/trace/index.ts';

/** More functions that are run twice, as in control.ts: what JavaScript and the device have to agree on. */
export const CORNERS: Readonly<Record<string, (i: i32, n: i32) => number>> = {
  'remainders of negative numbers'(i, n) {
    'use gpu';
    return ((i - n) % 5) * 100 + ((i - n * 3) % 7) + (i % 3);
  },
  'quotients of negative numbers'(i, n) {
    'use gpu';
    return (idiv(i - n, 3) * 1000 + idiv(n - i * 2, 4)) | 0;
  },
  'shifts without a sign'(i, n) {
    'use gpu';
    return i32((i - n) >>> 28) + ((i - n) >> 1) + ((i - n) << 3);
  },
  'sums and products wrap'(i, n) {
    'use gpu';
    return (i * 100000 * 100000 + n * 2147483647) | 0;
  },
  'bits of everything'(i, n) {
    'use gpu';
    return (~i ^ (n << 3)) & (0xff | (i * n));
  },
  'predicates compared'(i, n) {
    'use gpu';
    const a = i < n;
    const b = n > 3;
    return (a === b ? 1 : 0) + (a !== b ? 2 : 0) + (!a ? 4 : 0) + (!a && !b ? 8 : 0) + (a || !b ? 16 : 0);
  },
  'a choice with side effects on both sides'(i, n) {
    'use gpu';
    let x = i32(1);
    let y = i32(2);
    const r = i < n ? ((x += 10), x) : ((y += 20), (y *= 2), y);
    return r * 1000 + x * 50 + y;
  },
  'a right side of && that assigns'(i, n) {
    'use gpu';
    let x = i32(0);
    if (i > 2 && (x = x + i) > n && (x += 100) > 0) x += 1000;
    return x;
  },
  'an assignment in a condition'(i, n) {
    'use gpu';
    let x = i32(i);
    let rounds = i32(0);
    while ((x = x - 3) > n) rounds++;
    return rounds * 100 + x;
  },
  'continue in do while goes to the test'(i, n) {
    'use gpu';
    let x = i32(0);
    let kept = i32(0);
    do {
      x++;
      if (x % 2 === 0) continue;
      kept += x;
    } while (x < n + i);
    return kept * 100 + x;
  },
  'return out of do while in a helper'(i, n) {
    'use gpu';
    return firstAbove(i, n) + firstAbove(n, i) * 1000;
  },
  'labels through three loops'(i, n) {
    'use gpu';
    let r = i32(0);
    outer: for (const a of range(4)) {
      middle: for (const b of range(4)) {
        for (const c of range(4)) {
          if (a + b + c > i) continue outer;
          if (a * b * c === n) break middle;
          if (c > b) continue middle;
          r += a * 16 + b * 4 + c;
        }
        r += 1000;
      }
      r += 100000;
    }
    return r;
  },
  'break and continue of a switch in a loop'(i, n) {
    'use gpu';
    let r = i32(0);
    for (const k of range(n)) {
      switch ((k + i) % 4) {
        case 0:
          r += 1;
          break;
        case 1:
          continue;
        case 2:
          if (k > 10) break;
          r += 10;
          break;
        default:
          r += 100;
      }
      r += 1000;
    }
    return r;
  },
  'loops without a round'(i, n) {
    'use gpu';
    let r = i32(7);
    for (const k of range(n, 0)) r += k;
    for (const k of range(i, i)) r += 1000 + k;
    while (r < 0) r++;
    return r;
  },
  'a range that counts down'(i, n) {
    'use gpu';
    let r = i32(0);
    for (const k of range(n, i - 5, -3)) r = r * 3 + k;
    return r | 0;
  },
  'swap in a loop'(i, n) {
    'use gpu';
    let [a, b] = [i32(0), i32(1)];
    for (const k of range(i)) {
      [a, b] = [b, a + b];
      if (k > n) [a, b] = [b, a];
    }
    return a % 10007;
  },
  'two counters'(i, n) {
    'use gpu';
    let r = i32(0);
    for (let a = i32(0), b = i32(i); a < b; a++, b -= 2) r += a * b + n;
    return r;
  },
  'closures keep the counters of an unrolled loop'(i, n) {
    'use gpu';
    const list: (() => number)[] = [];
    for (let k = 0; k < 4; k++) list.push(() => k * 10 + i);
    let r = i32(0);
    for (const [k, f] of list.entries()) if (i > k) r += f() * (k + n);
    return r;
  },
  'closures over the counter of a range'(i, n) {
    'use gpu';
    let r = i32(0);
    for (const k of range(n)) {
      const square = () => k * k;
      const more = (x: number) => square() + x;
      if (k % 2 === i % 2) r += more(i);
    }
    return r;
  },
  'a helper inside that changes what is around it'(i, n) {
    'use gpu';
    let total = i32(0);
    let calls = i32(0);
    const add = (x: number): number => {
      calls++;
      if (x > n) return 0;
      total += x;
      return total;
    };
    for (const k of range(i)) if (add(k) > 20) add(1);
    return total * 100 + calls;
  },
  'a helper without a result that returns early'(i, n) {
    'use gpu';
    const state = mutable({ a: i32(0), b: i32(0) });
    const visit = (x: number): void => {
      state.a += 1;
      if (x > n) return;
      state.b += x;
      if (x === 2) {
        state.a += 100;
        return;
      }
      state.b += 1000;
    };
    for (const k of range(i)) visit(k);
    visit(n);
    return state.a * 7 + state.b;
  },
  'recursion to a known depth'(i, n) {
    'use gpu';
    return power(i % 5, 7) + power(n, 2);
  },
  'names that hide each other'(i, n) {
    'use gpu';
    let x = i32(1);
    {
      let x = i32(i);
      x += 5;
      if (x > n) {
        let x = i32(100);
        x++;
        i = i + x;
      }
    }
    for (let x = 0; x < 2; x++) i += x;
    return x * 1000 + i;
  },
  'defaults and the rest of the arguments'(i, n) {
    'use gpu';
    const f = (a: number, b = a + n, ...rest: number[]): number => rest.reduce((s, x) => s * 2 + x, a * b);
    return f(i) + f(i, 3) + f(i, 4, i, n) + f(1, undefined, 5);
  },
  'classes that inherit'(i, n) {
    'use gpu';
    const c = new Doubler(i);
    for (const k of range(n)) if (k < i) c.add(k);
    return c.sum * 3 + Doubler.kind;
  },
  'optional and missing things'(i, n) {
    'use gpu';
    const o: { a?: { b: number }; f?: (x: number) => number } = { a: { b: i } };
    const p: typeof o = {};
    return (o.a?.b ?? 100) + (p.a?.b ?? n) + (p.f?.(1) ?? 7) + (o.f ? 1 : 2);
  },
  'assignments with a condition in them'(i, n) {
    'use gpu';
    let a: number | undefined;
    a ??= i;
    let k = 0;
    k ||= 5;
    let l = 3;
    l &&= 4;
    return a + k * 100 + l * 1000 + n;
  },
  'counters in the middle of an expression'(i, n) {
    'use gpu';
    let k = i32(i);
    const a = k++ * 2 + k--;
    const b = ++k - --k;
    k += k++ + ++k;
    return a * 1000 + b * 100 + k + n;
  },
  'fragments as values'(i, n) {
    'use gpu';
    let a = fragment(i32, 3, 1);
    const b = a;
    a[0] = i32(i);
    let c = a;
    if (i > n) {
      c = a.map((v) => v * 2);
      a[1] = i32(50);
    }
    for (let k = 0; k < 3; k++) c[k] += k;
    return a[0] * 10000 + a[1] * 100 + b[0] * 10 + c[0] + c[1] + c[2];
  },
  'arrays of device values under conditions'(i, n) {
    'use gpu';
    const pair = i < n ? [i, i + 1] : [n, 3];
    const { s, t } = i > 4 ? { s: i, t: 1 } : { s: 2, t: n };
    return pair[0] * 1000 + pair[1] * 100 + s * 10 + t;
  },
  'an exit from the middle of everything'(i, n) {
    'use gpu';
    for (const a of range(3)) {
      for (let b = 0; b < 3; b++) {
        switch (a + b) {
          case 1:
            if (i === 3) return 1;
            break;
          case 2:
            for (let c = i32(0); ; c++) {
              if (c > n) break;
              if (c * b === i) return 100 + c;
            }
            break;
          default:
            if (a > 1 && b > 1) return 7;
        }
      }
    }
    return 9;
  },
  'a condition that is known inside of one that is not'(i, n) {
    'use gpu';
    let r = i32(0);
    for (let k = 0; k < 5; k++) {
      if (k === 1) continue;
      if (i > k) {
        if (k === 3) break;
        r += k + 1;
      } else r += 100;
      if (k === 4) r += n;
    }
    return r;
  },
};

function firstAbove(x: number, limit: number): number {
  'use gpu';
  let k = i32(0);
  do {
    if (k * k > x) return k;
    k += 1;
  } while (k < limit);
  return -1;
}

function power(x: number, exponent: number): number {
  'use gpu';
  if (exponent === 0) return 1;
  const half = power(x, Math.floor(exponent / 2));
  return exponent % 2 === 0 ? half * half : half * half * x;
}

class Summer {
  readonly state: { sum: number };

  constructor(start: number) {
    'use gpu';
    this.state = mutable({ sum: i32(start) });
  }

  get sum(): number {
    'use gpu';
    return this.state.sum;
  }

  add(x: number): void {
    'use gpu';
    this.state.sum += x;
  }
}

class Doubler extends Summer {
  static readonly kind: number = 5;

  override add(x: number): void {
    'use gpu';
    if (x % 2 === 0) super.add(x);
    super.add(x * 2);
  }
}
