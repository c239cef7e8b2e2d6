import { $, f32, f32x4, i32, local, v128 } from 'wasmati';
import {
  exp,
  EXP_CONSTANTS,
  heldFloats,
  increase,
  kernel,
  loadElements,
  multiplyAdd,
  overRow,
  storeElements,
  sumLanes,
  words,
  zero,
  type Int,
  type Kernel,
  type Splat,
  type Vec,
} from '../wasm/emit.ts';
import { activationKernels } from './activations.ts';

/*
 * Kernels over one row of float32. A sum keeps eight lanes, element i in lane i mod 8; lanes are added in pairs at the
 * end. So a row's result depends on its elements and its width alone.
 */

/** Add a pair of accumulators lane by lane, then the lanes. The f32 is left on the stack. */
function sumPair(a: Vec, b: Vec): void {
  local.get(a);
  local.get(b);
  f32x4.add();
  local.set(a);
  sumLanes(a);
}

/** (x, y, out, n): out = x + y */
const add: Kernel = kernel(4, { ints: 1, vectors: 2 }, ([x, y, out, n], [end], v) => {
  overRow(x, n, end, (vectors, single) => {
    for (let j = 0; j < vectors; j++) {
      loadElements(x, 16 * j, single);
      loadElements(y, 16 * j, single);
      f32x4.add();
      local.set(v[j]);
    }
    for (let j = 0; j < vectors; j++) storeElements(out, 16 * j, v[j], single);
    increase(y, single ? 4 : 32);
    increase(out, single ? 4 : 32);
  });
});

/** (x, w, out, n, epsilon bits, 1 / n bits): out = x * w / sqrt(mean(x^2) + epsilon) */
const rmsNorm: Kernel = kernel(6, { ints: 2, vectors: 5 }, ([x, w, out, n, epsilon, inverse], [end, start], v) => {
  const [a, b, t0, t1, scale] = v;
  zero(a);
  zero(b);
  local.get(x);
  local.set(start);
  overRow(x, n, end, (vectors, single) => {
    for (let j = 0; j < vectors; j++) {
      loadElements(x, 16 * j, single);
      local.set([t0, t1][j]);
    }
    for (let j = 0; j < vectors; j++) multiplyAdd([t0, t1][j], [t0, t1][j], [a, b][j]);
  });
  reciprocalRoot(a, b, epsilon, inverse, scale);
  overRow(start, n, end, (vectors, single) => {
    for (let j = 0; j < vectors; j++) {
      loadElements(start, 16 * j, single);
      local.get(scale);
      f32x4.mul();
      loadElements(w, 16 * j, single);
      f32x4.mul();
      local.set([t0, t1][j]);
    }
    for (let j = 0; j < vectors; j++) storeElements(out, 16 * j, [t0, t1][j], single);
    increase(w, single ? 4 : 32);
    increase(out, single ? 4 : 32);
  });
});

/** scale = 1 / sqrt(sum(a, b) * inverse + epsilon) in all lanes */
function reciprocalRoot(a: Vec, b: Vec, epsilon: Int, inverse: Int, scale: Vec): void {
  f32.const(1);
  sumPair(a, b);
  local.get(inverse);
  f32.reinterpret_i32();
  f32.mul();
  local.get(epsilon);
  f32.reinterpret_i32();
  f32.add();
  f32.sqrt();
  f32.div();
  f32x4.splat();
  local.set(scale);
}

