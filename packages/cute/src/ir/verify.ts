import { supports, type Arch } from '../ptx/arch.ts';
import { KernelError } from './error.ts';
import { beginOf, formatPosition, type KernelIR, type Node, type Region } from './ir.ts';
import { OPS } from './ops.ts';
import { checkAccumulators } from './check-wgmma.ts';
import { checkConvergence } from './check-convergence.ts';
import { checkRules } from './check-rules.ts';
import { checkSlots } from './check-slots.ts';
import { checkTensorMemory } from './check-tensor-memory.ts';
import { checkSignature } from './signatures.ts';

/**
 * Checks a kernel before it is compiled or simulated: that values are computed before they are used, types and number
 * of operands, labels, slots, convergence, barriers, alignment, registers, and what the architecture offers.
 *
 * @param arch absent: without what depends on an architecture.
 * @throws KernelError that says what is wrong, where, and what to do.
 */
export function verifyKernel(kernel: KernelIR, arch?: Arch): void {
  new Structure(kernel, arch).check();
  checkSlots(kernel);
  checkConvergence(kernel);
  checkAccumulators(kernel);
  checkTensorMemory(kernel);
  checkRules(kernel, arch);
}

/** Dominance, signatures, regions, labels, needs: in one walk. */
class Structure {
  private readonly kernel: KernelIR;
  private readonly arch: Arch | undefined;
  /** Whether a value is visible here, and whether it was ever computed. */
  private readonly visible = new Map<number, boolean>();
  private readonly labels: { label: string; loop: boolean }[] = [];

  constructor(kernel: KernelIR, arch: Arch | undefined) {
    this.kernel = kernel;
    this.arch = arch;
  }

  check(): void {
    const { threads, cluster } = this.kernel;
    const count = threads[0] * threads[1] * threads[2];
    if (!Number.isInteger(count) || count < 1 || count > 1024 || threads[2] > 64) {
      throw new KernelError(
        `${this.kernel.name}: ${threads.join(' x ')} threads; a CTA has 1 to 1024, at most 64 in z`,
        beginOf(this.kernel),
      );
    }
    if (cluster && cluster[0] * cluster[1] * cluster[2] > 16) {
      throw new KernelError(
        `${this.kernel.name}: a cluster of ${cluster.join(' x ')} CTAs; at most 8 (16 if the kernel allows it) fit`,
      );
    }
    this.region(this.kernel.body);
  }

  private region(nodes: Region): void {
    const defined: number[] = [];
    for (const node of nodes) this.node(node, defined);
    for (const id of defined) this.visible.set(id, false);
  }

  private node(node: Node, defined: number[]): void {
    const info = OPS[node.op];
    if (!info) throw new KernelError(`operation ${node.op} is unknown`, node.position);
    for (const arg of node.args) {
      if (this.visible.get(arg.id) === true) continue;
      const where = this.visible.has(arg.id)
        ? 'inside of a branch or loop that has ended; keep it in a variable'
        : 'later or never';
      throw new KernelError(
        `${node.op} uses the result of ${arg.node.op} (${formatPosition(arg.node.position)}), which is computed ${where}`,
        node.position,
      );
    }
    checkSignature(node);
    if (node.regions.length !== info.regions.length) {
      throw new KernelError(
        `${node.op} has ${node.regions.length} regions instead of ${info.regions.length}`,
        node.position,
      );
    }
    if (this.arch && info.needs) this.needs(node, this.arch);
    if (node.op === 'break' || node.op === 'continue') this.jump(node);
    if (node.op === 'loop' || node.op === 'block') this.labelled(node);
    else for (const region of node.regions) this.region(region);
    for (const result of node.results) {
      if (this.visible.has(result.id)) throw new KernelError(`value %${result.id} is computed twice`, node.position);
      this.visible.set(result.id, true);
      defined.push(result.id);
    }
  }

  private needs(node: Node, arch: Arch): void {
    const needs = OPS[node.op].needs!(node.attributes);
    if (supports(arch, needs.target)) return;
    throw new KernelError(`${node.op} needs ${needs.target}; the kernel is compiled for ${arch.name}`, node.position);
  }

  /** The latch sees what every way to it has computed: values before the first `continue` of the body. */
  private labelled(node: Node): void {
    const label = node.attributes.label;
    if (typeof label !== 'string') throw new KernelError(`${node.op} has no label`, node.position);
    if (this.labels.some((outer) => outer.label === label)) {
      throw new KernelError(`${node.op} ${label} is inside of another ${label}; labels differ`, node.position);
    }
    this.labels.push({ label, loop: node.op === 'loop' });
    const [body, latch] = node.regions;
    const defined: number[] = [];
    let hidden = -1;
    for (const inner of body) {
      if (hidden < 0 && latch && continues(inner, label)) hidden = defined.length;
      this.node(inner, defined);
    }
    if (latch) {
      if (hidden >= 0) for (const id of defined.slice(hidden)) this.visible.set(id, false);
      this.region(latch);
    }
    for (const id of defined) this.visible.set(id, false);
    this.labels.pop();
  }

  private jump(node: Node): void {
    const target = this.labels.find((outer) => outer.label === node.attributes.label);
    if (!target)
      throw new KernelError(`${node.op} to ${String(node.attributes.label)}, which is not around it`, node.position);
    if (node.op === 'continue' && !target.loop) {
      throw new KernelError(`continue to ${target.label}, which is a block and no loop; use break`, node.position);
    }
  }
}

/** Whether a node holds a `continue` to a loop. */
function continues(node: Node, label: string): boolean {
  if (node.op === 'continue') return node.attributes.label === label;
  return node.regions.some((region) => region.some((inner) => continues(inner, label)));
}
