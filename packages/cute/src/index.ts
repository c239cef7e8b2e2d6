/** Filled step by step. */
export const VERSION = '0.1.0';

export * from './types/dtype.ts';
export type {
  Attribute,
  Attributes,
  KernelIR,
  KernelParameter,
  Node,
  Position,
  Region,
  SharedAllocation,
  Slot,
} from './ir/ir.ts';
export * as layout from './layout/index.ts';