/** (x, w, bias, out, n, epsilon bits, 1 / n bits): out = (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * w + bias */
const layerNorm: Kernel = kernel(
  7,
  { ints: 3, vectors: 7 },
  ([x, w, bias, out, n, epsilon, inverse], [end, at, start], v) => {
    const [a, b, t0, t1, scale, mean, one] = v;
    const t = [t0, t1];
    zero(a);
    zero(b);
    local.get(x);
    local.set(start);
    overRow(x, n, end, (vectors, single) => {
      for (let j = 0; j < vectors; j++) {
        loadElements(x, 16 * j, single);
        local.get([a, b][j]);
        f32x4.add();
        local.set([a, b][j]);
      }
    });
    sumPair(a, b);
    local.get(inverse);
    f32.reinterpret_i32();
    f32.mul();
    f32x4.splat();
    local.set(mean);
    zero(a);
    zero(b);
    // A single element has company of zeros in its vector, whose distance from the mean must not count.
    words(0);
    i32.const(-1);
    replaceLane0();
    local.set(one);
    local.get(start);
    local.set(at);
    overRow(at, n, end, (vectors, single) => {
      for (let j = 0; j < vectors; j++) {
        centred(at, j, single);
        local.set(t[j]);
      }
      for (let j = 0; j < vectors; j++) multiplyAdd(t[j], t[j], [a, b][j]);
    });
    reciprocalRoot(a, b, epsilon, inverse, scale);
    overRow(start, n, end, (vectors, single) => {
      for (let j = 0; j < vectors; j++) {
        centred(start, j, single);
        local.get(scale);
        f32x4.mul();
        loadElements(w, 16 * j, single);
        loadElements(bias, 16 * j, single);
        f32x4.relaxed_madd();
        local.set(t[j]);
      }
      for (let j = 0; j < vectors; j++) storeElements(out, 16 * j, t[j], single);
      for (const pointer of [w, bias, out]) increase(pointer, single ? 4 : 32);
    });

    function centred(pointer: Int, j: number, single: boolean): void {
      loadElements(pointer, 16 * j, single);
      local.get(mean);
      f32x4.sub();
      if (!single) return;
      local.get(one);
      v128.and();
    }
  },
);

/** Put the i32 on the stack into lane 0 of the vector below it. */
function replaceLane0(): void {
  f32.reinterpret_i32();
  f32x4.replace_lane(0);
}

/** (x, n, out): out[0] = maximum, out[1] = sum of exp(x - maximum). NaN anywhere makes both NaN. */
const summary: Kernel = kernel(3, { ints: 2, vectors: 8 + EXP_CONSTANTS.length }, ([x, n, out], [end, start], v) => {
  const [a, b, maximum, lane0, ...rest] = v;
  local.get(x);
  local.set(start);
  const constant = heldFloats(EXP_CONSTANTS, rest.slice(4), x);
  rowMaximum(x, n, end, a, b, maximum, f32x4.max);
  expSum(start, n, end, { a, b, maximum, lane0, scratch: rest, constant }, undefined);
  storeScalar(out, 0, () => {
    local.get(maximum);
    f32x4.extract_lane(0);
  });
  storeScalar(out, 4, () => sumPair(a, b));
});

/**
 * (x, n, factor): x = exp(x - the row's maximum), and factor[0] = 1 / their sum: multiplying by it is left to what is
 * summed with these weights.
 */
const softmax: Kernel = kernel(3, { ints: 2, vectors: 8 + EXP_CONSTANTS.length }, ([x, n, factor], [end, at], v) => {
  const [a, b, maximum, lane0, ...rest] = v;
  local.get(x);
  local.set(at);
  const constant = heldFloats(EXP_CONSTANTS, rest.slice(4), x);
  // `pmax` is one instruction. It may pass over a NaN, which comes to light in the sum.
  rowMaximum(x, n, end, a, b, maximum, f32x4.pmax);
  expSum(at, n, end, { a, b, maximum, lane0, scratch: rest, constant }, at);
  storeScalar(factor, 0, () => {
    f32.const(1);
    sumPair(a, b);
    f32.div();
  });
});

/** maximum = the row's largest element in all lanes */
function rowMaximum(x: Int, n: Int, end: Int, a: Vec, b: Vec, maximum: Vec, larger: typeof f32x4.max): void {
  local.get(x);
  v128.load32_splat({ offset: 0 }, $ as never);
  local.tee(a);
  local.set(b);
  overRow(x, n, end, (vectors, single) => {
    for (let j = 0; j < vectors; j++) {
      const accumulator = [a, b][j];
      local.get(accumulator);
      local.get(x);
      if (single) v128.load32_splat({ offset: 0 }, $ as never);
      else v128.load({ offset: 16 * j }, $ as never);
      larger();
      local.set(accumulator);
    }
  });
  local.get(a);
  local.get(b);
  larger();
  local.set(a);
  for (const lane of [0, 1, 2, 3]) {
    local.get(a);
    f32x4.extract_lane(lane);
    if (lane > 0) f32.max();
  }
  f32x4.splat();
  local.set(maximum);
}

