import { Value, type KernelIR, type Node, type Region } from './ir.ts';

/** A copy of a kernel that passes may change; values and slots keep their numbers. */
export function cloneKernel(kernel: KernelIR): KernelIR {
  const values = new Map<Value, Value>();
  return {
    ...kernel,
    params: [...kernel.params],
    shared: kernel.shared.map((allocation) => ({ ...allocation })),
    body: kernel.body.map((node) => cloneNode(node, values)),
  };
}

/**
 * A copy of a node, its regions included; `values` maps the values so far, and takes the new ones. With a kernel, results
 * get new numbers of it, so that both can be in one kernel.
 */
export function cloneNode(node: Node, values: Map<Value, Value>, kernel?: KernelIR): Node {
  const copy: Node = {
    op: node.op,
    args: node.args.map((value) => values.get(value) ?? value),
    results: [],
    attributes: node.attributes,
    slots: [...node.slots],
    regions: [],
    position: node.position,
  };
  for (const result of node.results) {
    const value = new Value(kernel ? kernel.values++ : result.id, result.type, copy);
    value.divisor = result.divisor;
    copy.results.push(value);
    values.set(result, value);
  }
  copy.regions = node.regions.map((region): Region => region.map((inner) => cloneNode(inner, values, kernel)));
  return copy;
}
