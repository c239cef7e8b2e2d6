import type { TypeName } from '../types/dtype.ts';
import type { MBarrier } from './barrier.ts';
import { addressIn, emit, integer, type Int, type Long, type Place } from './record.ts';

/**
 * Copies from global to shared memory by this thread, 4, 8 or 16 bytes, that run on (`cp.async`). They are complete for
 * this thread after `cpAsyncWait`, for others after a barrier behind it.
 *
 * @param read bytes that are read, the rest becomes zero; absent: all
 */
export function cpAsync(
  to: Place,
  from: Place,
  options: { readonly bytes: 4 | 8 | 16; readonly cache?: 'ca' | 'cg'; readonly read?: Int },
): void {
  const { bytes, cache = bytes === 16 ? 'cg' : 'ca', read } = options;
  const args = [addressIn(to, ['ptr.shared']), addressIn(from, ['ptr.global'])];
  if (read !== undefined) args.push(integer(read, 'i32'));
  emit('cp_async', { args, attributes: { bytes, cache } });
}

/** Closes the group of this thread's copies so far. */
export function cpAsyncCommit(): void {
  emit('cp_async_commit');
}

/** Waits until at most `groups` of this thread's groups still run. */
export function cpAsyncWait(groups: number = 0): void {
  emit('cp_async_wait', { attributes: { groups } });
}

/**
 * The barrier gets an arrival when this thread's copies so far have completed. `counted: true`: the arrival is one of
 * those that the barrier was initialised for.
 */
export function cpAsyncArrive(barrier: MBarrier, options: { readonly counted?: boolean } = {}): void {
  emit('cp_async_arrive', { args: [barrier.address], attributes: { noinc: options.counted ?? true } });
}

export interface CopyOptions {
  /** A bit for each CTA of the cluster that gets the data, at the same places. */
  readonly multicast?: Int;
  /** A cache policy: `cachePolicy(...)`. */
  readonly policy?: Long;
}

/** The optional operands and the attributes that announce them. */
export function extras({ multicast, policy }: CopyOptions): {
  args: ReturnType<typeof integer>[];
  attributes: Record<string, boolean>;
} {
  const args = [];
  const attributes: Record<string, boolean> = {};
  if (multicast !== undefined) {
    args.push(integer(multicast, 'u16'));
    attributes.multicast = true;
  }
  if (policy !== undefined) {
    args.push(integer(policy, 'u64'));
    attributes.policy = true;
  }
  return { args, attributes };
}

/** One thread copies bytes (multiple of 16, addresses too) from global to shared memory; the barrier counts them. */
export function bulkLoad(to: Place, from: Place, bytes: Int, barrier: MBarrier, options: CopyOptions = {}): void {
  const rest = extras(options);
  const places = [addressIn(to, ['ptr.shared', 'ptr.cluster']), addressIn(from, ['ptr.global'])];
  const args = [...places, integer(bytes, 'i32'), barrier.address, ...rest.args];
  emit('bulk_load', { args, attributes: rest.attributes });
}

/** One thread copies bytes from shared to global memory, or adds (min, max...) them to what is there. See `bulkWait`. */
export function bulkStore(
  to: Place,
  from: Place,
  bytes: Int,
  options: { readonly policy?: Long; readonly reduce?: { readonly function: string; readonly type: TypeName } } = {},
): void {
  const { reduce, ...copy } = options;
  const rest = extras(copy);
  const args = [addressIn(to, ['ptr.global']), addressIn(from, ['ptr.shared']), integer(bytes, 'i32'), ...rest.args];
  const kind = reduce ? { reduce: reduce.function, type: reduce.type } : {};
  emit('bulk_store', { args, attributes: { ...rest.attributes, ...kind } });
}

/** One thread copies bytes to another CTA's shared memory; the barrier there counts them. */
export function bulkCopyToCluster(to: Place, from: Place, bytes: Int, barrier: MBarrier): void {
  const places = [addressIn(to, ['ptr.cluster']), addressIn(from, ['ptr.shared'])];
  emit('bulk_copy_cluster', { args: [...places, integer(bytes, 'i32'), barrier.address] });
}

/** Brings bytes of global memory into L2, soon; GPUs before sm_90 do nothing. Both are multiples of 16. */
export function bulkPrefetch(from: Place, bytes: Int): void {
  emit('bulk_prefetch', { args: [addressIn(from, ['ptr.global']), integer(bytes, 'i32')] });
}

/** Closes the group of this thread's bulk and tensor stores so far. */
export function bulkCommit(): void {
  emit('bulk_commit');
}

/** Waits until at most `groups` groups of stores still run; `read: true`: until their sources may be overwritten. */
export function bulkWait(groups: number = 0, options: { readonly read?: boolean } = {}): void {
  emit('bulk_wait', { attributes: { groups, ...options } });
}
