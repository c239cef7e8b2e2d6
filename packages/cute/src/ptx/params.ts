import type { KernelIR } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';

/** What a parameter holds: an address of global memory, a CUtensorMap by value, or a number. */
export type ParameterKind =
  | 'pointer'
  | 'tensormap'
  | 'i8'
  | 'u8'
  | 'i16'
  | 'u16'
  | 'i32'
  | 'u32'
  | 'i64'
  | 'u64'
  | 'f16'
  | 'bf16'
  | 'f32'
  | 'f64';

/** Where a parameter lies in the buffer that a launch passes. */
export interface ParameterPlace {
  readonly name: string;
  readonly kind: ParameterKind;
  /** Bytes from the start of the buffer, and bytes taken. */
  readonly offset: number;
  readonly size: number;
  /** For pointers: bytes that divide the address. */
  readonly align?: number;
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
  const place = (name: string, kind: ParameterKind, size: number, boundary: number, align?: number): void => {
    const offset = Math.ceil(bytes / boundary) * boundary;
    params.push({ name, kind, offset, size, ...(align !== undefined && { align }) });
    bytes = offset + size;
  };
  for (const [index, param] of kernel.params.entries()) {
    const name = paramName(kernel, index);
    if (param.kind === 'tensormap') {
      place(param.name, 'tensormap', 128, 64);
      declarations.push(`.param .align 64 .b8 ${name}[128]`);
    } else if (param.kind === 'tensor') {
      place(param.name, 'pointer', 8, 8, param.align);
      declarations.push(`.param .u64 ${name}`);
    } else {
      const size = Math.max(1, TYPES[param.type].bits / 8);
      place(param.name, kindOf(param.type), size, size);
      declarations.push(`.param .b${8 * size} ${name}`);
    }
  }
  if (ring) {
    place('ring', 'pointer', 8, 8, 16);
    declarations.push(`.param .u64 ${RING_PARAM}`);
  }
  return { params, bytes, declarations };
}

/** How a launch writes a number of this type: those that JavaScript has no numbers for as their bits. */
function kindOf(type: TypeName): ParameterKind {
  const { kind, bits } = TYPES[type];
  if (type === 'tf32') return 'f32';
  if (kind === 'i' || (kind === 'f' && bits > 8)) return type as ParameterKind;
  return `u${Math.max(8, bits)}` as ParameterKind;
}

/** How the entry names its parameter: the author's name, where PTX allows it, with the index so that it is unique. */
export function paramName(kernel: KernelIR, index: number): string {
  return `p${index}_${kernel.params[index].name.replaceAll(/\W/g, '_')}`;
}

export const RING_PARAM = 'print_ring';
