import { TYPES } from '../types/dtype.ts';
import type { Attributes, Node } from './ir.ts';

/** What an operation does to the world besides giving results. Only `pure` nodes may be merged, moved or dropped. */
export type Effect =
  | 'pure'
  /** Reads memory (or a clock): may be dropped, not moved over a write or a synchronisation. */
  | 'read'
  | 'write'
  /** Orders threads or memory; nothing moves over it. */
  | 'sync'
  | 'control'
  | 'debug';

/** Who has to execute a node together; every thread of the group, or the result is undefined. */
export type Convergence = 'none' | 'warp' | 'warpgroup' | 'cta' | 'cluster';

/**
 * Least PTX ISA version and architecture of an operation. `sm_90a` and `sm_100a` name features of one architecture;
 * `sm_90a+` those that came with it and that every later architecture with an `a` has.
 */
export interface Needs {
  readonly isa: number;
  readonly target: 'sm_80' | 'sm_89' | 'sm_90' | 'sm_90a' | 'sm_90a+' | 'sm_100' | 'sm_100a';
}

export interface OpInfo {
  readonly effect: Effect;
  readonly convergence: Convergence;
  /** Regions that a node has: names for messages and the text form. */
  readonly regions: readonly string[];
  /** Operands, results, attributes and meaning, in words. */
  readonly summary: string;
  /** What the form with these attributes needs beyond ISA 7.0 and sm_80. */
  readonly needs: ((attributes: Attributes) => Needs) | undefined;
}

const BASE: OpInfo = { effect: 'pure', convergence: 'none', regions: [], summary: '', needs: undefined };

/** A row of a table of operations. */
export function op(summary: string, rest: Partial<OpInfo> = {}): OpInfo {
  return { ...BASE, ...rest, summary };
}

/** Whether an integer is divided by what may be 0: it may be computed only where the author's conditions hold. */
export function mayDivideByZero({ op: name, args: [, divisor] }: Node): boolean {
  if (name !== 'div' && name !== 'rem') return false;
  const { kind } = TYPES[divisor.type];
  return (
    (kind === 'i' || kind === 'u') && !(divisor.node.op === 'const' && Number(divisor.node.attributes.value) !== 0)
  );
}
