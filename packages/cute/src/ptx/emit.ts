import { KernelError } from '../ir/error.ts';
import type { KernelIR } from '../ir/ir.ts';
import { archOf, type Arch } from './arch.ts';
import { Emitter } from './emitter.ts';
import { EMITTERS } from './emitters.ts';
import { layoutOf, type ParameterPlace } from './params.ts';
import type { PrintSite } from './ring.ts';

export interface EmitOptions {
  /** `sm_90a`, `sm_100a`, ... */
  readonly arch: string;
  /** Write at least this PTX ISA version, e.g. 8.6; absent: the lowest that has everything in the kernel. */
  readonly isa?: number;
}

/** A kernel as PTX, with what a launch has to know about it. */
export interface EmittedPtx {
  readonly text: string;
  /** Name of the entry. */
  readonly name: string;
  /** PTX ISA version of the text, e.g. 8 or 8.3. */
  readonly isa: number;
  readonly target: string;
  /** Dynamic shared memory to launch with, bytes. */
  readonly sharedBytes: number;
  /** The parameter buffer: one place for each parameter, in order, then the ring buffer's address if there is one. */
  readonly params: readonly ParameterPlace[];
  /** Bytes of the parameter buffer. */
  readonly paramBytes: number;
  /** Lines of the text. */
  readonly lines: number;
  /** Where the kernel prints and asserts; `decodeRing` reads its buffer with them. Empty: no ring parameter. */
  readonly sites: readonly PrintSite[];
}

/**
 * Writes a kernel as PTX at the lowest ISA version that has its instructions.
 *
 * @throws KernelError where the architecture lacks something, or a node is malformed.
 */
export function emitPtx(kernel: KernelIR, options: EmitOptions): EmittedPtx {
  const arch = archOf(options.arch);
  const emitter = new Emitter(kernel, arch, EMITTERS);
  if (options.isa !== undefined && options.isa > emitter.isa) emitter.isa = options.isa;
  emitter.region(kernel.body);
  const { params, bytes, declarations } = layoutOf(kernel, emitter.sites.length > 0);
  if (kernel.cluster) emitter.need(7.8, 'sm_90', 'a cluster');
  if (params.some((param) => param.kind === 'tensormap')) emitter.need(7.7, 'sm_90', 'a tensor map');
  const text = [
    `.version ${emitter.isa.toFixed(1)}`,
    `.target ${arch.name}`,
    '.address_size 64',
    ...emitter.lines.header(),
    ...emitter.globals,
    `.visible .entry ${entryName(kernel.name)}(`,
    declarations.map((line) => `  ${line}`).join(',\n'),
    ')',
    ...directives(kernel),
    '{',
    ...emitter.declarations(),
    ...emitter.prologue,
    ...emitter.code.filter((line) => line !== ''),
    '  ret;',
    '}',
    ...emitter.lines.footer(),
    '',
  ].join('\n');
  return {
    text,
    name: entryName(kernel.name),
    isa: emitter.isa,
    target: arch.name,
    sharedBytes: sharedBytesOf(kernel, arch),
    params,
    paramBytes: bytes,
    lines: countLines(text),
    sites: emitter.sites,
  };
}

/** Bytes of shared memory up to the end of the last allocation. */
function sharedBytesOf(kernel: KernelIR, arch: Arch): number {
  let bytes = 0;
  for (const allocation of kernel.shared) {
    if (allocation.offset === undefined) {
      throw new KernelError(`shared memory ${allocation.name} of ${kernel.name} has no place: run the allocation pass`);
    }
    bytes = Math.max(bytes, allocation.offset + allocation.bytes);
  }
  if (bytes > arch.sharedBytes) {
    const largest = kernel.shared.toSorted((a, b) => b.bytes - a.bytes).slice(0, 3);
    const list = largest.map((allocation) => `${allocation.name}: ${allocation.bytes}`).join(', ');
    throw new KernelError(
      `${kernel.name} takes ${bytes} bytes of shared memory; a CTA of ${arch.name} has ${arch.sharedBytes}. ` +
        `The largest are ${list}: use smaller tiles or fewer stages`,
    );
  }
  return bytes;
}

function directives(kernel: KernelIR): string[] {
  const out = [`.reqntid ${kernel.threads.join(', ')}`];
  if (kernel.cluster) out.push('.explicitcluster', `.reqnctapercluster ${kernel.cluster.join(', ')}`);
  if (kernel.minBlocks !== undefined) out.push(`.minnctapersm ${kernel.minBlocks}`);
  if (kernel.maxRegisters !== undefined) out.push(`.maxnreg ${kernel.maxRegisters}`);
  return out;
}

function entryName(name: string): string {
  if (/^[A-Za-z_$][\w$]*$/.test(name)) return name;
  throw new KernelError(
    `${JSON.stringify(name)} is no name of a kernel: letters, digits and _, not starting with a digit`,
  );
}

function countLines(text: string): number {
  let lines = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lines++;
  return lines;
}
