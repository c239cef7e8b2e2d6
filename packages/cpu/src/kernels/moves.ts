import { $, f32, f32x4, i32, if_, local } from 'wasmati';
import { increase, kernel, loadElements, storeElements, whileBelow, type Int, type Kernel } from '../wasm/emit.ts';

/*
 * Kernels that move and convert elements. Conversions to float32 are exact; float32 to bfloat16 rounds to nearest even.
 */

/** (x, cos, sin, half): x[i], x[half + i] = x[i] cos - x[half + i] sin, x[half + i] cos + x[i] sin */
const rotate: Kernel = kernel(4, { ints: 2, vectors: 6 }, ([x, cos, sin, half], [end, other], v) => {
  const [a, b, c, s, t, u] = v;
  local.get(x);
  bytesOf(half);
  i32.add();
  local.set(other);
  for (const [width, single] of [
    [16, false],
    [4, true],
  ] as const) {
    local.get(x);
    local.get(half);
    i32.const(single ? 3 : ~3);
    i32.and();
    i32.const(2);
    i32.shl();
    i32.add();
    local.set(end);
    whileBelow(x, end, width, () => {
      for (const [from, to] of [
        [x, a],
        [other, b],
        [cos, c],
        [sin, s],
      ]) {
        loadElements(from, 0, single);
        local.set(to);
      }
      // The product with the sine is rounded first, then fused into the one with the cosine.
      for (const [first, second, negate, to] of [
        [a, b, true, t],
        [b, a, false, u],
      ] as const) {
        local.get(first);
        local.get(c);
        local.get(second);
        local.get(s);
        f32x4.mul();
        if (negate) f32x4.neg();
        f32x4.relaxed_madd();
        local.set(to);
      }
      storeElements(x, 0, t, single);
      storeElements(other, 0, u, single);
      for (const pointer of [other, cos, sin]) increase(pointer, width);
    });
  }
});

/** (from, to, n, step): float32 elements one after the other to places `step` bytes apart. */
const scatterF32: Kernel = kernel(4, { ints: 1 }, ([from, to, n, step], [end]) => {
  each(from, n, 4, end, () => {
    local.get(to);
    local.get(from);
    i32.load({ offset: 0 }, $ as never);
    i32.store({ offset: 0 }, $ as never, $ as never);
    advanceBy(to, step);
  });
});

/** (from, to, n, step): the same, rounded to bfloat16. */
const scatterBf16: Kernel = kernel(4, { ints: 2 }, ([from, to, n, step], [end, bits]) => {
  each(from, n, 4, end, () => {
    local.get(to);
    local.get(from);
    i32.load({ offset: 0 }, $ as never);
    local.set(bits);
    roundToBf16(bits);
    i32.store16({ offset: 0 }, $ as never, $ as never);
    advanceBy(to, step);
  });
});

/** (from, to, n): float32 rounded to bfloat16 in groups of 16 columns, in the order of `bf16Index`; n a multiple of 16. */
const groupBf16: Kernel = kernel(3, { ints: 2 }, ([from, to, n], [end, bits]) => {
  each(from, n, 64, end, () => {
    for (let column = 0; column < 16; column++) {
      local.get(to);
      local.get(from);
      i32.load({ offset: 4 * column }, $ as never);
      local.set(bits);
      roundToBf16(bits);
      i32.store16({ offset: 2 * (2 * (column & 7) + (column >> 3)) }, $ as never, $ as never);
    }
    increase(to, 32);
  });
});

/** (from, to, n, step): 16-bit elements one after the other to places `step` bytes apart. */
const scatter16: Kernel = kernel(4, { ints: 1 }, ([from, to, n, step], [end]) => {
  each(from, n, 2, end, () => {
    local.get(to);
    local.get(from);
    i32.load16_u({ offset: 0 }, $ as never);
    i32.store16({ offset: 0 }, $ as never, $ as never);
    advanceBy(to, step);
  });
});

/** (from, to, n, step): float32 elements `step` bytes apart to places one after the other. */
const gatherF32: Kernel = kernel(4, { ints: 1 }, ([from, to, n, step], [end]) => {
  each(to, n, 4, end, () => {
    local.get(to);
    local.get(from);
    i32.load({ offset: 0 }, $ as never);
    i32.store({ offset: 0 }, $ as never, $ as never);
    advanceBy(from, step);
  });
});

/** (from, to, n, step): bfloat16 elements `step` bytes apart to float32 one after the other. */
const gatherBf16: Kernel = kernel(4, { ints: 1 }, ([from, to, n, step], [end]) => {
  each(to, n, 4, end, () => {
    local.get(to);
    local.get(from);
    i32.load16_u({ offset: 0 }, $ as never);
    i32.const(16);
    i32.shl();
    i32.store({ offset: 0 }, $ as never, $ as never);
    advanceBy(from, step);
  });
});

/**
 * (x, n, threshold bits, indices, values, capacity, count): elements of x that are >= threshold, with their indices, in
 * order; how many there are goes to `count`.
 */
const candidates: Kernel = kernel(7, { ints: 4 }, (args, [start, end, found, at]) => {
  const [x, n, threshold, indices, values, capacity, count] = args;
  local.get(x);
  local.set(start);
  each(x, n, 4, end, () => {
    local.get(x);
    f32.load({ offset: 0 }, $ as never);
    local.get(threshold);
    f32.reinterpret_i32();
    f32.ge();
    ifTrue(() => {
      local.get(found);
      local.get(capacity);
      i32.lt_u();
      ifTrue(() => {
        local.get(found);
        i32.const(2);
        i32.shl();
        local.set(at);
        local.get(indices);
        local.get(at);
        i32.add();
        local.get(x);
        local.get(start);
        i32.sub();
        i32.const(2);
        i32.shr_u();
        i32.store({ offset: 0 }, $ as never, $ as never);
        local.get(values);
        local.get(at);
        i32.add();
        local.get(x);
        i32.load({ offset: 0 }, $ as never);
        i32.store({ offset: 0 }, $ as never, $ as never);
      });
      increase(found, 1);
    });
  });
  local.get(count);
  local.get(found);
  i32.store({ offset: 0 }, $ as never, $ as never);
});

function ifTrue(body: () => void): void {
  if_({}, body);
}

/** Go over n elements of `bytes` each at `at`. */
function each(at: Int, n: Int, bytes: number, end: Int, body: () => void): void {
  local.get(at);
  local.get(n);
  if (bytes === 64) {
    // n counts elements, a turn takes sixteen of four bytes.
    i32.const(4);
  } else i32.const(bytes);
  i32.mul();
  i32.add();
  local.set(end);
  whileBelow(at, end, bytes, body);
}

function bytesOf(n: Int): void {
  local.get(n);
  i32.const(2);
  i32.shl();
}

function advanceBy(pointer: Int, step: Int): void {
  local.get(pointer);
  local.get(step);
  i32.add();
  local.set(pointer);
}

/** The bfloat16 nearest to the float32 with these bits, ties to even, left on the stack. */
function roundToBf16(bits: Int): void {
  local.get(bits);
  local.get(bits);
  i32.const(16);
  i32.shr_u();
  i32.const(1);
  i32.and();
  i32.const(0x7fff);
  i32.add();
  i32.add();
  i32.const(16);
  i32.shr_u();
}

export const moveKernels: Record<string, Kernel> = {
  rotate,
  scatterF32,
  scatterBf16,
  groupBf16,
  scatter16,
  gatherF32,
  gatherBf16,
  candidates,
};
