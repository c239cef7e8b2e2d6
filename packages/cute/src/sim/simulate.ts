import { KernelError } from '../ir/error.ts';
import { beginOf, walk, type KernelIR, type KernelParameter, type Node, type Position } from '../ir/ir.ts';
import { verifyKernel } from '../ir/verify.ts';
import { allocateShared } from '../passes/shared.ts';
import { ARCHS } from '../ptx/arch.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { encodeFloat, FLOAT_FORMATS, type SmallFloat } from '../types/numeric.ts';
import type { Launch, LineReport, SimulatorArgument, SimulatorResult, SimulatorTensor } from './api.ts';
import { Findings } from './findings.ts';
import { isBig, viewOf } from './lanes.ts';
import { MAP_WINDOW } from './locate.ts';
import { Machine, type Warp } from './machine.ts';
import { encodeMap, MAP_BYTES } from './map-bytes.ts';
import { GLOBAL_WINDOW, MemoryRegion } from './memory.ts';
import { Program } from './program.ts';
import { Scheduler } from './scheduler.ts';
import { tensorMapState } from './tensor-maps.ts';

/**
 * Runs a kernel on the CPU: the same IR that becomes PTX, with exact arithmetic (`APPROXIMATE` lists what the GPU computes
 * less exactly), and with checks that no GPU makes. Tensors are changed in place.
 *
 * @throws KernelError where the kernel cannot be run at all: what the verifier refuses, an argument that is missing or has
 * the wrong kind, an operation that is not simulated. What the kernel does wrong comes back as findings.
 */
export function simulate(kernel: KernelIR, { grid, args, options = {} }: Launch): SimulatorResult {
  checkGrid(kernel, grid);
  if (options.checks?.verify !== false) checkKernel(kernel);
  const findings = new Findings(options.limits?.findings ?? 100);
  const { trace } = options;
  const program = new Program(kernel, trace && traced);
  const machine = new Machine(kernel, program, findings, grid, options);
  const tensors = bindArguments(machine, args);
  let ctas = 0;
  try {
    ctas = new Scheduler(machine).run();
  } finally {
    for (const [tensor, region] of tensors)
      if (region.access !== 'read') bytesOf(tensor).set(region.bytes.subarray(0, region.size));
  }
  return {
    findings: findings.list,
    ok: findings.list.length === 0,
    printed: machine.printed,
    stats: { ctas, steps: machine.steps, banks: sorted(machine.banks), coalescing: sorted(machine.coalescing) },
  };

  function traced(warp: Warp, node: Node): void {
    const { cta, thread, step } = trace!;
    if (warp.cta.id.some((x, i) => x !== cta[i])) return;
    for (let lane = 0; lane < 32; lane++) {
      if (((warp.mask >>> lane) & 1) === 0 || warp.thread(lane).some((x, i) => x !== thread[i])) continue;
      step({ node, values: program.valuesOf(warp, node, lane) });
    }
  }
}

/** More would take days, and more memory than there is. */
const MOST_CTAS = 2 ** 20;

function checkGrid(kernel: KernelIR, grid: Launch['grid']): void {
  const limits = [2 ** 31 - 1, 65535, 65535];
  for (const [i, size] of grid.entries()) {
    if (!Number.isInteger(size) || size < 1 || size > limits[i]) {
      throw new KernelError(`${kernel.name}: the grid's ${'xyz'[i]} is 1 to ${limits[i]}, not ${size}`);
    }
    if (kernel.cluster && size % kernel.cluster[i] !== 0) {
      throw new KernelError(
        `${kernel.name}: clusters of ${kernel.cluster.join(' x ')} do not divide the grid ${grid.join(' x ')}`,
      );
    }
  }
  const ctas = grid[0] * grid[1] * grid[2];
  if (ctas > MOST_CTAS) {
    throw new KernelError(
      `${kernel.name}: a grid of ${grid.join(' x ')} is ${ctas} CTAs; the simulator runs at most ${MOST_CTAS}: ` +
        'give smaller sizes, or run it on a GPU',
    );
  }
  const threads = kernel.threads[0] * kernel.threads[1] * kernel.threads[2];
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
    throw new KernelError(`${kernel.name}: a CTA has 1 to 1024 threads, not ${threads}`, beginOf(kernel));
  }
}

