import { $, br, br_if, block, f32, f32x4, func, i32, i32x4, importMemory, local, loop, v128 } from 'wasmati';

/** The arena's memory as every kernel imports it: shared, of any size up to 4 GiB. */
export const memory: ReturnType<typeof importMemory> = importMemory({ min: 1, max: 65536, shared: true });

export type Int = Parameters<typeof local.get>[0];
export type Vec = Int;
export type Kernel = ReturnType<typeof func>;

/** Vectors that are handled side by side: V8's revectorizer fuses two adjacent 128-bit operations into one of 256. */
export const PAIR = 2;

/** A kernel: `params` i32 arguments (addresses and counts), some scratch locals, no result. */
export function kernel(
  params: number,
  scratch: { ints?: number; vectors?: number },
  body: (params: Int[], ints: Int[], vectors: Vec[]) => void,
): Kernel {
  const ints = scratch.ints ?? 0;
  const locals = [...new Array(ints).fill(i32), ...new Array(scratch.vectors ?? 0).fill(v128)];
  return func({ in: new Array(params).fill(i32) as never, locals: locals as never, out: [] }, (args, all) => {
    const list = all as unknown as Int[];
    body(args, list.slice(0, ints), list.slice(ints));
  });
}

/** Run the body while `i` is below `end` (unsigned), adding `step` to it each time; it may run no time at all. */
export function whileBelow(i: Int, end: Int, step: number, body: () => void): void {
  block({}, () => {
    loop({}, () => {
      local.get(i);
      local.get(end);
      i32.ge_u();
      br_if(1);
      body();
      increase(i, step);
      br(0);
    });
  });
}

/** Run the body at least once, until `i` has reached `end` exactly. One branch a turn: for the innermost loops. */
export function untilEqual(i: Int, end: Int, step: number, body: () => void): void {
  loop({}, () => {
    body();
    increase(i, step);
    local.get(i);
    local.get(end);
    i32.ne();
    br_if(0);
  });
}

/** Turns of an innermost loop that are written out: its branch and the pointers' increments are paid once for all. */
const UNROLL = 4;

/**
 * Go over `count` float32 elements at `at`, several in a turn of the loop: the body is told how many, and leaves `at` to
 * this. `ends` are two locals to use.
 */
export function overElements(at: Int, count: Int, ends: readonly [Int, Int], body: (turns: number) => void): void {
  const [unrolledEnd, end] = ends;
  elementAddress(at, count, end);
  local.get(at);
  local.get(count);
  i32.const(-UNROLL);
  i32.and();
  i32.const(2);
  i32.shl();
  i32.add();
  local.set(unrolledEnd);
  whileBelow(at, unrolledEnd, 4 * UNROLL, () => body(UNROLL));
  whileBelow(at, end, 4, () => body(1));
}

/** target = base + 4 count */
export function elementAddress(base: Int, count: Int, target: Int): void {
  local.get(base);
  local.get(count);
  i32.const(2);
  i32.shl();
  i32.add();
  local.set(target);
}

export function increase(i: Int, step: number): void {
  local.get(i);
  i32.const(step);
  i32.add();
  local.set(i);
}

/** i += by */
export function advance(i: Int, by: Int): void {
  local.get(i);
  local.get(by);
  i32.add();
  local.set(i);
}

export function load(address: Int, offset: number): void {
  local.get(address);
  v128.load({ offset }, $ as never);
}

export function loadSplat(address: Int, offset: number): void {
  local.get(address);
  v128.load32_splat({ offset }, $ as never);
}

export function store(address: Int, offset: number, value: Vec): void {
  local.get(address);
  local.get(value);
  v128.store({ offset }, $ as never, $ as never);
}

export function splat(value: number): void {
  v128.const('f32x4', [value, value, value, value]);
}

export function words(value: number): void {
  const unsigned = value >>> 0;
  const bytes = [unsigned & 255, (unsigned >>> 8) & 255, (unsigned >>> 16) & 255, unsigned >>> 24];
  v128.const('i8x16', [...bytes, ...bytes, ...bytes, ...bytes] as never);
}

export function zero(vector: Vec): void {
  words(0);
  local.set(vector);
}

/** c += a * b, fused. */
export function multiplyAdd(a: Vec, b: Vec, c: Vec): void {
  local.get(a);
  local.get(b);
  local.get(c);
  f32x4.relaxed_madd();
  local.set(c);
}

/** The four lanes' sum, (0 + 1) + (2 + 3), as an f32 on the stack. */
export function sumLanes(vector: Vec): void {
  const lane = (i: number): void => {
    local.get(vector);
    f32x4.extract_lane(i);
  };
  lane(0);
  lane(1);
  f32.add();
  lane(2);
  lane(3);
  f32.add();
  f32.add();
}

