import type { Context, ImportedMemory } from '@rose/cuda';
import { invalid } from '../triton/errors.ts';
import type { ClientMemory } from './memory.ts';

const HANDLE_BYTES = 64;

/** Memory of a GPU that another process of this machine exported, by a cudaIpcMemHandle_t. */
export class CudaMemory implements ClientMemory {
  readonly #memory: ImportedMemory;
  readonly #context: Context;

  private constructor(context: Context, memory: ImportedMemory) {
    this.#context = context;
    this.#memory = memory;
  }

  /**
   * @param name of the region, for messages
   * @param handle the client's handle of an allocation, which begins where the region does
   * @throws TritonError 400 where there is no GPU, or the handle cannot be opened
   */
  static async open(name: string, handle: Uint8Array, device: bigint, bytes: bigint): Promise<CudaMemory> {
    if (handle.length !== HANDLE_BYTES) {
      throw invalid("'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t");
    }
    const cuda = await import('@rose/cuda');
    const refuse = (why: string): never => {
      throw invalid(`failed to register CUDA shared memory region: '${name}', ${why}`);
    };
    if (bytes <= 0n || bytes > BigInt(Number.MAX_SAFE_INTEGER)) refuse('invalid args');
    let context: Context | undefined;
    try {
      context = new cuda.Context(new cuda.Device(cuda.loadDriver(), Number(device)));
      return new CudaMemory(context, new cuda.ImportedMemory(context, handle, Number(bytes)));
    } catch (error) {
      context?.[Symbol.dispose]();
      if (error instanceof cuda.CudaUnavailableError) return refuse('GPUs not supported');
      if (error instanceof cuda.CudaUsageError || error instanceof cuda.CudaError) return refuse(error.message);
      throw error;
    }
  }

  read(offset: number, target: Uint8Array): void {
    this.#memory.read(target, offset);
  }

  write(offset: number, source: Uint8Array): void {
    this.#memory.write(source, offset);
  }

  close(): void {
    // The context frees what it owns.
    this.#context[Symbol.dispose]();
  }
}
