import type { Node } from '../ir/ir.ts';
import type { Clock, Meeting } from './clocks.ts';
import type { AsyncOperation, Handover } from './machine.ts';
import type { TensorAccess } from './tensor-memory.ts';

/** Groups of copies and products that a warp has started. */
export interface WarpState {
  /** cp.async and bulk copies of each lane that are in no group yet, and its groups. */
  readonly copies: LaneGroups[];
  readonly bulk: LaneGroups[];
  /** Products in no group yet, and groups. */
  products: PendingProduct[];
  productGroups: PendingProduct[][];
  /** Accumulators that were written since the last fence, and those of products that run. */
  readonly dirty: Set<number>;
  readonly pinned: Map<number, Node>;
  /** How many wgmma it executed. */
  productCount: number;
  /** What `set_max_registers` said last, and where. */
  registers: number | undefined;
  registerNode: Node | undefined;
  /** What came before the last fence: relaxed writes behind it release that. */
  published: Meeting | undefined;
  /** Where relaxed reads looked: the next fence acquires what was released there. */
  readonly seen: Set<Handover>;
  /** The cluster barrier's phase that the warp has arrived for and not waited for. */
  clusterPhase: number | undefined;
  readonly tensor: TensorState;
  /** Tensor maps in global memory: by their address the record of the publication that was acquired last. */
  readonly acquiredMaps: Map<number, number>;
}

/** What a warp has started in tensor memory. */
export interface TensorState {
  /** What this warp may rely on: its clock of tensor memory behind the last fence after a synchronisation. */
  visible: Clock | undefined;
  /** Its loads and stores that it has not waited for; loads put their words into registers then. */
  loads: { access: TensorAccess; deliver: () => void }[];
  stores: TensorAccess[];
  /** Products and copies, oldest first, that nobody was told of yet. */
  uncommitted: TensorAccess[];
  /** The youngest operation that it started. */
  last: AsyncOperation | undefined;
}

export interface LaneGroups {
  open: AsyncOperation[];
  groups: AsyncOperation[][];
}

export interface PendingProduct {
  readonly node: Node;
  readonly slots: readonly number[];
  readonly complete: () => void;
}

export function newWarpState(): WarpState {
  return {
    copies: [],
    bulk: [],
    products: [],
    productGroups: [],
    dirty: new Set(),
    pinned: new Map(),
    productCount: 0,
    registers: undefined,
    registerNode: undefined,
    published: undefined,
    seen: new Set(),
    clusterPhase: undefined,
    tensor: { visible: undefined, loads: [], stores: [], uncommitted: [], last: undefined },
    acquiredMaps: new Map(),
  };
}

export function groupsOf(list: LaneGroups[], lane: number): LaneGroups {
  return (list[lane] ??= { open: [], groups: [] });
}