/**
 * Go over a row of `count` float32 elements: eight at a time as a pair of vectors, the rest one by one, each alone in
 * lane 0 of the first vector of the pair. `at` ends behind the row. The body is told how many vectors it has to handle
 * and whether they hold a single element; what it does must be the same operations for every element.
 */
export function overRow(at: Int, count: Int, end: Int, body: (vectors: number, single: boolean) => void): void {
  local.get(at);
  local.get(count);
  i32.const(~7);
  i32.and();
  i32.const(2);
  i32.shl();
  i32.add();
  local.set(end);
  whileBelow(at, end, 32, () => body(PAIR, false));
  local.get(end);
  local.get(count);
  i32.const(7);
  i32.and();
  i32.const(2);
  i32.shl();
  i32.add();
  local.set(end);
  whileBelow(at, end, 4, () => body(1, true));
}

/** The vector at `address + offset`, or the single element there in lane 0 and zeros. */
export function loadElements(address: Int, offset: number, single: boolean): void {
  local.get(address);
  if (single) v128.load32_zero({ offset }, $ as never);
  else v128.load({ offset }, $ as never);
}

export function storeElements(address: Int, offset: number, value: Vec, single: boolean): void {
  if (!single) return store(address, offset, value);
  local.get(address);
  local.get(value);
  f32x4.extract_lane(0);
  f32.store({ offset }, $ as never, $ as never);
}

/** Leaves a vector of one number on the stack. */
export type Splat = (value: number) => void;

/**
 * Hold 32-bit words in vectors through a kernel's loops. V8 rebuilds a literal at each use, from a general register
 * (three instructions on x86), and never hoists it; a bit of an address or stride, always 0, keeps it from seeing one.
 * @param multiple of 4, or of 2 at least
 */
export function held(bits: readonly number[], vectors: readonly Vec[], multiple: Int): void {
  bits.forEach((word, i) => {
    local.get(multiple);
    i32.const(1);
    i32.and();
    i32.const(word | 0);
    i32.or();
    i32x4.splat();
    local.set(vectors[i]);
  });
}

/** Hold float32 constants likewise; the result puts one of them on the stack. */
export function heldFloats(values: readonly number[], vectors: readonly Vec[], multiple: Int): Splat {
  held([...new Int32Array(Float32Array.from(values).buffer)], vectors, multiple);
  const places = new Map(values.map((value, i) => [value, vectors[i]]));
  return (value) => {
    const place = places.get(value);
    if (place === undefined) throw new Error(`the constant ${value} is not held`);
    local.get(place);
  };
}

/**
 * 1.5 * 2^23 + 127. A float32 sum with it is rounded to a whole number n, and its lowest bits hold n + 127: the exponent
 * of 2^n.
 */
const ROUND = 12582912 + 127;
const LOWEST = -87.33654;
const HIGHEST = 88.8;
const LN2 = [0.693359375, -2.1219444e-4] as const;
/** Highest power first. */
const POLYNOMIAL = [
  1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1, 1,
] as const;

/** What `exp` asks of its `Splat`. */
export const EXP_CONSTANTS: readonly number[] = [LOWEST, HIGHEST, Math.LOG2E, ROUND, ...LN2, ...new Set(POLYNOMIAL)];

/**
 * target = exp(x): Cephes' expf, range reduction by ln 2 in two parts and a polynomial of degree 6; below 2 ulp. All its
 * operations have a 256-bit form of one instruction; `max`, `min` and `trunc_sat` have not.
 */
export function exp(x: Vec, target: Vec, n: Vec, r: Vec, constant: Splat): void {
  local.get(x);
  constant(LOWEST);
  f32x4.pmax();
  constant(HIGHEST);
  f32x4.pmin();
  local.set(r);
  local.get(r);
  constant(Math.LOG2E);
  constant(ROUND);
  f32x4.relaxed_madd();
  local.set(target);
  local.get(target);
  constant(ROUND);
  f32x4.sub();
  local.set(n);
  for (const part of LN2) {
    local.get(n);
    constant(part);
    local.get(r);
    f32x4.relaxed_nmadd();
    local.set(r);
  }
  constant(POLYNOMIAL[0]);
  for (const c of POLYNOMIAL.slice(1)) {
    local.get(r);
    constant(c);
    f32x4.relaxed_madd();
  }
  local.get(target);
  i32.const(23);
  i32x4.shl();
  f32x4.mul();
  local.set(target);
}
