import { Value } from '../ir/ir.ts';
import { extras, type CopyOptions } from './async-copy.ts';
import type { MBarrier } from './barrier.ts';
import {
  addressIn,
  emit,
  integer,
  loadFrom,
  mapAddress,
  moved,
  result,
  special,
  storeTo,
  type Int,
  type Long,
  type Place,
  type TensorMap,
} from './record.ts';

export interface TmaLoadOptions extends CopyOptions {
  readonly mode?: 'tile' | 'im2col' | 'gather4';
  /** Offsets of im2col in the spatial dimensions, innermost first. */
  readonly offsets?: readonly Int[];
  /** 1 or 2 on sm_100a: whose CTAs' barriers are told. */
  readonly ctaGroup?: 1 | 2;
}

function coordinatesOf(coordinates: readonly Int[]): Value[] {
  if (coordinates.length < 1 || coordinates.length > 5) {
    throw new RangeError(`a tensor map has one to five coordinates, not ${coordinates.length}`);
  }
  return coordinates.map((coordinate) => integer(coordinate, 'i32'));
}

/**
 * One thread loads a box of the tensor that the map describes into shared memory; elements outside the tensor become
 * what the map says (zero). The barrier counts the box's bytes, those outside too.
 *
 * @param coordinates of the box's first element, innermost dimension first; gather4: the column and four rows
 */
export function tmaLoad(
  to: Place,
  map: TensorMap,
  coordinates: readonly Int[],
  barrier: MBarrier,
  options: TmaLoadOptions = {},
): void {
  const { mode = 'tile', offsets = [], ctaGroup = 0, ...copy } = options;
  const rest = extras(copy);
  const args = [
    addressIn(to, ['ptr.shared', 'ptr.cluster']),
    mapAddress(map),
    barrier.address,
    ...coordinatesOf(coordinates),
    ...offsets.map((offset) => integer(offset, 'u16')),
    ...rest.args,
  ];
  const rank = mode === 'gather4' ? 2 : coordinates.length;
  const group = ctaGroup === 0 ? {} : { cta_group: ctaGroup };
  emit('tma_load', { args, attributes: { rank, mode, ...group, ...rest.attributes } });
}

export type TmaReduction = 'add' | 'min' | 'max' | 'inc' | 'dec' | 'and' | 'or' | 'xor';

export interface TmaStoreOptions {
  readonly mode?: 'tile' | 'im2col' | 'scatter4';
  readonly policy?: Long;
  /** Combines with what is in global memory, element by element, in the map's type. */
  readonly reduce?: TmaReduction;
}

/**
 * One thread stores a box from shared memory; elements outside the tensor are left out. Writes of shared memory by
 * threads come before it with `fenceAsync()` and a barrier; `bulkCommit` and `bulkWait` tell when it has ended.
 */
export function tmaStore(
  map: TensorMap,
  coordinates: readonly Int[],
  from: Place,
  options: TmaStoreOptions = {},
): void {
  const { mode = 'tile', reduce, ...copy } = options;
  const rest = extras(copy);
  const args = [mapAddress(map), addressIn(from, ['ptr.shared']), ...coordinatesOf(coordinates), ...rest.args];
  const rank = mode === 'scatter4' ? 2 : coordinates.length;
  emit('tma_store', { args, attributes: { rank, mode, ...rest.attributes, ...(reduce ? { reduce } : {}) } });
}

/** Brings a box into L2. */
export function tmaPrefetch(map: TensorMap, coordinates: readonly Int[]): void {
  const args = [mapAddress(map), ...coordinatesOf(coordinates)];
  emit('tma_prefetch', { args, attributes: { rank: coordinates.length, mode: 'tile' } });
}

/** Brings the map itself into the cache; early, by one thread. */
export function tensorMapPrefetch(map: TensorMap): void {
  emit('tensormap_prefetch', { args: [mapAddress(map)] });
}

/** A warp copies a tensor map, e.g. a parameter, to shared memory (128 bytes, aligned to 128), where it can be changed. */
export function tensorMapCopy(to: Place, map: TensorMap): void {
  const lane = special('laneid');
  const [source, target] = [mapAddress(map), addressIn(to, ['ptr.shared'])];
  storeTo(moved(target, lane, 4), loadFrom(moved(source, lane, 4), 'b32'), 'b32');
  emit('warp_sync', { attributes: { mask: 0xffffffff } });
}

/** Sets a field of a tensor map that lies in shared memory (128 bytes). `index`: the dimension, for fields of one; `rank`
 * counts from 0, `global_stride` from dimension 1 on. */
export function tensorMapReplace(
  map: Place,
  field: 'global_address' | 'rank' | 'box_dim' | 'global_dim' | 'global_stride' | 'element_stride',
  value: Int | Long | Place,
  index?: number,
): void {
  const type = field === 'global_address' || field === 'global_stride' ? 'u64' : 'u32';
  const attributes = index === undefined ? { field } : { field, index };
  const operand = field === 'global_address' ? addressBits(value) : integer(value, type);
  emit('tensormap_replace', { args: [addressIn(map, ['ptr.shared']), operand], attributes });
}

/** An address as the 64 bits that a field takes. */
function addressBits(value: Int | Long | Place): Value {
  const address = typeof value === 'object' && 'address' in value ? value.address : value;
  if (!(address instanceof Value) || address.type !== 'ptr.global') return integer(address, 'u64');
  return result('ptr_bits', 'u64', { args: [address] });
}

/** A warp copies a tensor map from shared to global memory, for everybody who acquires it there. */
export function tensorMapPublish(to: Place, from: Place): void {
  emit('tensormap_copy_fence', { args: [addressIn(to, ['ptr.global']), addressIn(from, ['ptr.shared'])] });
}

/** This thread's tensor copies see the map as it was published. */
export function tensorMapAcquire(map: Place): void {
  emit('tensormap_acquire', { args: [addressIn(map, ['ptr.global', 'ptr.generic'])] });
}
