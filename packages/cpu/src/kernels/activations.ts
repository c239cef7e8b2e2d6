import { f32x4, local, v128 } from 'wasmati';
import type { Activation } from '../api.ts';
import {
  exp,
  EXP_CONSTANTS,
  heldFloats,
  increase,
  kernel,
  loadElements,
  overRow,
  storeElements,
  words,
  type Kernel,
  type Splat,
  type Vec,
} from '../wasm/emit.ts';

/*
 * Activations, element by element: over a row in place, and of a gate times what it lets through.
 */

/** What the activations ask of their `Splat`. */
const GELU_TANH = { cubic: 0.044715, slope: 0.7978845608028654 } as const;
const ERF = {
  p: 0.3275911,
  /** Highest power first. */
  polynomial: [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592],
} as const;
const ACTIVATION_CONSTANTS: Readonly<Record<Activation, readonly number[]>> = {
  relu: [0],
  silu: EXP_CONSTANTS,
  tanh: [...EXP_CONSTANTS, 2],
  gelu_tanh: [...EXP_CONSTANTS, 2, 0.5, ...Object.values(GELU_TANH)],
  gelu: [...EXP_CONSTANTS, 0.5, Math.SQRT1_2, ERF.p, ...ERF.polynomial],
};
const MOST_CONSTANTS = Math.max(...Object.values(ACTIVATION_CONSTANTS).map((list) => list.length));

/** value = activation(value), using four scratch vectors. */
function activate(kind: Activation, value: Vec, s: readonly Vec[], constant: Splat): void {
  const [t, n, r, u] = s;
  switch (kind) {
    case 'relu':
      local.get(value);
      constant(0);
      f32x4.max();
      local.set(value);
      return;
    case 'silu':
      // x / (1 + exp(-x))
      local.get(value);
      f32x4.neg();
      local.set(t);
      exp(t, t, n, r, constant);
      local.get(value);
      constant(1);
      local.get(t);
      f32x4.add();
      f32x4.div();
      local.set(value);
      return;
    case 'tanh':
      tanh(value, t, n, r, constant);
      return;
    case 'gelu_tanh':
      // 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
      local.get(value);
      local.get(value);
      f32x4.mul();
      constant(GELU_TANH.cubic);
      constant(1);
      f32x4.relaxed_madd();
      local.get(value);
      f32x4.mul();
      constant(GELU_TANH.slope);
      f32x4.mul();
      local.set(u);
      tanh(u, t, n, r, constant);
      halfGate(value, u, constant);
      return;
    case 'gelu':
      // 0.5 x (1 + erf(x / sqrt(2)))
      local.get(value);
      constant(Math.SQRT1_2);
      f32x4.mul();
      local.set(u);
      erf(u, t, n, r, constant);
      halfGate(value, u, constant);
      return;
  }
}

/** value = 0.5 value (1 + u) */
function halfGate(value: Vec, u: Vec, constant: Splat): void {
  constant(0.5);
  local.get(value);
  f32x4.mul();
  constant(1);
  local.get(u);
  f32x4.add();
  f32x4.mul();
  local.set(value);
}

/** x = tanh(x) = 1 - 2 / (exp(2 x) + 1) */
function tanh(x: Vec, t: Vec, n: Vec, r: Vec, constant: Splat): void {
  local.get(x);
  local.get(x);
  f32x4.add();
  local.set(x);
  exp(x, t, n, r, constant);
  constant(1);
  constant(2);
  local.get(t);
  constant(1);
  f32x4.add();
  f32x4.div();
  f32x4.sub();
  local.set(x);
}

/** x = erf(x): Abramowitz and Stegun 7.1.26, error below 1.5e-7 before rounding. */
function erf(x: Vec, t: Vec, n: Vec, r: Vec, constant: Splat): void {
  // t = exp(-x^2)
  local.get(x);
  local.get(x);
  f32x4.mul();
  f32x4.neg();
  local.set(t);
  exp(t, t, n, r, constant);
  // r = 1 / (1 + 0.3275911 |x|)
  constant(1);
  local.get(x);
  f32x4.abs();
  constant(ERF.p);
  constant(1);
  f32x4.relaxed_madd();
  f32x4.div();
  local.set(r);
  constant(ERF.polynomial[0]);
  for (const c of ERF.polynomial.slice(1)) {
    local.get(r);
    constant(c);
    f32x4.relaxed_madd();
  }
  local.get(r);
  f32x4.mul();
  local.get(t);
  f32x4.mul();
  local.set(n);
  // 1 - n, with the sign of x
  constant(1);
  local.get(n);
  f32x4.sub();
  local.get(x);
  words(0x80000000);
  v128.and();
  v128.or();
  local.set(x);
}

/** (x, n): in place */
function activation(kind: Activation): Kernel {
  return kernel(2, { ints: 1, vectors: 6 + MOST_CONSTANTS }, ([x, n], [end], [v0, v1, ...rest]) => {
    const scratch = rest.slice(0, 4);
    const constant = heldFloats(ACTIVATION_CONSTANTS[kind], rest.slice(4), x);
    overRow(x, n, end, (vectors, single) => {
      const values = [v0, v1].slice(0, vectors);
      values.forEach((value, j) => {
        loadElements(x, 16 * j, single);
        local.set(value);
        activate(kind, value, scratch, constant);
      });
      values.forEach((value, j) => storeElements(x, 16 * j, value, single));
    });
  });
}

/** (gate, up, out, n): out = activation(gate) * up */
function gated(kind: Activation): Kernel {
  return kernel(4, { ints: 1, vectors: 6 + MOST_CONSTANTS }, ([gate, up, out, n], [end], [v0, v1, ...rest]) => {
    const scratch = rest.slice(0, 4);
    const constant = heldFloats(ACTIVATION_CONSTANTS[kind], rest.slice(4), gate);
    overRow(gate, n, end, (vectors, single) => {
      const values = [v0, v1].slice(0, vectors);
      values.forEach((value, j) => {
        loadElements(gate, 16 * j, single);
        local.set(value);
        activate(kind, value, scratch, constant);
        local.get(value);
        loadElements(up, 16 * j, single);
        f32x4.mul();
        local.set(value);
      });
      values.forEach((value, j) => storeElements(out, 16 * j, value, single));
      increase(up, single ? 4 : 32);
      increase(out, single ? 4 : 32);
    });
  });
}

export const activationKernels: Record<string, Kernel> = Object.fromEntries(
  (['silu', 'gelu', 'gelu_tanh', 'relu', 'tanh'] as const).flatMap((kind) => [
    [`activate_${kind}`, activation(kind)],
    [`gate_${kind}`, gated(kind)],
  ]),
);
