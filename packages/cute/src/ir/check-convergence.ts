import { KernelError } from './error.ts';
import { formatPosition, walk, type KernelIR, type Node } from './ir.ts';
import { OPS } from './ops.ts';
import { analyseUniformity, type Uniformity } from './uniformity.ts';

/** Checks that what a warp has to execute together is not under a condition that differs between its threads. */
export function checkConvergence(kernel: KernelIR): void {
  const together: Node[] = [];
  walk(kernel.body, (node) => {
    if (needsConvergence(node)) together.push(node);
  });
  if (together.length === 0) return;
  const uniformity = analyseUniformity(kernel);
  for (const node of together)
    if (uniformity.at(node) > MOST[OPS[node.op].convergence]) throw divergent(node, uniformity);
}

/** How far threads may differ that execute something together. */
const MOST = { none: 3, warp: 2, warpgroup: 1, cta: 0, cluster: 0 } as const;

function needsConvergence(node: Node): boolean {
  if (OPS[node.op].convergence === 'none') return false;
  // These say for themselves which threads take part.
  if (node.attributes.aligned === false) return false;
  return node.attributes.mask === undefined || node.attributes.mask === 0xffffffff || node.attributes.mask === -1;
}

function divergent(node: Node, uniformity: Uniformity): KernelError {
  const cause = uniformity.cause(node);
  const where = cause ? ` at ${formatPosition(cause.position)}` : '';
  const instead = node.op.startsWith('barrier')
    ? 'move it out of the branch, or pass aligned: false'
    : 'move it out of the branch, or make the condition the same in all of them (e.g. by the number of the warp or warpgroup)';
  return new KernelError(
    `${node.op} is executed by a whole ${OPS[node.op].convergence} together, but the condition${where} differs between ` +
      `threads of a ${OPS[node.op].convergence}; ${instead}`,
    node.position,
  );
}
