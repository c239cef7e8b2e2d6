import type { KernelIR, TensorMapDescription, TypeName } from '@rose/cute';

/**
 * What one kernel's file says beside the kernel: which sizes and variants there are, how it is configured and launched,
 * what it is given, what must come out (in float64, on the CPU), how far off that may be and why, and the fewest bytes
 * and operations it could take. `defineKernel` in a file of anybody makes it known to `rose kernel run|ptx|sim|bench`.
 */

/** Sizes by name, whole numbers: `{ rows: 16384, columns: 4096 }`. */
export type Dims = Readonly<Record<string, number>>;
export type Choice = string | number | boolean;
/** Named choices, each with the values it can take; the first is the usual one. */
export type Space = Readonly<Record<string, readonly Choice[]>>;
/** One value of each. */
export type Chosen<S extends Space> = { readonly [K in keyof S]: S[K][number] };

/** How a kernel is specialised: everything here is a constant while it is traced. */
export interface Specialisation<O extends Space = Space, T extends Space = Space> {
  readonly dims: Dims;
  /** What is computed. */
  readonly options: Chosen<O>;
  /** How it is computed. */
  readonly tuning: Chosen<T>;
}

/** What a grid may depend on besides the sizes. */
export interface DeviceFacts {
  readonly multiprocessors: number;
}

/** Makes the values of an input. `length` of them, in row-major order; they are rounded to the tensor's type afterwards. */
export type Fill = (random: Random, length: number) => Float64Array;

/** Seeded numbers, so that a case is the same everywhere. */
export interface Random {
  /** From [0, 1). */
  uniform(): number;
  /** Of mean 0 and variance 1. */
  normal(): number;
  /** From 0 to `end - 1`. */
  integer(end: number): number;
}

/**
 * How far an element may be from the float64 reference: half a unit in the last place of the output's type, plus
 * `roundings` units of 2^-24 of the element's magnitude for what was computed in float32 before.
 */
export interface Bound {
  readonly roundings: number;
  /** Where that number comes from. */
  readonly why: string;
}

/** A dense row-major tensor in global memory, 256-byte aligned. */
export interface TensorArgument {
  readonly kind: 'tensor';
  readonly type: TypeName;
  readonly shape: readonly number[];
  /** `out` is full of poison before the kernel runs; `inout` starts from `fill`. */
  readonly role: 'in' | 'out' | 'inout';
  readonly fill?: Fill;
  /** Of outputs; absent: every bit counts. */
  readonly bound?: Bound;
}

export interface ScalarArgument {
  readonly kind: 'scalar';
  readonly type: TypeName;
  readonly value: number;
}

export type KernelArgument = TensorArgument | ScalarArgument;

/** The arguments' values for the reference: tensors as float64 in row-major order, exactly what the kernel gets. */
export type Values<A> = { readonly [K in keyof A]: NonNullable<A[K]> extends ScalarArgument ? number : Float64Array };

/**
 * What an output must hold; NaN where the kernel must not write. `magnitude` where a difference of large terms makes the
 * value small (default: |value|).
 */
export type Expected = Float64Array | { readonly values: Float64Array; readonly magnitude: Float64Array };

/** The least work there is: each input read once, each output written once. */
export interface Roofline {
  /** Bytes to and from device memory. */
  readonly bytes: number;
  /** Floating-point operations. */
  readonly flops: number;
}

/**
 * How tunings of a kernel are kept in tables (tuning-table.ts). A table says how fast something is computed and never what:
 * it cannot set what decides the order of a reduction.
 */
export interface TableFacts<O extends Space = Space, T extends Space = Space> {
  /** Names of the tuning that decide the order in which a row is reduced: `choose` alone sets them. */
  readonly order?: readonly (keyof T & string)[];
  /**
   * Of sizes and options what a measured tuning counts for. A size may be rounded up: what was measured then counts for all
   * that are rounded to the same. Absent: sizes and options as they are.
   */
  readonly key?: (dims: Dims, options: Chosen<O>) => Readonly<Record<string, Choice>>;
  /** To be raised where the values of the tuning come to mean something else: what was measured before no longer counts. Default 1. */
  readonly version?: number;
}

/** A case to try: sizes, and options and tuning where they are not the usual ones. */
export interface KernelCase<O extends Space = Space, T extends Space = Space> {
  readonly dims: Dims;
  readonly options?: Partial<Chosen<O>>;
  readonly tuning?: Partial<Chosen<T>>;
  /** Too large for the simulator: only for a GPU. */
  readonly large?: boolean;
}

