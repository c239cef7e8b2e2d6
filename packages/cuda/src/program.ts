/**
 * What a kernel compiler hands over: PTX with the facts a launch needs. Plain data; the kernel language makes it, and
 * so can anything else that emits PTX.
 */

/** What a parameter holds. `pointer`: an address of global memory; `tensormap`: a CUtensorMap by value; `bytes`: a struct. */
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
  | 'f64'
  | 'bytes';

export interface ProgramParameter {
  readonly name: string;
  readonly kind: ParameterKind;
  /** Bytes from the start of the parameter buffer, as PTX lays parameters out. */
  readonly offset: number;
  readonly size: number;
  /** For pointers: bytes that must divide the address. Checked when the parameter is set. */
  readonly align?: number;
}

export type Dim3 = readonly [number, number, number];

export interface Program {
  /** Name of the `.entry`. */
  readonly name: string;
  readonly ptx: string;
  readonly params: readonly ProgramParameter[];
  /** Bytes of the parameter buffer. */
  readonly paramBytes: number;
  /** Dynamic shared memory of a CTA in bytes. */
  readonly sharedBytes: number;
  /** Threads of a CTA. */
  readonly threads: Dim3;
  /** CTAs of a cluster; absent: none. */
  readonly cluster?: Dim3;
  /** Most registers a thread may take; absent: as the PTX says. */
  readonly maxRegisters?: number;
  /** The kernel waits for the kernel before it itself (griddepcontrol.wait) and may start before that one's end. */
  readonly overlapsPrevious?: boolean;
  /** All CTAs must be on the device at one time (a barrier over the grid). */
  readonly cooperative?: boolean;
}

/** The parameters with offsets as PTX lays them out: each at the next multiple of its alignment. */
export function layoutParameters(
  params: readonly {
    readonly name: string;
    readonly kind: ParameterKind;
    readonly size?: number;
    readonly align?: number;
  }[],
): { params: ProgramParameter[]; paramBytes: number } {
  let end = 0;
  const placed = params.map(({ name, kind, size = SIZE[kind], align }) => {
    if (size === undefined) throw new TypeError(`parameter ${name} of kind bytes needs a size`);
    const boundary = kind === 'tensormap' ? 64 : kind === 'bytes' ? (align ?? 8) : size;
    const offset = Math.ceil(end / boundary) * boundary;
    end = offset + size;
    return { name, kind, offset, size, ...(align === undefined ? {} : { align }) };
  });
  return { params: placed, paramBytes: end };
}

const SIZE: Readonly<Partial<Record<ParameterKind, number>>> = {
  pointer: 8,
  tensormap: 128,
  i8: 1,
  u8: 1,
  i16: 2,
  u16: 2,
  i32: 4,
  u32: 4,
  i64: 8,
  u64: 8,
  f16: 2,
  bf16: 2,
  f32: 4,
  f64: 8,
};
