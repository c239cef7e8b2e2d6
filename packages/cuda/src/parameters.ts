import { CudaUsageError } from './errors.ts';
import type { Argument } from './launch.ts';
import type { DeviceRange } from './memory.ts';
import type { ParameterKind, ProgramParameter } from './program.ts';
import { setWord } from './structs.ts';
import { TensorMap } from './tensor-map.ts';

type Writer = (view: DataView, at: number, value: Argument) => void;
type Scalar = Exclude<ParameterKind, 'pointer' | 'tensormap' | 'bytes'>;

/** Integers, with the range that an argument must lie in. */
const INTEGER: Readonly<Partial<Record<Scalar, [low: number, high: number]>>> = {
  i8: [-(2 ** 7), 2 ** 7 - 1],
  u8: [0, 2 ** 8 - 1],
  i16: [-(2 ** 15), 2 ** 15 - 1],
  u16: [0, 2 ** 16 - 1],
  i32: [-(2 ** 31), 2 ** 31 - 1],
  u32: [0, 2 ** 32 - 1],
};

const STORE: Readonly<Record<Scalar, (view: DataView, at: number, value: number | bigint) => void>> = {
  i8: (view, at, value) => view.setInt8(at, Number(value)),
  u8: (view, at, value) => view.setUint8(at, Number(value)),
  i16: (view, at, value) => view.setInt16(at, Number(value), true),
  u16: (view, at, value) => view.setUint16(at, Number(value), true),
  i32: (view, at, value) => view.setInt32(at, Number(value), true),
  u32: (view, at, value) => view.setUint32(at, Number(value), true),
  i64: (view, at, value) => view.setBigInt64(at, BigInt(value), true),
  u64: (view, at, value) => view.setBigUint64(at, BigInt(value), true),
  f16: (view, at, value) => view.setFloat16(at, Number(value), true),
  bf16: (view, at, value) => view.setUint16(at, bfloat16(Number(value)), true),
  f32: (view, at, value) => view.setFloat32(at, Number(value), true),
  f64: (view, at, value) => view.setFloat64(at, Number(value), true),
};

/** The function that writes a value of this parameter's kind, after checking it. */
export function writerOf(param: ProgramParameter, kernel: string): Writer {
  const refuse = (value: Argument, wanted: string): never => {
    const got = typeof value === 'object' ? Object.prototype.toString.call(value) : `${typeof value} ${String(value)}`;
    throw new CudaUsageError(`parameter ${param.name} of kernel ${kernel} takes ${wanted}, and got ${got}`);
  };
  switch (param.kind) {
    case 'pointer':
      return (view, at, value) => {
        const address =
          typeof value === 'number' ? value : isRange(value) ? value.address : refuse(value, 'device memory');
        if (param.align !== undefined && address % param.align !== 0) {
          refuse(address, `an address that is a multiple of ${param.align}`);
        }
        setWord(view, at, address);
      };
    case 'tensormap':
      return (view, at, value) => {
        if (!(value instanceof TensorMap)) refuse(value, 'a tensor map');
        else copyBytes(view, at, value.bytes);
      };
    case 'bytes':
      return (view, at, value) => {
        if (!(value instanceof Uint8Array) || value.length !== param.size) refuse(value, `${param.size} bytes`);
        else copyBytes(view, at, value);
      };
    default: {
      const store = STORE[param.kind];
      const range = INTEGER[param.kind];
      const whole = range !== undefined || param.kind === 'i64' || param.kind === 'u64';
      return (view, at, value) => {
        if (typeof value !== 'number' && typeof value !== 'bigint') return refuse(value, param.kind);
        if (whole && typeof value === 'number' && !Number.isSafeInteger(value)) return refuse(value, param.kind);
        if (range && (value < range[0] || value > range[1])) return refuse(value, param.kind);
        return store(view, at, value);
      };
    }
  }
}

function isRange(value: Argument): value is DeviceRange {
  return typeof value === 'object' && 'address' in value;
}

function copyBytes(view: DataView, at: number, bytes: Uint8Array): void {
  new Uint8Array(view.buffer, view.byteOffset + at, bytes.length).set(bytes);
}

/** The bits of the bfloat16 nearest to `value`, ties to even. */
function bfloat16(value: number): number {
  scratch.setFloat32(0, value, true);
  const bits = scratch.getUint32(0, true);
  if (Number.isNaN(value)) return 0x7fff;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

const scratch = new DataView(new ArrayBuffer(4));
