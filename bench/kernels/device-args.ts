import type { Argument, Context, DeviceMemory } from '@rose/cuda';
import { DeviceMemory as Memory, Stream } from '@rose/cuda';
import { elements, seededRandom, type KernelArgument, type KernelModule, type Specialisation } from '@rose/kernels';
import { bytesOf, encode } from '@rose/kernels';

/** Most elements that are drawn one by one; longer tensors repeat them. */
const DRAWN = 1 << 20;

/** A kernel's arguments on a device, the inputs random. */
export class DeviceArgs implements Disposable {
  readonly values: Readonly<Record<string, Argument>>;
  /** Bytes of all tensors. */
  readonly bytes: number;
  readonly #memory: DeviceMemory[] = [];

  constructor(context: Context, module: KernelModule, s: Specialisation, seed: number) {
    const values: Record<string, Argument> = {};
    let bytes = 0;
    for (const [name, argument] of Object.entries(module.args(s.dims, s.options))) {
      if (argument.kind === 'scalar') {
        values[name] = argument.value;
        continue;
      }
      const memory = filled(context, argument, seed + Object.keys(values).length);
      this.#memory.push(memory);
      values[name] = memory;
      bytes += memory.bytes;
    }
    this.values = values;
    this.bytes = bytes;
  }

  [Symbol.dispose](): void {
    for (const memory of this.#memory) memory[Symbol.dispose]();
  }
}

function filled(context: Context, argument: KernelArgument & { kind: 'tensor' }, seed: number): DeviceMemory {
  const count = elements(argument);
  const memory = new Memory(context, bytesOf(argument.type, count));
  if (!argument.fill) return memory;
  // Whole numbers are ids and places, of which each counts.
  const drawn = argument.type.startsWith('i') ? count : Math.min(count, DRAWN);
  const block = encode(argument.type, argument.fill(seededRandom(seed), drawn));
  memory.write(block);
  using stream = new Stream(context);
  for (let done = block.length; done < memory.bytes; done *= 2) {
    const more = Math.min(done, memory.bytes - done);
    stream.copy(memory.slice(done, more), memory.slice(0, more));
  }
  stream.synchronize();
  return memory;
}
