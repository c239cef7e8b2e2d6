import { cloneNode } from '../ir/clone.ts';
import { walk, type KernelIR, type Node, type Region, type Value } from '../ir/ir.ts';

/**
 * Writes out several rounds of a loop with `unroll: n`, n > 1: body, latch, body, latch, ... body in one. Breaks leave
 * from wherever they are, so that the number of rounds need not be a multiple; a `continue` goes to the loop's latch, and
 * from there to the first of the rounds.
 */
export function unrollLoops(kernel: KernelIR): void {
  const run = (nodes: Region): Region =>
    nodes.map((node) => {
      node.regions = node.regions.map(run);
      const rounds = node.op === 'loop' ? Number(node.attributes.unroll ?? 0) : 0;
      if (rounds > 1) unroll(kernel, node, rounds);
      return node;
    });
  kernel.body = run(kernel.body);
}

function unroll(kernel: KernelIR, loop: Node, rounds: number): void {
  const [body, latch] = loop.regions;
  const label = loop.attributes.label;
  const continues = contains(body, (node) => node.op === 'continue' && node.attributes.label === label);
  loop.attributes = { ...loop.attributes, unroll: 1 };
  // The latch would need the last round's values, which a continue of an earlier one has not computed.
  if (continues && readsFrom(latch, body)) {
    loop.attributes = { ...loop.attributes, unroll: 0 };
    return;
  }
  const out: Region = [];
  for (let round = 0; round < rounds - 1; round++) {
    const values = new Map<Value, Value>();
    for (const node of body) out.push(cloneNode(node, values, kernel));
    for (const node of latch) out.push(cloneNode(node, values, kernel));
  }
  loop.regions = [[...out, ...body], latch];
}

function contains(nodes: Region, test: (node: Node) => boolean): boolean {
  return nodes.some((node) => test(node) || node.regions.some((region) => contains(region, test)));
}

function readsFrom(latch: Region, body: Region): boolean {
  const own = new Set<Value>();
  walk(body, (node) => {
    for (const result of node.results) own.add(result);
  });
  return contains(latch, (node) => node.args.some((arg) => own.has(arg)));
}
