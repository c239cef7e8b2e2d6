import { walk, type KernelIR, type KernelParameter, type Node, type Region, type Slot, type Value } from '../ir/ir.ts';
import type { Trace } from './state.ts';

/** The recorded kernel: slots that are written once, where they are declared, are the value; accesses are told. */
export function finish(trace: Trace): KernelIR {
  const { kernel } = trace;
  dissolveSlots(kernel.body);
  for (const [index, accessed] of trace.accessed) {
    const param = kernel.params[index];
    if (param.kind !== 'tensor') continue;
    const access = accessed.size === 2 ? 'readwrite' : accessed.has('write') ? 'write' : 'read';
    kernel.params[index] = { ...param, access } satisfies KernelParameter;
  }
  return kernel;
}

interface Use {
  declared: Region | undefined;
  writes: { node: Node; region: Region }[];
  other: boolean;
}

function dissolveSlots(body: Region): void {
  const uses = new Map<Slot, Use>();
  walk(body, (node, region) => {
    for (const slot of node.slots) {
      const use = uses.get(slot) ?? { declared: undefined, writes: [], other: false };
      uses.set(slot, use);
      if (node.op === 'slot') use.declared = region;
      else if (node.op === 'set') use.writes.push({ node, region });
      else if (node.op !== 'get') use.other = true;
    }
  });
  const value = new Map<Slot, Value>();
  for (const [slot, { declared, writes, other }] of uses) {
    if (!other && writes.length === 1 && writes[0].region === declared) value.set(slot, writes[0].node.args[0]);
  }
  if (value.size === 0) return;
  const instead = new Map<Value, Value>();
  const resolve = (of: Value): Value => {
    const other = instead.get(of);
    return other ? resolve(other) : of;
  };
  const visit = (region: Region): void => {
    let kept = 0;
    for (const node of region) {
      node.args = node.args.map(resolve);
      for (const inner of node.regions) visit(inner);
      const known = node.slots.length === 1 ? value.get(node.slots[0]) : undefined;
      if (known && node.op === 'get') instead.set(node.results[0], known);
      if (!known) region[kept++] = node;
    }
    region.length = kept;
  };
  visit(body);
}
