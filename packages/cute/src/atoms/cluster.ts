import type { Value } from '../ir/ir.ts';
import type { TypeName } from '../types/dtype.ts';
import type { MBarrier } from './barrier.ts';
import { addressIn, emit, integer, result, results, typed, type Int, type Place } from './record.ts';

/** This CTA has arrived; what its threads wrote before is visible behind `clusterWait` (unless relaxed). */
export function clusterArrive(order: 'release' | 'relaxed' = 'release'): void {
  emit('cluster_arrive', { attributes: { order } });
}

/** Waits until every thread of the cluster has arrived. */
export function clusterWait(): void {
  emit('cluster_wait', { attributes: { order: 'acquire' } });
}

/** A barrier of the whole cluster. Also the last thing before a CTA ends whose shared memory others still use. */
export function clusterSync(): void {
  clusterArrive();
  clusterWait();
}

/** CTAs of the cluster. */
export function clusterSize(): Int {
  return result('special', 'i32', { attributes: { name: 'cluster_nctarank' } });
}

/** The same place in another CTA's shared memory. */
export function mapShared(place: Place, rank: Int): Value {
  const own = addressIn(place, ['ptr.shared']);
  const theirs: Value = result('map_shared', 'ptr.cluster', { args: [own, integer(rank, 'i32')] });
  theirs.divisor = own.divisor;
  return theirs;
}

/** Stores 1, 2 or 4 values into another CTA's shared memory; the barrier there counts the bytes. */
export function storeAsync(to: Place, values: readonly Int[], barrier: MBarrier, type: TypeName = 'f32'): void {
  emit('store_async', {
    args: [addressIn(to, ['ptr.cluster']), ...values.map((v) => typed(v, type)), barrier.address],
  });
}

/** Combines a value with one in another CTA's shared memory; the barrier there counts the bytes. */
export function reduceAsync(
  to: Place,
  value: Int,
  barrier: MBarrier,
  options: { readonly function: 'add' | 'min' | 'max' | 'inc' | 'dec' | 'and' | 'or' | 'xor'; readonly type: TypeName },
): void {
  const args = [addressIn(to, ['ptr.cluster']), typed(value, options.type), barrier.address];
  emit('reduce_async', { args, attributes: { function: options.function } });
}

/**
 * This warpgroup gives registers back (`dec`) or takes more (`inc`, waits until there are enough). Every warp of the
 * group executes it.
 *
 * @param count registers of a thread: a multiple of 8 from 24 to 256
 */
export function setMaxRegisters(direction: 'inc' | 'dec', count: number): void {
  emit('set_max_registers', { attributes: { direction, count } });
}

/** Waits until the grids that this one overlaps have ended and their writes are visible. */
export function gridDependencyWait(): void {
  emit('grid_dependency_wait');
}

/** The next grid in the stream may start once every CTA of this one said so, or has ended. */
export function gridLaunchDependents(): void {
  emit('grid_launch_dependents');
}

export interface MultimemOptions {
  readonly type: TypeName;
  readonly order?: 'weak' | 'relaxed' | 'acquire' | 'release';
  readonly scope?: 'cta' | 'cluster' | 'gpu' | 'sys';
}

/** Loads from all devices of a multicast address and combines: 16 bytes at most (`count` values). */
export function multimemLoadReduce(
  from: Place,
  name: 'add' | 'min' | 'max' | 'and' | 'or' | 'xor',
  count: number,
  options: MultimemOptions,
): Int[] {
  const types = Array.from({ length: count }, () => options.type);
  return results('multimem_load_reduce', types, {
    args: [addressIn(from, ['ptr.global'])],
    attributes: { function: name, ...options },
  });
}

/** Stores to all devices of a multicast address. */
export function multimemStore(to: Place, values: readonly Int[], options: MultimemOptions): void {
  const args = [addressIn(to, ['ptr.global']), ...values.map((value) => typed(value, options.type))];
  emit('multimem_store', { args, attributes: { ...options } });
}

/** Combines with the memory of all devices of a multicast address. */
export function multimemReduce(
  to: Place,
  name: 'add' | 'min' | 'max' | 'and' | 'or' | 'xor',
  values: readonly Int[],
  options: MultimemOptions,
): void {
  const args = [addressIn(to, ['ptr.global']), ...values.map((value) => typed(value, options.type))];
  emit('multimem_reduce', { args, attributes: { function: name, ...options } });
}

/** Asks for the work of a cluster that has not started; 16 bytes of answer, counted by the barrier (sm_100). */
export function clusterLaunchTryCancel(answer: Place, barrier: MBarrier, multicast: boolean = false): void {
  const args = [addressIn(answer, ['ptr.shared']), barrier.address];
  emit('cluster_launch_try_cancel', { args, attributes: multicast ? { multicast } : {} });
}

/** What the answer (128 bits) says: whether there was one, and the coordinates of its first CTA. */
export function clusterLaunchQuery(answer: Value): { cancelled: boolean; x: Int; y: Int; z: Int } {
  const [cancelled, x, y, z] = results('cluster_launch_query', ['pred', 'i32', 'i32', 'i32'], { args: [answer] });
  return { cancelled: cancelled as unknown as boolean, x, y, z };
}
