import type { SimulatorTensor, SimulatorTensorMap, TensorMapDescription, TypeName } from '@rose/cute';
import { seededRandom } from './support/random.ts';
import { SpecError } from './spec.ts';
import type {
  Bound,
  Expected,
  KernelArgument,
  KernelModule,
  Roofline,
  Specialisation,
  TensorArgument,
} from './spec.ts';
import { bytesOf, decode, encode, halfUlp } from './support/storage.ts';

/** One case of a kernel on an executor, beside its float64 reference. */

/** A tensor among bytes that are not its own: the tensor begins at `offset` and has `length` bytes. */
export interface GuardedTensor {
  readonly type: TypeName;
  readonly access: 'read' | 'write' | 'readwrite';
  /** The guard before, the tensor, the guard behind. After a run: what they hold then. */
  readonly bytes: Uint8Array;
  readonly offset: number;
  readonly length: number;
  /** The parameter is this tensor map of the tensor, not its address. */
  readonly map?: TensorMapDescription;
}

export type ExecutorArgument = GuardedTensor | number;

/** Something that runs kernels: the simulator, or a GPU. `Kernel` is what it takes: a traced or a compiled kernel. */
export interface Executor<Kernel> {
  /** For messages. */
  readonly name: string;
  /**
   * Runs the kernel to its end. Puts every byte of the tensors' `bytes` into memory, guards included where it can, and
   * back. `args` are in the order of the kernel's parameters.
   */
  run(
    kernel: Kernel,
    args: Readonly<Record<string, ExecutorArgument>>,
    grid: readonly [number, number, number],
  ): void | Promise<void>;
}

/** The arguments of a case: as bytes for a kernel and as numbers for the reference. */
export interface CaseData {
  readonly args: Readonly<Record<string, ExecutorArgument>>;
  readonly values: Readonly<Record<string, Float64Array | number>>;
  /** Bytes of each tensor as they were put in, for what must not change. */
  readonly before: ReadonlyMap<string, Uint8Array>;
}

export interface OutputReport {
  readonly name: string;
  readonly type: TypeName;
  /** Elements beyond their bound, of `count`. */
  readonly wrong: number;
  readonly count: number;
  /** Wrong ones whose bytes are still the poison that they were before. */
  readonly unwritten: number;
  /** It has no bound: every bit counts. */
  readonly exact: boolean;
  /** Largest |got - expected| divided by its tolerance; at most 1 where all is well. Infinite: an exact output differs. */
  readonly worst: number;
  /** Largest |got - expected|. */
  readonly worstAbsolute: number;
  /** ‖got - expected‖ / ‖expected‖. */
  readonly relative: number;
  /** The element of `worst`: its index in the tensor, what came and what should have. */
  readonly at: { readonly index: readonly number[]; readonly got: number; readonly expected: number };
}

export interface CheckReport {
  readonly kernel: string;
  readonly executor: string;
  readonly specialisation: Specialisation;
  readonly outputs: readonly OutputReport[];
  /** What else is wrong, as sentences: writes outside of a tensor, inputs changed. */
  readonly faults: readonly string[];
  readonly passed: boolean;
  readonly roofline: Roofline;
}

/** Bytes around each tensor. A multiple of every alignment. */
const GUARD = 256;
const GUARD_BYTE = 0xa5;
/** NaN in every float type. */
const POISON_BYTE = 0xff;

/** Makes the inputs of a case; `seed` decides them. Outputs are full of poison. */
export function makeCase(module: KernelModule, s: Specialisation, seed = 1): CaseData {
  const args: Record<string, ExecutorArgument> = {};
  const values: Record<string, Float64Array | number> = {};
  const before = new Map<string, Uint8Array>();
  const maps = module.maps(s);
  let stream = seed;
  for (const [name, argument] of argumentsOf(module, s)) {
    if (argument.kind === 'scalar') {
      const [value] = decode(argument.type, encode(argument.type, Float64Array.of(argument.value)));
      args[name] = value;
      values[name] = value;
      continue;
    }
    const count = elements(argument);
    const length = bytesOf(argument.type, count);
    const bytes = new Uint8Array(GUARD + length + GUARD).fill(GUARD_BYTE);
    // Each tensor has its own stream of numbers, so that one more tensor does not change the others.
    stream += 1;
    if (argument.role === 'out') bytes.fill(POISON_BYTE, GUARD, GUARD + length);
    else bytes.set(encode(argument.type, filled(module, name, argument, count, stream)), GUARD);
    before.set(name, bytes.slice(GUARD, GUARD + length));
    values[name] = decode(argument.type, bytes.subarray(GUARD, GUARD + length));
    const map = name in maps ? { map: maps[name] } : {};
    args[name] = { type: argument.type, access: ACCESS[argument.role], bytes, offset: GUARD, length, ...map };
  }
  return { args, values, before };
}