interface ExpSum {
  readonly a: Vec;
  readonly b: Vec;
  readonly maximum: Vec;
  readonly lane0: Vec;
  readonly scratch: readonly Vec[];
  readonly constant: Splat;
}

/** a, b = lane sums of exp(x - maximum); the exponentials are written to `target` where it is given. */
function expSum(x: Int, n: Int, end: Int, locals: ExpSum, target: Int | undefined): void {
  const { a, b, maximum, lane0, scratch, constant } = locals;
  const [t0, t1, m, r] = scratch;
  zero(a);
  zero(b);
  words(0);
  i32.const(-1);
  replaceLane0();
  local.set(lane0);
  overRow(x, n, end, (vectors, single) => {
    const values = [t0, t1].slice(0, vectors);
    values.forEach((value, j) => {
      loadElements(x, 16 * j, single);
      local.get(maximum);
      f32x4.sub();
      local.set(value);
      exp(value, value, m, r, constant);
      if (single) {
        local.get(value);
        local.get(lane0);
        v128.and();
        local.set(value);
      }
      local.get(value);
      local.get([a, b][j]);
      f32x4.add();
      local.set([a, b][j]);
    });
    if (target !== undefined) values.forEach((value, j) => storeElements(target, 16 * j, value, single));
  });
}

function storeScalar(address: Int, offset: number, value: () => void): void {
  local.get(address);
  value();
  f32.store({ offset }, $ as never, $ as never);
}

/** (x, n): x /= max(Euclidean length, 1e-12) */
const normalize: Kernel = kernel(2, { ints: 2, vectors: 5 }, ([x, n], [end, start], [a, b, t0, t1, scale]) => {
  const t = [t0, t1];
  zero(a);
  zero(b);
  local.get(x);
  local.set(start);
  overRow(x, n, end, (vectors, single) => {
    for (let j = 0; j < vectors; j++) {
      loadElements(x, 16 * j, single);
      local.set(t[j]);
    }
    for (let j = 0; j < vectors; j++) multiplyAdd(t[j], t[j], [a, b][j]);
  });
  f32.const(1);
  sumPair(a, b);
  f32.sqrt();
  f32.const(1e-12);
  f32.max();
  f32.div();
  f32x4.splat();
  local.set(scale);
  overRow(start, n, end, (vectors, single) => {
    for (let j = 0; j < vectors; j++) {
      loadElements(start, 16 * j, single);
      local.get(scale);
      f32x4.mul();
      local.set(t[j]);
    }
    for (let j = 0; j < vectors; j++) storeElements(start, 16 * j, t[j], single);
  });
});

/** (x, n, factor bits): x *= factor */
const scale: Kernel = kernel(3, { ints: 1, vectors: 3 }, ([x, n, factor], [end], [t0, t1, s]) => {
  local.get(factor);
  f32.reinterpret_i32();
  f32x4.splat();
  local.set(s);
  overRow(x, n, end, (vectors, single) => {
    const t = [t0, t1].slice(0, vectors);
    t.forEach((value, j) => {
      loadElements(x, 16 * j, single);
      local.get(s);
      f32x4.mul();
      local.set(value);
    });
    t.forEach((value, j) => storeElements(x, 16 * j, value, single));
  });
});

/** (x, y, n): y = max(x, y) */
const maximum: Kernel = kernel(3, { ints: 1, vectors: 2 }, ([x, y, n], [end], [t0, t1]) => {
  overRow(x, n, end, (vectors, single) => {
    const t = [t0, t1].slice(0, vectors);
    t.forEach((value, j) => {
      loadElements(x, 16 * j, single);
      loadElements(y, 16 * j, single);
      f32x4.max();
      local.set(value);
    });
    t.forEach((value, j) => storeElements(y, 16 * j, value, single));
    increase(y, single ? 4 : 32);
  });
});

export const rowKernels: Record<string, Kernel> = {
  add,
  rmsNorm,
  layerNorm,
  summary,
  softmax,
  normalize,
  scale,
  maximum,
  ...activationKernels,
};
