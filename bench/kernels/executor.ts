import { Kernel, Stream, DeviceMemory, type Argument, type Context, type Program } from '@rose/cuda';
import type { Executor, ExecutorArgument } from '@rose/kernels';

/** Runs kernels on a GPU for checks: every tensor goes there between its guards, and comes back. */
export class CudaExecutor implements Executor<Program>, Disposable {
  readonly name: string;
  readonly #context: Context;
  readonly #stream: Stream;

  constructor(context: Context) {
    this.name = context.device.name;
    this.#context = context;
    this.#stream = new Stream(context);
  }

  run(
    program: Program,
    args: Readonly<Record<string, ExecutorArgument>>,
    grid: readonly [number, number, number],
  ): void {
    using kernel = new Kernel(this.#context, program);
    const launch = kernel.prepare().grid(...grid);
    const placed: { memory: DeviceMemory; bytes: Uint8Array }[] = [];
    try {
      for (const [name, argument] of Object.entries(args)) {
        let value: Argument;
        if (typeof argument === 'number') value = argument;
        else {
          const memory = new DeviceMemory(this.#context, argument.bytes.length);
          placed.push({ memory, bytes: argument.bytes });
          memory.write(argument.bytes);
          value = memory.slice(argument.offset, argument.length);
        }
        launch.set(name, value);
      }
      launch.launch(this.#stream);
      this.#stream.synchronize();
      for (const { memory, bytes } of placed) memory.read(bytes);
    } finally {
      for (const { memory } of placed) memory[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    this.#stream[Symbol.dispose]();
  }
}