/** The arguments as the simulator takes them: tensors without their guards, since it has its own. */
export function simulatorArguments(
  args: Readonly<Record<string, ExecutorArgument>>,
): Record<string, number | SimulatorTensor | SimulatorTensorMap> {
  return Object.fromEntries(
    Object.entries(args).map(([name, argument]) => {
      if (typeof argument === 'number') return [name, argument];
      const tensor = argument.bytes.subarray(argument.offset, argument.offset + argument.length);
      return [name, argument.map ? { map: argument.map, tensor } : tensor];
    }),
  );
}

/** Runs a case and compares. Throws what the executor throws. */
export async function checkKernel<Kernel>(
  module: KernelModule,
  s: Specialisation,
  executor: Executor<Kernel>,
  kernel: Kernel,
  options: { readonly multiprocessors: number; readonly seed?: number },
): Promise<CheckReport> {
  const data = makeCase(module, s, options.seed);
  await executor.run(kernel, data.args, module.grid(s, options));
  return compareCase(module, s, data, executor.name);
}

/** Compares what is in the arguments' bytes after a run with the reference. */
export function compareCase(module: KernelModule, s: Specialisation, data: CaseData, executor: string): CheckReport {
  const reference = module.reference(data.values as never, s.dims, s.options);
  const faults: string[] = [];
  const outputs: OutputReport[] = [];
  for (const [name, argument] of argumentsOf(module, s)) {
    const tensor = data.args[name];
    if (argument.kind === 'scalar' || typeof tensor === 'number') continue;
    const end = tensor.offset + tensor.length;
    for (const [where, from, to] of [
      ['before', 0, tensor.offset],
      ['behind', end, tensor.bytes.length],
    ] as const) {
      const at = tensor.bytes.subarray(from, to).findIndex((byte) => byte !== GUARD_BYTE);
      if (at >= 0)
        faults.push(`${name}: bytes ${where} the tensor were written (first at byte ${from + at - tensor.offset})`);
    }
    const now = tensor.bytes.subarray(tensor.offset, end);
    if (argument.role === 'in') {
      if (Buffer.compare(now, data.before.get(name)!) !== 0) faults.push(`${name}: an input was changed`);
      continue;
    }
    const expected = reference[name];
    if (!expected) throw new SpecError(`kernel ${module.name}: the reference gives no ${name}`);
    outputs.push(compare(name, argument, now, expected));
  }
  const passed = faults.length === 0 && outputs.every(({ wrong }) => wrong === 0);
  const roofline = module.roofline(s.dims, s.options);
  return { kernel: module.name, executor, specialisation: s, outputs, faults, passed, roofline };
}

/** A report as lines of text. `found`: the executor has found something wrong, whatever the outputs are. */
export function formatReport(report: CheckReport, found = false): string {
  const { dims, options, tuning } = report.specialisation;
  const list = (record: object): string =>
    Object.entries(record)
      .map(([name, value]) => `${name}=${String(value)}`)
      .join(' ');
  const head = [list(dims), list(options), list(tuning)].filter((text) => text !== '').join(' | ');
  const lines = [`${report.passed && !found ? 'ok  ' : 'FAIL'} ${report.kernel} on ${report.executor}: ${head}`];
  for (const output of report.outputs) {
    lines.push(`  ${output.name}: ${formatOutput(output)}`);
  }
  return [...lines, ...report.faults.map((fault) => `  ${fault}`)].join('\n');
}