/** Kernels that the verifier has seen; many launches of one verify it once. */
const VERIFIED = new WeakSet<KernelIR>();

function checkKernel(kernel: KernelIR): void {
  if (VERIFIED.has(kernel)) return;
  verifyKernel(kernel);
  checkShared(kernel);
  VERIFIED.add(kernel);
}

/** Shared memory fits some architecture, each piece where a compiled kernel has it. */
function checkShared(kernel: KernelIR): void {
  const most = Math.max(...Object.values(ARCHS).map(({ sharedBytes }) => sharedBytes));
  const sum = kernel.shared.reduce((all, { bytes, align }) => all + bytes + align, 0);
  if (sum <= most) return;
  let { shared } = kernel;
  if (shared.some(({ offset }) => offset === undefined)) {
    shared = shared.map((piece) => ({ ...piece }));
    allocateShared({ ...kernel, shared });
  }
  const bytes = Math.max(...shared.map((piece) => piece.offset! + piece.bytes));
  if (bytes <= most) return;
  const [largest] = shared.toSorted((a, b) => b.bytes - a.bytes);
  let position: Position | undefined;
  walk(kernel.body, (node) => {
    if (node.op === 'shared_address' && node.attributes.id === largest.id) position ??= node.position;
  });
  throw new KernelError(
    `${kernel.name} takes ${bytes} bytes of shared memory; no architecture gives a CTA more than ${most}. ` +
      `The largest piece, of ${largest.bytes}, is made here`,
    position,
  );
}

function sorted(reports: ReadonlyMap<string, LineReport>): LineReport[] {
  return [...reports.values()].sort((a, b) => b.actual - b.ideal - (a.actual - a.ideal));
}

function bytesOf(tensor: SimulatorTensor): Uint8Array {
  return new Uint8Array(tensor.buffer, tensor.byteOffset, tensor.byteLength);
}

function isMap(argument: SimulatorArgument): argument is Extract<SimulatorArgument, { map: unknown }> {
  // Typed arrays have a method of that name.
  return typeof argument === 'object' && !ArrayBuffer.isView(argument) && 'map' in argument;
}

/** Gives the tensors places in global memory and fills in the parameters. */
function bindArguments(machine: Machine, args: Launch['args']): Map<SimulatorTensor, MemoryRegion> {
  const { kernel, globals } = machine;
  const regions = new Map<SimulatorTensor, MemoryRegion>();
  const known = new Set(kernel.params.map(({ name }) => name));
  for (const name of Object.keys(args)) {
    if (!known.has(name))
      throw new KernelError(`${kernel.name} has no parameter ${name}: it has ${[...known].join(', ')}`);
  }
  const place = (name: string, tensor: SimulatorTensor, access: MemoryRegion['access']): MemoryRegion => {
    const before = regions.get(tensor);
    const merged = before && before.access !== access ? 'readwrite' : access;
    if (before && before.access === merged) return before;
    const base = before?.base ?? GLOBAL_WINDOW * (globals.length + 1);
    const region = new MemoryRegion('global', before?.name ?? name, base, tensor.byteLength, merged, []);
    region.bytes.set(bytesOf(tensor));
    if (machine.checkRaces || machine.checkUninitialised) region.watch();
    globals[base / GLOBAL_WINDOW - 1] = region;
    regions.set(tensor, region);
    return region;
  };
  // Places first, so that a tensor which is both read and written has one region with both rights.
  for (const [index, param] of kernel.params.entries()) {
    const argument = args[param.name];
    if (argument === undefined) throw new KernelError(`${kernel.name}: parameter ${param.name} is missing`);
    if (param.kind === 'tensor') place(param.name, tensorOf(kernel, param, argument), param.access);
    if (param.kind === 'tensormap' && isMap(argument)) {
      place(param.name, argument.tensor, storesThrough(kernel, index) ? 'readwrite' : 'read');
    }
  }
  for (const [index, param] of kernel.params.entries()) {
    const argument = args[param.name];
    if (param.kind === 'tensor') {
      machine.parameters[index] = regions.get(argument as SimulatorTensor)!.base;
    } else if (param.kind === 'tensormap') {
      if (!isMap(argument))
        throw new KernelError(`${kernel.name}: parameter ${param.name} is a tensor map: give a map and the tensor`);
      const { map, tensor, offset = 0 } = argument;
      const region = regions.get(tensor)!;
      const state = tensorMapState(param.name, map, region, offset);
      if (param.boxBytes !== undefined && param.boxBytes !== state.boxBytes) {
        throw new KernelError(
          `${kernel.name}: a box of tensor map ${param.name} has ${state.boxBytes} bytes, and the kernel relies on ${param.boxBytes}`,
        );
      }
      machine.maps[index] = state;
      machine.mapMemory ??= new MemoryRegion(
        'global',
        'tensor maps',
        MAP_WINDOW,
        MAP_BYTES * kernel.params.length,
        'read',
        [],
      );
      machine.mapMemory.bytes.set(encodeMap(map, region.base + offset, state.strides.slice(1)), MAP_BYTES * index);
      machine.parameters[index] = MAP_WINDOW + MAP_BYTES * index;
    } else machine.parameters[index] = scalar(kernel, param, argument);
  }
  return regions;
}

