import type { TileFamily } from '../api.ts';
import type { Scratch } from '../commands/thread.ts';

export interface WorkerData {
  readonly control: SharedArrayBuffer;
  readonly thread: number;
  readonly threads: number;
}

export type TeamMessage =
  | {
      readonly kind: 'arena';
      readonly arena: number;
      readonly memory: WebAssembly.Memory;
      readonly module: WebAssembly.Module;
      readonly family: TileFamily;
    }
  | { readonly kind: 'scratch'; readonly arena: number; readonly scratch: readonly Scratch[] }
  | { readonly kind: 'drop'; readonly arena: number };
