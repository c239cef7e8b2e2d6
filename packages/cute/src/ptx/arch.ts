import type { Needs } from '../ir/op-info.ts';

/**
 * Architectures and what they offer, as data. Sources: NVIDIA PTX ISA 9.0, "Release notes" and the "Target ISA notes"
 * of each instruction; CUDA C++ programming guide, table of technical specifications by compute capability.
 */
export interface Arch {
  /** As `.target` and ptxas spell it. */
  readonly name: ArchName;
  /** Compute capability times ten. */
  readonly capability: number;
  /** Least PTX ISA version that knows this target. */
  readonly isa: number;
  /** `a`: features of this one architecture; `f`: of its family; '': runs on all later ones. */
  readonly kind: '' | 'a' | 'f';
  /** Most shared memory of one CTA, bytes. */
  readonly sharedBytes: number;
  /** 32-bit registers of a multiprocessor. */
  readonly registers: number;
  /** Most threads of a multiprocessor. */
  readonly threads: number;
}

export type ArchName =
  | 'sm_80'
  | 'sm_86'
  | 'sm_89'
  | 'sm_90'
  | 'sm_90a'
  | 'sm_100'
  | 'sm_100a'
  | 'sm_100f'
  | 'sm_103a'
  | 'sm_120'
  | 'sm_120a';

const KB = 1024;

export const ARCHS: Readonly<Record<ArchName, Arch>> = {
  sm_80: arch('sm_80', 80, 7.0, '', 163 * KB, 2048),
  sm_86: arch('sm_86', 86, 7.1, '', 99 * KB, 1536),
  sm_89: arch('sm_89', 89, 7.8, '', 99 * KB, 1536),
  sm_90: arch('sm_90', 90, 7.8, '', 227 * KB, 2048),
  sm_90a: arch('sm_90a', 90, 8.0, 'a', 227 * KB, 2048),
  sm_100: arch('sm_100', 100, 8.6, '', 227 * KB, 2048),
  sm_100a: arch('sm_100a', 100, 8.6, 'a', 227 * KB, 2048),
  sm_100f: arch('sm_100f', 100, 8.8, 'f', 227 * KB, 2048),
  sm_103a: arch('sm_103a', 103, 8.8, 'a', 227 * KB, 2048),
  sm_120: arch('sm_120', 120, 8.7, '', 99 * KB, 1536),
  sm_120a: arch('sm_120a', 120, 8.7, 'a', 99 * KB, 1536),
};

function arch(
  name: ArchName,
  capability: number,
  isa: number,
  kind: Arch['kind'],
  sharedBytes: number,
  threads: number,
): Arch {
  return { name, capability, isa, kind, sharedBytes, registers: 65536, threads };
}

/**
 * The architecture of that name.
 *
 * @throws RangeError for a name that is not in the table.
 */
export function archOf(name: string): Arch {
  if (!Object.hasOwn(ARCHS, name)) {
    throw new RangeError(`architecture ${name} is not known; known are ${Object.keys(ARCHS).join(', ')}`);
  }
  return ARCHS[name as ArchName];
}

/** Whether code that needs `target` runs on `arch`: features with an `a` are those of one architecture. */
export function supports(arch: Arch, target: Needs['target']): boolean {
  if (target === 'sm_90a+') return arch.capability >= 90 && arch.kind !== '';
  const wanted = archOf(target);
  if (wanted.kind === '') return arch.capability >= wanted.capability;
  if (arch.kind === '') return false;
  // sm_103a has what sm_100a has (they are one family), and sm_100f all of it that these nodes use.
  return Math.trunc(arch.capability / 10) === Math.trunc(wanted.capability / 10);
}
