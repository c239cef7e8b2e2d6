import type { KernelIR, KernelParameter } from '../ir/ir.ts';
import { TYPES } from '../types/dtype.ts';

/** Where a parameter lies in the buffer that a launch passes. */
export interface ParameterPlace {
  readonly name: string;
  /** `ring`: the address of the buffer that print and assert write to (see debug.ts). */
  readonly kind: KernelParameter['kind'] | 'ring';
  /** Bytes from the start of the buffer, and bytes taken. */
  readonly offset: number;
  readonly size: number;
}

interface ParameterLayout {
  readonly params: ParameterPlace[];
  readonly bytes: number;
  /** `.param` declarations of the entry. */
  readonly declarations: string[];
}

/** Every parameter at its natural alignment, a tensor map at 64 bytes. */
export function layoutOf(kernel: KernelIR, ring: boolean): ParameterLayout {
  const params: ParameterPlace[] = [];
  const declarations: string[] = [];
  let bytes = 0;
  const place = (name: string, kind: ParameterPlace['kind'], size: number, align: number): void => {
    const offset = Math.ceil(bytes / align) * align;
    params.push({ name, kind, offset, size });
    bytes = offset + size;
  };
  for (const [index, param] of kernel.params.entries()) {
    const name = paramName(kernel, index);
    if (param.kind === 'tensormap') {
      place(param.name, param.kind, 128, 64);
      declarations.push(`.param .align 64 .b8 ${name}[128]`);
      continue;
    }
    const size = param.kind === 'tensor' ? 8 : Math.max(1, TYPES[param.type].bits / 8);
    const bytesOf = Math.ceil(size);
    place(param.name, param.kind, bytesOf, bytesOf);
    declarations.push(`.param .${param.kind === 'tensor' ? 'u64' : `b${8 * bytesOf}`} ${name}`);
  }
  if (ring) {
    place('ring', 'ring', 8, 8);
    declarations.push(`.param .u64 ${RING_PARAM}`);
  }
  return { params, bytes, declarations };
}

/** How the entry names its parameter: the author's name, where PTX allows it, with the index so that it is unique. */
export function paramName(kernel: KernelIR, index: number): string {
  return `p${index}_${kernel.params[index].name.replaceAll(/\W/g, '_')}`;
}

export const RING_PARAM = 'print_ring';