/** Whether a tensor map is stored through; one whose address is computed may be. */
function storesThrough(kernel: KernelIR, index: number): boolean {
  let stores = false;
  walk(kernel.body, ({ op, args }) => {
    if (op !== 'tma_store') return;
    const { node } = args[0];
    if (node.op !== 'param' || node.attributes['index'] === index) stores = true;
  });
  return stores;
}

function tensorOf(kernel: KernelIR, param: KernelParameter, argument: SimulatorArgument): SimulatorTensor {
  if (ArrayBuffer.isView(argument)) return argument;
  throw new KernelError(`${kernel.name}: parameter ${param.name} is a tensor, and the argument a ${typeof argument}`);
}

/** Refuses numbers that an integer parameter cannot hold; bits without a meaning may be written with a sign or without. */
function checkWhole(kernel: KernelIR, name: string, type: TypeName, argument: number | bigint | boolean): void {
  const { bits, kind } = TYPES[type];
  if (kind === 'f') return;
  const [least, most] = [kind === 'u' ? 0n : -(1n << BigInt(bits - 1)), 1n << BigInt(kind === 'i' ? bits - 1 : bits)];
  const whole = typeof argument !== 'number' || Number.isInteger(argument);
  if (whole && BigInt(argument) >= least && BigInt(argument) < most) return;
  throw new KernelError(`${kernel.name}: parameter ${name} is a ${type}, which ${argument} is not`);
}

/** A number as lanes hold it. Packed and untyped ones are their bits. */
function scalar(
  kernel: KernelIR,
  param: Extract<KernelParameter, { kind: 'value' }>,
  argument: SimulatorArgument,
): number | bigint {
  if (typeof argument === 'object') {
    throw new KernelError(`${kernel.name}: parameter ${param.name} is a ${param.type}, and the argument a tensor`);
  }
  const { type } = param;
  if (type === 'pred') return argument ? 1 : 0;
  checkWhole(kernel, param.name, type, argument);
  if (isBig(type)) {
    const whole = BigInt(argument);
    return viewOf(type) === 'q' ? BigInt.asIntN(64, whole) : BigInt.asUintN(TYPES[type].bits, whole);
  }
  const value = Number(argument);
  if (Object.hasOwn(FLOAT_FORMATS, type))
    return encodeFloat(type as SmallFloat, value, 'rn', type === 'e4m3' || type === 'e5m2');
  if (TYPES[type].kind === 'f') return type === 'f64' ? value : Math.fround(value);
  const { bits, kind } = TYPES[type];
  const wrapped =
    kind === 'i' || (kind !== 'u' && bits === 32)
      ? BigInt.asIntN(bits, BigInt(value))
      : BigInt.asUintN(bits, BigInt(value));
  return Number(wrapped);
}