function formatOutput({ at, count, exact, relative, unwritten, worst, wrong }: OutputReport): string {
  const error = `${worst.toPrecision(3)} of the bound, relative error ${relative.toExponential(2)}`;
  if (wrong === 0) return exact ? 'exact' : error;
  // NaN has no distance from anything.
  const head = exact ? 'must be exact; ' : Number.isFinite(worst) ? `${error}; ` : '';
  const never = unwritten === 0 ? '' : ` (${unwritten} never written)`;
  const place = `[${at.index.join(', ')}]: ${at.got}, should be ${at.expected}`;
  return `${head}${wrong} of ${count} elements wrong${never}, worst at ${place}`;
}

function compare(name: string, argument: TensorArgument, bytes: Uint8Array, expected: Expected): OutputReport {
  const got = decode(argument.type, bytes);
  const width = bytes.length / got.length;
  const untouched = (i: number): boolean =>
    argument.role === 'out' && bytes.subarray(i * width, (i + 1) * width).every((byte) => byte === POISON_BYTE);
  const { values, magnitude } = expected instanceof Float64Array ? { values: expected, magnitude: expected } : expected;
  if (values.length !== got.length) {
    throw new SpecError(`the reference of ${name} has ${values.length} elements, the tensor ${got.length}`);
  }
  let [wrong, unwritten, worst, worstAbsolute, at, errorSquares, squares] = [0, 0, 0, 0, 0, 0, 0];
  for (let i = 0; i < got.length; i++) {
    if (Object.is(got[i], values[i]) || got[i] === values[i]) {
      if (Number.isFinite(values[i])) squares += values[i] ** 2;
      continue;
    }
    const error = Math.abs(got[i] - values[i]);
    const share = error / toleranceOf(argument.type, argument.bound, values[i], Math.abs(magnitude[i]));
    // NaN is beyond every bound.
    const size = Number.isNaN(share) ? Infinity : share;
    if (size > 1) {
      wrong += 1;
      if (untouched(i)) unwritten += 1;
    }
    if (size > worst) [worst, at] = [size, i];
    worstAbsolute = Math.max(worstAbsolute, Number.isNaN(error) ? Infinity : error);
    errorSquares += error ** 2;
    squares += values[i] ** 2;
  }
  return {
    name,
    type: argument.type,
    wrong,
    count: got.length,
    unwritten,
    exact: argument.bound === undefined,
    worst,
    worstAbsolute,
    relative: squares === 0 ? Math.sqrt(errorSquares) : Math.sqrt(errorSquares / squares),
    at: { index: indexOf(at, argument.shape), got: got[at], expected: values[at] },
  };
}

/** How far an element may be off; see Bound. */
export function toleranceOf(type: TypeName, bound: Bound | undefined, value: number, magnitude: number): number {
  if (!bound) return 0;
  const before = bound.roundings * 2 ** -24 * magnitude;
  // The value before the last rounding may lie in the next binade.
  return halfUlp(type, Math.abs(value) + before) + before;
}

function filled(
  module: KernelModule,
  name: string,
  argument: TensorArgument,
  count: number,
  seed: number,
): Float64Array {
  if (!argument.fill) throw new SpecError(`kernel ${module.name}: input ${name} has no fill`);
  const made = argument.fill(seededRandom(seed), count);
  if (made.length !== count)
    throw new SpecError(`kernel ${module.name}: ${name} has ${count} elements, its fill made ${made.length}`);
  return made;
}

function argumentsOf(module: KernelModule, s: Specialisation): [string, KernelArgument][] {
  return Object.entries(module.args(s.dims, s.options)).filter(([, argument]) => argument !== undefined);
}

/** Number of a tensor's elements. */
export function elements(argument: TensorArgument): number {
  return argument.shape.reduce((product, size) => product * size, 1);
}

function indexOf(element: number, shape: readonly number[]): number[] {
  const index: number[] = [];
  let rest = element;
  for (const size of [...shape].reverse()) {
    index.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return index;
}

const ACCESS = { in: 'read', out: 'write', inout: 'readwrite' } as const;