/** A kernel's file contradicts itself: its reference or its inputs are not those of its arguments. */
export class SpecError extends TypeError {
  override readonly name = 'SpecError';
}

export interface KernelSpec<
  O extends Space,
  T extends Space,
  A extends Readonly<Record<string, KernelArgument | undefined>>,
> {
  readonly name: string;
  /** The formula, in a line or two. */
  readonly summary: string;
  /** The one architecture that it is for, as `sm_90a`; absent: sm_80 and later. */
  readonly arch?: string;
  /** What each size means. */
  readonly dims: Readonly<Record<string, string>>;
  /** Sizes that only some variants have; `refuse` says where one is missing. */
  readonly optionalDims?: Readonly<Record<string, string>>;
  readonly options?: O;
  readonly tuning?: T;
  /** Why this cannot be had, as a sentence; undefined where it can. */
  readonly refuse?: (s: Specialisation<O, T>) => string | undefined;
  /**
   * The tuning for these sizes. What decides the order of a row's reduction must follow from the row's length and type
   * alone, never from the number of rows.
   */
  readonly choose: (dims: Dims, options: Chosen<O>) => Chosen<T>;
  /** How tables keep what was measured. */
  readonly tables?: TableFacts<O, T>;
  /** The kernel's parameters in their order, by name. */
  readonly args: (dims: Dims, options: Chosen<O>) => A;
  /** The tensors that the kernel moves with TMA, each with the map that its parameter is instead of an address. */
  readonly maps?: (s: Specialisation<O, T>) => Readonly<Record<string, TensorMapDescription>>;
  /** Runs the kernel's function once and records it. */
  readonly trace: (s: Specialisation<O, T>) => KernelIR;
  /** CTAs in x, y, z. */
  readonly grid: (s: Specialisation<O, T>, device: DeviceFacts) => readonly [number, number, number];
  readonly reference: (values: Values<A>, dims: Dims, options: Chosen<O>) => Readonly<Record<string, Expected>>;
  readonly roofline: (dims: Dims, options: Chosen<O>) => Roofline;
  readonly cases: readonly KernelCase<O, T>[];
}

/** A kernel's file to those who do not know which kernel it is. */
export type KernelModule = Required<
  Omit<KernelSpec<Space, Space, Readonly<Record<string, KernelArgument>>>, 'arch' | 'tables'>
> & { readonly arch?: string; readonly tables: Required<TableFacts> };

/** Tunings that were measured: see Tunings in tuning-table.ts. */
export interface KnownTunings {
  /** The whole tuning for these sizes and options, what decides an order as `choose` has it; undefined where none is known. */
  find(module: KernelModule, dims: Dims, options: Chosen<Space>): Chosen<Space> | undefined;
}

/** What TypeScript asks for, and files that nobody checked may lack. */
const REQUIRED = ['dims', 'choose', 'args', 'trace', 'grid', 'reference', 'roofline', 'cases'] as const;

/** Checks a specification and gives it the form that tools use. Throws TypeError for one that cannot be used. */
export function defineKernel<
  const O extends Space,
  const T extends Space,
  A extends Readonly<Record<string, KernelArgument | undefined>>,
>(spec: KernelSpec<O, T, A>): KernelModule {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(spec.name)) {
    throw new TypeError(`kernel name ${JSON.stringify(spec.name)}: use letters, digits and underscores`);
  }
  for (const field of REQUIRED) {
    if (spec[field] === undefined) throw new TypeError(`kernel ${spec.name} has no ${field}: defineKernel needs it`);
  }
  for (const [name, values] of [...Object.entries(spec.options ?? {}), ...Object.entries(spec.tuning ?? {})]) {
    if (values.length === 0) throw new TypeError(`kernel ${spec.name}: choice ${name} has no values`);
  }
  if (spec.cases.length === 0)
    throw new TypeError(`kernel ${spec.name} has no cases: give one, so that it can be tried`);
  for (const name of spec.tables?.order ?? []) {
    if (!(name in (spec.tuning ?? {}))) throw new TypeError(`kernel ${spec.name}: its tuning has no ${name}`);
  }
  const key = (dims: Dims, options: Chosen<O>): Chosen<Space> => ({ ...dims, ...options });
  const tables = { order: [], key, version: 1, ...spec.tables };
  const whole = {
    optionalDims: {},
    options: {},
    tuning: {},
    refuse: () => undefined,
    maps: () => ({}),
    ...spec,
    tables,
  };
  return whole as unknown as KernelModule;
}

