import type { Context } from './context.ts';
import { CudaUsageError } from './errors.ts';
import { Event } from './event.ts';
import { DeviceBlock, type DeviceMemory } from './memory.ts';
import { Out } from './out.ts';
import { IPC_HANDLE_BYTES } from './structs.ts';

const LAZY_ENABLE_PEER_ACCESS = 1;

/**
 * Memory and events that other processes of this machine open. A handle is 64 bytes to send them by any channel. The
 * process that exported must keep the object alive while others have it open. A process cannot open its own handles.
 */

/** The handle of device memory. Memory of a pool cannot be exported. */
export function exportMemory(memory: DeviceMemory): Uint8Array {
  const handle = new Uint8Array(IPC_HANDLE_BYTES);
  memory.context.run('cuIpcGetMemHandle', handle, memory.address);
  return handle;
}

/** Memory of another process. `bytes`: how much of it is meant. Throws CudaUsageError where the allocation is smaller. */
export class ImportedMemory extends DeviceBlock {
  constructor(context: Context, handle: Uint8Array, bytes: number) {
    const out = new Out();
    context.run('cuIpcOpenMemHandle_v2', out.data, checked(handle), LAZY_ENABLE_PEER_ACCESS);
    super(context, 'imported memory', out.word, bytes);
    const size = new Out();
    this.orDispose(() => {
      context.run('cuMemGetAddressRange_v2', out.data, size.data, this.handle);
      if (size.word < bytes) {
        throw new CudaUsageError(`memory of another process has ${size.word} bytes, fewer than the ${bytes} asked for`);
      }
    });
  }

  protected override release(address: number): void {
    this.context.run('cuIpcCloseMemHandle', address);
  }
}

/** The handle of an event that was made with `interprocess`. */
export function exportEvent(event: Event): Uint8Array {
  const handle = new Uint8Array(IPC_HANDLE_BYTES);
  event.context.run('cuIpcGetEventHandle', handle, event.handle);
  return handle;
}

/** An event of another process: what is recorded in one is waited for in the other. */
export function importEvent(context: Context, handle: Uint8Array): Event {
  const out = new Out();
  context.run('cuIpcOpenEventHandle', out.data, checked(handle));
  return new Event(context, { imported: out.word });
}

function checked(handle: Uint8Array): Uint8Array {
  if (handle.length === IPC_HANDLE_BYTES) return handle;
  throw new CudaUsageError(`a handle of another process has ${IPC_HANDLE_BYTES} bytes, not ${handle.length}`);
}
