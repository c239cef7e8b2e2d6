import { makeNode } from '../ir/builder.ts';
import { cloneNode } from '../ir/clone.ts';
import { walk, type KernelIR, type Node, type Region, type Value } from '../ir/ir.ts';

/**
 * Writes out several rounds of a loop with `unroll: n`, n > 1: body, latch, body, latch, ... body in one. Breaks leave
 * from wherever they are, so that the number of rounds need not be a multiple. A `continue` of all rounds but the last
 * becomes a jump to the end of a block around its round.
 */
export function unrollLoops(kernel: KernelIR): void {
  let labels = 0;
  const run = (nodes: Region): Region =>
    nodes.map((node) => {
      node.regions = node.regions.map(run);
      const rounds = node.op === 'loop' ? Number(node.attributes.unroll ?? 0) : 0;
      if (rounds > 1) unroll(kernel, node, rounds, () => `round${labels++} of ${String(node.attributes.label)}`);
      return node;
    });
  kernel.body = run(kernel.body);
}

function unroll(kernel: KernelIR, loop: Node, rounds: number, newLabel: () => string): void {
  const [body, latch] = loop.regions;
  const label = loop.attributes.label;
  const continues = contains(body, (node) => node.op === 'continue' && node.attributes.label === label);
  loop.attributes = { ...loop.attributes, unroll: 1 };
  // A block hides the values of its body from the latch behind it.
  if (continues && readsFrom(latch, body)) {
    loop.attributes = { ...loop.attributes, unroll: 0 };
    return;
  }
  const out: Region = [];
  for (let round = 0; round < rounds - 1; round++) {
    const values = new Map<Value, Value>();
    const copy = body.map((node) => cloneNode(node, values, kernel));
    if (continues) {
      const end = newLabel();
      redirect(copy, label, end);
      out.push(makeNode(kernel, 'block', loop.position, { attributes: { label: end }, regions: [copy] }));
    } else out.push(...copy);
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

function redirect(nodes: Region, label: unknown, end: string): void {
  walk(nodes, (node) => {
    if (node.op !== 'continue' || node.attributes.label !== label) return;
    Object.assign(node, { op: 'break', attributes: { label: end } });
  });
}
