import type { Context } from './context.ts';
import { CudaUsageError } from './errors.ts';
import { PEER_ACCESS_ALREADY_ENABLED } from './results.ts';

/**
 * Lets kernels of `context` use the memory of `peer`'s device, one way, until the returned object is disposed. What
 * somebody else enabled before stays enabled. Memory of a pool needs MemoryPool.allowAccess besides.
 */
export function enablePeerAccess(context: Context, peer: Context): Disposable {
  if (!context.device.reaches(peer.device)) {
    throw new CudaUsageError(
      `${context.device.toString()} cannot reach the memory of ${peer.device.toString()}: copy through the host instead`,
    );
  }
  const same = context.device.id === peer.device.id;
  const mine = !same && !context.ask(PEER_ACCESS_ALREADY_ENABLED, 'cuCtxEnablePeerAccess', peer.handle, 0);
  let enabled = mine;
  return {
    [Symbol.dispose](): void {
      if (enabled && !context.lost) context.run('cuCtxDisablePeerAccess', peer.handle);
      enabled = false;
    },
  };
}
