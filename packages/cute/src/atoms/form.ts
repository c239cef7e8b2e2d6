import type { Attributes } from '../ir/ir.ts';
import type { TypeName } from '../types/dtype.ts';

/** One form of an operation: what a node of it is made of. */
export interface InstructionForm {
  readonly op: string;
  readonly attributes: Attributes;
  readonly args: readonly TypeName[];
  readonly results: readonly TypeName[];
  /** Slots that it updates in place. */
  readonly slots: readonly TypeName[];
}

/** A form with whatever it has; types of operands, results and slots in order. */
export function form(
  op: string,
  attributes: Attributes = {},
  args: readonly TypeName[] = [],
  results: readonly TypeName[] = [],
  slots: readonly TypeName[] = [],
): InstructionForm {
  return { op, attributes, args, results, slots };
}

/** A list that has the item so often. */
export function times<T>(count: number, item: T): T[] {
  return Array.from({ length: count }, () => item);
}
