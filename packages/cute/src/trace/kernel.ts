import { compileKernel, type Compiled } from '../compile.ts';
import { KernelError } from '../ir/error.ts';
import { fileName } from '../ir/file-name.ts';
import {
  formatPosition,
  type DeclaredShape,
  type KernelIR,
  type KernelParameter,
  type Position,
  type Value,
} from '../ir/ir.ts';
import { gcdNumber } from '../layout/arithmetic.ts';
import { Layout, LayoutError, type IntTuple, type Leaf } from '../layout/index.ts';
import { leavesOf } from '../layout/tuple.ts';
import { bitsOf, type TypeName } from '../types/dtype.ts';
import { finish } from './finish.ts';
import { Trace, setTrace, tracing } from './state.ts';
import type { Dim, TensorSpec } from './spec.ts';
import { makeTensor, type Tensor } from './tensor.ts';
import { isScalarType, typeNameOf, type Scalar, type ScalarType } from './types.ts';

/** A CUtensorMap that is passed by value; the launch encodes it. */
export interface TensorMapSpec {
  readonly kind: 'tensormap';
  readonly boxBytes?: number;
}

/** A parameter that describes how TMA moves tiles of a tensor. */
export const tensorMap: TensorMapSpec = { kind: 'tensormap' };

/**
 * A tensor map whose box the kernel relies on: what barriers expect is then checked against what copies move, and the
 * simulator refuses a map with another box. Elements of a box outside of the tensor count, too.
 *
 * @param box elements in each dimension; im2col: channels and pixels
 */
export function tensorMapOf(type: ScalarType<TypeName> | TypeName, box: readonly number[]): TensorMapSpec {
  const bytes = box.reduce((product, size) => product * size, 1) * (bitsOf(typeNameOf(type)) / 8);
  if (!Number.isInteger(bytes) || bytes < 1) throw new RangeError(`a box of ${box.join(' x ')} holds no elements`);
  return { kind: 'tensormap', boxBytes: bytes };
}

export type ParameterSpec = TensorSpec | ScalarType<TypeName> | TensorMapSpec;
export type Parameters = Readonly<Record<string, ParameterSpec>>;

/** What a kernel's function gets for its parameters. */
export type Arguments<P extends Parameters> = {
  readonly [N in keyof P]: P[N] extends TensorSpec<infer K>
    ? Tensor<Scalar<K>>
    : P[N] extends ScalarType<infer K>
      ? Scalar<K>
      : Value;
};

type Axes = number | readonly [number, number, number];

/** What a launch has to know before a kernel is traced. */
export interface KernelFacts<P extends Parameters, C> {
  /** Letters, digits and underscores: the name of the PTX entry. */
  readonly name: string;
  readonly params: P;
  /** Threads of a CTA. */
  readonly threads: Axes | ((config: C) => Axes);
  /** CTAs of a launch, where they follow from the configuration alone. */
  readonly grid?: Axes | ((config: C) => Axes);
  /** CTAs of a cluster. */
  readonly cluster?: Axes | ((config: C) => Axes);
  /** CTAs that shall fit a multiprocessor side by side. */
  readonly minBlocks?: number | ((config: C) => number);
  /** Most registers a thread may take. */
  readonly maxRegisters?: number | ((config: C) => number);
  /** It calls `gridDependencyWait` itself, so that it may start before the kernel before it has ended. */
  readonly overlapsPrevious?: boolean;
}

/** Extents by the names that tensors' shapes give them; those that are missing become parameters of the kernel. */
export interface DimsConfig {
  readonly dims?: Readonly<Record<string, number>>;
}

/** A kernel: its function is run once for every configuration, which records what it does. */
export interface Kernel<P extends Parameters, C> {
  readonly name: string;
  readonly params: P;
  /** Throws KernelError with file and line where the function does what a kernel cannot. */
  trace(...config: object extends C ? [config?: C & DimsConfig] : [config: C & DimsConfig]): KernelIR;
  /** CTAs of a launch in x, y, z; undefined where the kernel does not say. */
  grid(...config: object extends C ? [config?: C] : [config: C]): readonly [number, number, number] | undefined;
  /** Traces, verifies and compiles to PTX. */
  compile(config: C & DimsConfig, options: { readonly arch: string }): Compiled;
}

const DEFAULT_ALIGN = 16;

