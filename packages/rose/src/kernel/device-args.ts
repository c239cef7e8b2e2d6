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
const DRAWN = 2 ** 20;

/**
 * A kernel's arguments on a device for timing, the inputs random or those of other arguments. Long tensors of floats
 * repeat a piece.
 */
export class DeviceArgs implements Disposable {
  readonly values: Readonly<Record<string, Argument>>;
  /** Bytes of all tensors. */
  readonly bytes: number;
  readonly #memory: DeviceMemory[] = [];

  /** `source`: a seed, or the arguments whose inputs these get. */
  constructor(context: Context, module: KernelModule, s: Specialisation, source: number | DeviceArgs) {
    const values: Record<string, Argument> = {};
    const maps = module.maps(s);
    let bytes = 0;
    for (const [index, [name, argument]] of Object.entries(module.args(s.dims, s.options)).entries()) {
      if (argument.kind === 'scalar') {
        values[name] = argument.value;
        continue;
      }
      const memory = new DeviceMemory(context, bytesOf(argument.type, elements(argument)));
      this.#memory.push(memory);
      if (typeof source === 'number') fill(memory, argument, source + index);
      else if (argument.fill) copy(memory, source.#memory[this.#memory.length - 1]);
      const map = maps[name];
      values[name] = map ? encodeTensorMap(context, { ...map, memory }) : memory;
      bytes += memory.bytes;
    }
    this.values = values;
    this.bytes = bytes;
  }

  [Symbol.dispose](): void {
    for (const memory of this.#memory) memory[Symbol.dispose]();
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