/**
 * A case with everything chosen: the tuning is what `wanted` says, else what `tunings` know to be fast, else what the
 * kernel chooses. Throws RangeError where a choice has no such value or the kernel refuses it.
 */
export function specialise(module: KernelModule, wanted: KernelCase, tunings?: KnownTunings): Specialisation {
  for (const name of [...Object.keys(module.dims), ...Object.keys(module.optionalDims)]) {
    const size = wanted.dims[name];
    if (size === undefined && name in module.optionalDims) continue;
    if (!Number.isSafeInteger(size) || size < 1) {
      throw new RangeError(`kernel ${module.name}: size ${name} is ${size}; it must be a whole number from 1`);
    }
  }
  const options = choose(module.name, module.options, usual(module.options), wanted.options ?? {});
  const base = tunings?.find(module, wanted.dims, options) ?? module.choose(wanted.dims, options);
  const tuning = choose(module.name, module.tuning, base, wanted.tuning ?? {});
  const specialisation = { dims: wanted.dims, options, tuning };
  const refusal = module.refuse(specialisation);
  if (refusal !== undefined) throw new RangeError(`kernel ${module.name}: ${refusal}`);
  return specialisation;
}

/** The first value of every choice. */
export function usual<S extends Space>(space: S): Chosen<S> {
  return Object.fromEntries(Object.entries(space).map(([name, values]) => [name, values[0]])) as Chosen<S>;
}

/** All combinations of a space's values. */
export function* combinations(space: Space): Generator<Chosen<Space>> {
  const [first, ...rest] = Object.entries(space);
  if (!first) {
    yield {};
    return;
  }
  for (const value of first[1]) {
    for (const others of combinations(Object.fromEntries(rest))) yield { [first[0]]: value, ...others };
  }
}

function choose(kernel: string, space: Space, base: Chosen<Space>, wanted: Partial<Chosen<Space>>): Chosen<Space> {
  const chosen = { ...base, ...wanted };
  for (const [name, value] of Object.entries(chosen)) {
    if (value === undefined || !space[name]?.includes(value)) {
      const known = space[name]
        ? `it can be ${space[name].join(', ')}`
        : `there are ${Object.keys(space).join(', ') || 'none'}`;
      throw new RangeError(`kernel ${kernel}: choice ${name} = ${String(value)} is not known; ${known}`);
    }
  }
  return chosen as Chosen<Space>;
}

/** Arguments, shortly. */
export function input(type: TypeName, shape: readonly number[], fill: Fill = normal()): TensorArgument {
  return { kind: 'tensor', type, shape, role: 'in', fill };
}

export function output(type: TypeName, shape: readonly number[], bound?: Bound): TensorArgument {
  return { kind: 'tensor', type, shape, role: 'out', ...(bound ? { bound } : {}) };
}

/** A tensor of which the kernel changes a part: the rest must stay as it was. */
export function updated(
  type: TypeName,
  shape: readonly number[],
  bound?: Bound,
  fill: Fill = normal(),
): TensorArgument {
  return { kind: 'tensor', type, shape, role: 'inout', fill, ...(bound ? { bound } : {}) };
}

export function scalar(type: TypeName, value: number): ScalarArgument {
  return { kind: 'scalar', type, value };
}

/** Normally distributed values; a part of them `outliers` times as large, as activations have. */
export function normal(deviation = 1, mean = 0): Fill {
  return (random, length) => Float64Array.from({ length }, () => mean + deviation * random.normal());
}

export function integers(end: number, start = 0): Fill {
  return (random, length) => Float64Array.from({ length }, () => start + random.integer(end - start));
}

/** `length` different whole numbers below `end`. */
export function distinct(end: number): Fill {
  return (random, length) => {
    const all = Array.from({ length: end }, (_, i) => i);
    for (let i = 0; i < length; i++) {
      const j = i + random.integer(end - i);
      [all[i], all[j]] = [all[j], all[i]];
    }
    return Float64Array.from(all.slice(0, length));
  };
}

/** The same numbers always. */
export function values(list: readonly number[]): Fill {
  return () => Float64Array.from(list);
}
