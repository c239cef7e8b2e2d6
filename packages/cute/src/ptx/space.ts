import { choiceOf } from '../ir/attributes.ts';
import type { Node, Value } from '../ir/ir.ts';
import type { TypeName } from '../types/dtype.ts';
import type { Emitter } from './emitter.ts';

const SPACES: Partial<Record<TypeName, string>> = {
  'ptr.global': '.global',
  'ptr.generic': '',
  'ptr.shared': '.shared',
  'ptr.cluster': '.shared::cluster',
};

/** The state space of an address, as instructions spell it; generic addresses have none. */
export function spaceOf(e: Emitter, address: Value): string {
  const space = SPACES[address.type];
  if (space === undefined) throw e.error(`${address.type} is no address that loads and stores can use`);
  if (address.type === 'ptr.cluster') e.need(7.8, 'sm_90', 'shared memory of the cluster');
  return space;
}

/** `.gpu` and so on; clusters came with sm_90. */
export function scopeOf(e: Emitter, node: Node, otherwise = 'gpu'): string {
  const scope = choiceOf(node, 'scope', ['cta', 'cluster', 'gpu', 'sys'], otherwise as 'gpu');
  if (scope === 'cluster') e.need(7.8, 'sm_90', 'the scope of a cluster');
  return `.${scope}`;
}
