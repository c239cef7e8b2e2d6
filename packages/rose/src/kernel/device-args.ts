import { DeviceMemory, encodeTensorMap, Stream, type Argument, type Context } from '@rose/cuda';
import {
  bytesOf,
  elements,
  encode,
  seededRandom,
  type KernelModule,
  type Specialisation,
  type TensorArgument,
} from '@rose/kernels';

/** Elements of a tensor that are drawn one by one: drawing every element of a long one would take minutes. */
const DRAWN = 2 ** 18;
/** What outputs hold before a kernel writes them: NaN in every float type. */
const POISON = 0xff;

/**
 * A kernel's arguments on a device for timing, the inputs random or those of other arguments. Long tensors of floats
 * repeat a piece.
 */
export class DeviceArgs implements Disposable {
  readonly values: Readonly<Record<string, Argument>>;
  /** Bytes of all tensors. */
  readonly bytes: number;
  readonly #context: Context;
  readonly #scalars: Record<string, number> = {};
  readonly #tensors = new Map<string, { readonly argument: TensorArgument; readonly memory: DeviceMemory }>();

  /** `source`: a seed, or the arguments whose inputs these get. Frees what it has where the device has no room for all. */
  constructor(context: Context, module: KernelModule, s: Specialisation, source: number | DeviceArgs) {
    this.#context = context;
    let bytes = 0;
    try {
      for (const [index, [name, argument]] of Object.entries(module.args(s.dims, s.options)).entries()) {
        if (argument.kind === 'scalar') {
          this.#scalars[name] = argument.value;
          continue;
        }
        const memory = new DeviceMemory(context, bytesOf(argument.type, elements(argument)));
        this.#tensors.set(name, { argument, memory });
        if (typeof source === 'number') fill(memory, argument, source + index);
        else if (argument.fill) copy(memory, source.#tensors.get(name)!.memory);
        bytes += memory.bytes;
      }
      this.bytes = bytes;
      this.values = this.valuesFor(module, s);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** The values for another tuning of the same case, which moves the same tensors by other maps. */
  valuesFor(module: KernelModule, s: Specialisation): Readonly<Record<string, Argument>> {
    const maps = module.maps(s);
    const values: Record<string, Argument> = { ...this.#scalars };
    for (const [name, { memory }] of this.#tensors) {
      values[name] = name in maps ? encodeTensorMap(this.#context, { ...maps[name], memory }) : memory;
    }
    return values;
  }

  /** Fills outputs with poison, and tensors that the kernel changes with what they are in `source`. */
  reset(stream: Stream, source: DeviceArgs): void {
    for (const [name, { argument, memory }] of this.#tensors) {
      if (argument.role === 'out') stream.fill(memory, POISON);
      else if (argument.role === 'inout') stream.copy(memory, source.#tensors.get(name)!.memory);
    }
  }

  /** What outputs and changed tensors hold, when all work is done. */
  outputs(): Uint8Array[] {
    return [...this.#tensors.values()]
      .filter(({ argument }) => argument.role !== 'in')
      .map(({ memory }) => {
        const bytes = new Uint8Array(memory.bytes);
        memory.read(bytes);
        return bytes;
      });
  }

  [Symbol.dispose](): void {
    if (this.#context.lost) return;
    for (const { memory } of this.#tensors.values()) memory[Symbol.dispose]();
  }
}

function copy(target: DeviceMemory, source: DeviceMemory): void {
  using stream = new Stream(target.context);
  stream.copy(target, source);
  stream.synchronize();
}

function fill(memory: DeviceMemory, argument: TensorArgument, seed: number): void {
  if (!argument.fill) return;
  const count = elements(argument);
  // Whole numbers are ids and places, of which each counts.
  const drawn = /^[iu]\d/.test(argument.type) ? count : Math.min(count, DRAWN);
  const piece = encode(argument.type, argument.fill(seededRandom(seed), drawn));
  memory.write(piece);
  using stream = new Stream(memory.context);
  for (let done = piece.length; done < memory.bytes; done *= 2) {
    const more = Math.min(done, memory.bytes - done);
    stream.copy(memory.slice(done, more), memory.slice(0, more));
  }
  stream.synchronize();
}