/** Makes a kernel of a function marked `'use gpu'`. `C` is its configuration, known at compile time. */
export function kernel<P extends Parameters, C = object>(
  facts: KernelFacts<P, C>,
  body: (args: Arguments<P>, config: C & DimsConfig) => void,
): Kernel<P, C> {
  if (!/^[A-Za-z_]\w*$/.test(facts.name)) {
    throw new KernelError(`kernel name ${JSON.stringify(facts.name)}: use letters, digits and underscores`);
  }
  if (/\{\s*(['"])use gpu\1/.test(String(body))) {
    throw new KernelError(
      `kernel ${facts.name} was not transformed: start node with --import @rose/cute/register (or use the bundler's plugin)`,
    );
  }
  const trace = (config: C & DimsConfig = {} as C & DimsConfig): KernelIR => record(facts, body, config);
  return {
    name: facts.name,
    params: facts.params,
    trace,
    grid: (config: C = {} as C) => axesOf(facts.name, 'grid', facts.grid, config),
    compile: (config, options) => compileKernel(trace(config), options),
  };
}

function record<P extends Parameters, C>(
  facts: KernelFacts<P, C>,
  body: (args: Arguments<P>, config: C & DimsConfig) => void,
  config: C & DimsConfig,
): KernelIR {
  const { name } = facts;
  if (tracing())
    throw new KernelError(`kernel ${name} cannot be traced inside of another kernel: call a function instead`);
  const cluster = axesOf(name, 'cluster', facts.cluster, config);
  const minBlocks = of(facts.minBlocks, config);
  const maxRegisters = of(facts.maxRegisters, config);
  const kernelIR: KernelIR = {
    name,
    params: [],
    shared: [],
    body: [],
    threads: axesOf(name, 'threads', facts.threads, config)!,
    ...(cluster ? { cluster } : {}),
    ...(minBlocks === undefined ? {} : { minBlocks }),
    ...(maxRegisters === undefined ? {} : { maxRegisters }),
    ...(facts.overlapsPrevious ? { overlapsPrevious: true } : {}),
    values: 0,
    slotCount: 0,
  };
  const start: Position = { file: `kernel ${name}`, line: 1, column: 1 };
  const trace = new Trace(kernelIR, start);
  const outer = setTrace(trace);
  try {
    const args = parametersOf(trace, facts.params, config.dims ?? {});
    const before = trace.label('entered');
    body(args as Arguments<P>, config);
    if (trace.label('entered') === next(before)) {
      throw new KernelError(`the function of kernel ${name} is not marked: put 'use gpu' first in its body`);
    }
  } catch (error) {
    // Where nothing of the kernel was recorded yet, the function that JavaScript ran says where.
    throw located(error, trace.builder.position === start ? (thrownAt(error) ?? start) : trace.builder.position);
  } finally {
    setTrace(outer);
  }
  return finish(trace);
}

/** This package's modules; what they throw is thrown where they were called. */
const OWN = new URL('..', import.meta.url).href;

/** The innermost place outside of this package that an error's stack names; functions are not moved by the transform. */
function thrownAt(error: unknown): Position | undefined {
  if (!(error instanceof Error)) return undefined;
  for (const [, url, line, column] of (error.stack ?? '').matchAll(/\(?(file:\/\/.+?):(\d+):(\d+)\)?$/gm)) {
    if (!url.startsWith(OWN)) return { file: fileName(url), line: Number(line), column: Number(column) };
  }
  return undefined;
}

/** What the language and JavaScript refuse: wrong shapes, numbers out of range, values that are something else. */
const REFUSALS = [KernelError, LayoutError, RangeError, TypeError];

/** Errors say where in the kernel they were made. Those that an author throws keep their class. */
function located(error: unknown, position: Position): unknown {
  if (!(error instanceof Error) || (error instanceof KernelError && error.position)) return error;
  if (REFUSALS.some((refusal) => error instanceof refusal)) {
    const here = new KernelError(error.message, position);
    here.cause = error;
    return here;
  }
  // The transform keeps lines and moves columns.
  const thrown = thrownAt(error);
  error.message += `\n  at ${thrown ? `${thrown.file}:${thrown.line}` : formatPosition(position)}`;
  return error;
}

/** The label that follows when nothing was entered in between. */
function next(label: string): string {
  return label.replace(/\d+$/, (digits) => String(Number(digits) + 1));
}

/** Declares the parameters, in order, then the extents that only the launch knows. */
function parametersOf(
  trace: Trace,
  specs: Parameters,
  dims: Readonly<Record<string, number>>,
): Record<string, unknown> {
  const { kernel: kernelIR, builder } = trace;
  const declare = (param: KernelParameter, type: TypeName): Value => {
    const index = kernelIR.params.length;
    kernelIR.params.push(param);
    return builder.value('param', type, { attributes: { index } });
  };
  const addresses = Object.entries(specs).map(([name, spec]): [string, ParameterSpec, Value, number] => {
    const index = kernelIR.params.length;
    if (isScalarType(spec)) return [name, spec, declare({ kind: 'value', name, type: spec.type }, spec.type), index];
    if (spec.kind === 'tensormap') {
      const { boxBytes } = spec;
      const param = { kind: 'tensormap', name, ...(boxBytes === undefined ? {} : { boxBytes }) } as const;
      return [name, spec, declare(param, 'ptr.generic'), index];
    }
    const align = spec.align ?? DEFAULT_ALIGN;
    const address = declare({ kind: 'tensor', name, element: spec.type, align, access: 'readwrite' }, 'ptr.global');
    address.divisor = align;
    return [name, spec, address, index];
  });

  const extents = new Map<string, Leaf>();
  const extent = (dim: Dim): Leaf => {
    if (typeof dim === 'number') return dim;
    const { name, by } = typeof dim === 'string' ? { name: dim, by: 1 } : dim;
    let known = extents.get(name);
    if (known === undefined) {
      const given = dims[name];
      if (given !== undefined && !(Number.isSafeInteger(given) && given >= 1)) {
        throw new KernelError(
          `extent ${name} of kernel ${kernelIR.name} is ${given}: it must be a whole number from 1`,
        );
      }
      known = given ?? declare({ kind: 'value', name, type: 'i32', extent: true }, 'i32');
      extents.set(name, known);
    }
    if (typeof known === 'number') {
      if (known % by !== 0)
        throw new KernelError(`extent ${name} of kernel ${kernelIR.name} is ${known}, which is no multiple of ${by}`);
    } else if ((known as Value).divisor % by !== 0) (known as Value).divisor = lcm((known as Value).divisor, by);
    return known;
  };

  const args: Record<string, unknown> = {};
  for (const [name, spec, value, index] of addresses) {
    if (isScalarType(spec) || spec.kind === 'tensormap') args[name] = value;
    else {
      const { type } = spec;
      const layout = layoutOf(spec, extent);
      const param = kernelIR.params[index] as Extract<KernelParameter, { kind: 'tensor' }>;
      kernelIR.params[index] = { ...param, declared: declaredShape(layout, !spec.stride) };
      args[name] = makeTensor({ address: value, offset: 0, layout, type, space: 'global', param: index });
    }
  }
  return args;
}

function declaredShape(layout: Layout, compact: boolean): DeclaredShape {
  const known = (leaf: Leaf): number | undefined => (typeof leaf === 'number' ? leaf : undefined);
  const extents = leavesOf(layout.shape).map(known);
  const strides = (leavesOf(layout.stride as IntTuple) as Leaf[]).map(known);
  // A stride below 0 goes before the first element.
  const last = extents.reduce<number>((sum, extent = NaN, i) => sum + (extent - 1) * (strides[i] ?? NaN), 0);
  return { extents, compact, elements: last >= 0 ? last + 1 : undefined };
}

/** Row-major unless strides are given. */
function layoutOf(spec: TensorSpec, extent: (dim: Dim) => Leaf): Layout {
  const shape = spec.shape.map(extent);
  const stride: Leaf[] = spec.stride ? spec.stride.map(extent) : [];
  if (!spec.stride) {
    let step: Leaf = 1;
    for (let i = shape.length - 1; i >= 0; i--) {
      stride[i] = step;
      if (i > 0) step = times(step, shape[i]);
    }
  }
  return shape.length === 1 ? new Layout(shape[0], stride[0]) : new Layout(shape, stride);
}

function times(a: Leaf, b: Leaf): Leaf {
  if (typeof a === 'number') return typeof b === 'number' ? a * b : a === 1 ? b : b.mul(a);
  return a.mul(b);
}

function of<T extends number, C>(fact: T | ((config: C) => T) | undefined, config: C): T | undefined {
  return typeof fact === 'function' ? fact(config) : fact;
}

function axesOf<C>(
  kernelName: string,
  what: string,
  fact: Axes | ((config: C) => Axes) | undefined,
  config: C,
): readonly [number, number, number] | undefined {
  const axes = typeof fact === 'function' ? fact(config) : fact;
  if (axes === undefined) return undefined;
  const list: readonly [number, number, number] = typeof axes === 'number' ? [axes, 1, 1] : axes;
  if (list.every((size) => Number.isInteger(size) && size >= 1)) return list;
  const message = `${what} of kernel ${kernelName} is ${String(axes)}: give whole numbers from 1`;
  throw new KernelError(message, thrownAt(new Error(message)));
}

function lcm(a: number, b: number): number {
  return (a * b) / gcdNumber(a, b);
}
