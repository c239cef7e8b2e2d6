import type { Attributes } from './ir.ts';

/**
 * What inline PTX does to one thread's registers, in JavaScript: the operands' values in, the results' out (one value, or
 * a list). 64-bit integers are bigints, predicates booleans, 8- and 16-bit floats and packed types their bits.
 */
export type AsmModel = (
  ...operands: (number | bigint | boolean)[]
) => number | bigint | boolean | readonly (number | bigint | boolean)[] | void;

/** Functions are no data: they stand beside a node's attributes, which copies of the node share, and not in its text form. */
const models = new WeakMap<Attributes, AsmModel>();

export function setAsmModel(attributes: Attributes, model: AsmModel): void {
  models.set(attributes, model);
}

export function asmModelOf(attributes: Attributes): AsmModel | undefined {
  return models.get(attributes);
}
