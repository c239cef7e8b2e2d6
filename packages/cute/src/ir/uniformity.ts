import type { KernelIR, Node, Region, Value } from './ir.ts';

/** How far threads may differ: not at all in the CTA (0), by warpgroup only (1), by warp only (2), or by thread (3). */
export type Level = 0 | 1 | 2 | 3;

export interface Uniformity {
  /** How far threads differ in a value. */
  readonly of: (value: Value) => Level;
  /** How far threads differ in whether they execute a node. */
  readonly at: (node: Node) => Level;
  /** The branch that parts the threads which execute a node. */
  readonly cause: (node: Node) => Node | undefined;
}

const THREAD = new Set([
  'tid.x',
  'tid.y',
  'tid.z',
  'laneid',
  'lanemask_lt',
  'lanemask_le',
  'lanemask_gt',
  'lanemask_ge',
  'lanemask_eq',
]);

/**
 * Which values are the same in all threads of a CTA or of a warp, and which code such threads execute together. What is
 * read from memory is as uniform as its address; slots are as uniform as all that is ever written to them, where it is
 * written. Repeated until nothing changes, because loops carry slots around.
 */
export function analyseUniformity(kernel: KernelIR): Uniformity {
  const analysis = new Analysis(kernel);
  while (analysis.round());
  return {
    of: (value) => analysis.value(value),
    at: (node) => analysis.nodes.get(node)?.level ?? 0,
    cause: (node) => analysis.nodes.get(node)?.cause,
  };
}

interface Place {
  readonly level: Level;
  readonly cause: Node | undefined;
}

class Analysis {
  readonly nodes = new Map<Node, Place>();
  private readonly kernel: KernelIR;
  private readonly values = new Map<Value, Level>();
  private readonly slots = new Map<number, Level>();
  /** How far the threads differ that are still inside of a loop or block, or in the kernel. */
  private readonly exits = new Map<string, Place>();
  /** Loops and blocks around the node that is looked at. */
  private readonly inside: string[] = [];
  private changed = false;

  constructor(kernel: KernelIR) {
    this.kernel = kernel;
  }

  round(): boolean {
    this.changed = false;
    this.region(this.kernel.body, { level: 0, cause: undefined });
    return this.changed;
  }

  value(value: Value): Level {
    return this.values.get(value) ?? 0;
  }

  private region(nodes: Region, around: Place): void {
    let place = around;
    for (const node of nodes) {
      this.nodes.set(node, place);
      this.node(node, place);
      place = worst(place, this.left(node));
    }
  }

  /** What leaves of the threads behind a branch: those that jumped are gone for the rest of the region. */
  private left(node: Node): Place {
    if (node.op !== 'if' && node.op !== 'loop' && node.op !== 'block') return NOWHERE;
    return this.exitOf(node, new Set());
  }

  private exitOf(node: Node, inside: Set<string>): Place {
    let place = NOWHERE;
    if (node.op === 'loop' || node.op === 'block') inside.add(String(node.attributes.label));
    for (const region of node.regions) {
      for (const inner of region) {
        const jumps =
          inner.op === 'return' ||
          ((inner.op === 'break' || inner.op === 'continue') && !inside.has(String(inner.attributes.label)));
        if (jumps) place = worst(place, this.nodes.get(inner) ?? NOWHERE);
        else if (inner.regions.length > 0) place = worst(place, this.exitOf(inner, inside));
      }
    }
    if (node.op === 'loop' || node.op === 'block') inside.delete(String(node.attributes.label));
    return place;
  }

  private node(node: Node, place: Place): void {
    if (node.op === 'if') {
      const level = this.value(node.args[0]);
      const inner = level > place.level ? { level, cause: node } : place;
      for (const region of node.regions) this.region(region, inner);
      return;
    }
    if (node.op === 'loop' || node.op === 'block') {
      // Threads that left in an earlier round are not there in the next one.
      const label = String(node.attributes.label);
      const around = node.op === 'loop' ? worst(place, this.exits.get(label) ?? NOWHERE) : place;
      this.inside.push(label);
      for (const region of node.regions) this.region(region, around);
      this.inside.pop();
      return;
    }
    if (node.op === 'break' || node.op === 'return') {
      const label = node.op === 'break' ? String(node.attributes.label) : '';
      for (const key of node.op === 'return' ? this.inside : [label]) this.raise(key, place);
      return;
    }
    const level = this.levelOf(node);
    if (node.op !== 'get')
      for (const slot of node.slots)
        if (node.op !== 'slot') this.raiseSlot(slot.id, Math.max(level, place.level) as Level);
    for (const result of node.results) {
      if (this.value(result) >= level) continue;
      this.values.set(result, level);
      this.changed = true;
    }
  }

  private raise(label: string, place: Place): void {
    const before = this.exits.get(label);
    if (before && before.level >= place.level) return;
    this.exits.set(label, place);
    this.changed = true;
  }

  private raiseSlot(id: number, level: Level): void {
    if ((this.slots.get(id) ?? 0) >= level) return;
    this.slots.set(id, level);
    this.changed = true;
  }

  private levelOf(node: Node): Level {
    switch (node.op) {
      case 'special': {
        const name = String(node.attributes.name);
        if (name === 'tid.x' || name === 'tid.y' || name === 'tid.z') {
          return this.kernel.threads['xyz'.indexOf(name[4])] === 1 ? 0 : 3;
        }
        return THREAD.has(name) ? 3 : name === 'warpid' ? 2 : 0;
      }
      case 'get':
        return this.slots.get(node.slots[0].id) ?? 0;
      case 'barrier_reduce':
        return 0;
      case 'vote':
      case 'warp_reduce':
        return Math.min(2, this.most(node)) as Level;
      case 'elect':
      case 'atomic':
      case 'clock':
      case 'active_mask':
      case 'asm':
      case 'mma':
      case 'ldmatrix':
      case 'movmatrix':
      case 'match':
      case 'wgmma':
      case 'mbarrier_try_wait':
        return 3;
      case 'shuffle': {
        const most = this.most(node);
        const whole = node.attributes.mode === 'idx' && (node.attributes.width ?? 32) === 32;
        return whole && this.value(node.args[1]) < 3 ? (Math.min(2, most) as Level) : most;
      }
      default:
        return Math.min(this.most(node), this.byWarp(node)) as Level;
    }
  }

  private most(node: Node): Level {
    let level: Level = 0;
    for (const arg of node.args) level = Math.max(level, this.value(arg)) as Level;
    return level;
  }

  /** The level of thread numbers divided by whole warps, or compared with a border between warps. */
  private byWarp(node: Node): Level {
    const { threads } = this.kernel;
    // Elsewhere warps and rows of threads do not coincide.
    if (threads[0] % 32 !== 0) return 3;
    let threadsAlike = granuleOf(node);
    if (node.op === 'compare') {
      const [left, right] = node.args;
      const border = right.node.op === 'const' ? Number(right.node.attributes.value) : Number.NaN;
      const granule = granuleOf(left.node);
      const test = node.attributes.test;
      if (test === 'lt' || test === 'ge') threadsAlike = granule * border;
      else if (test === 'le' || test === 'gt') threadsAlike = granule * (border + 1);
      else threadsAlike = granule;
      if (Number.isNaN(threadsAlike)) threadsAlike = granule;
      // A border anywhere between groups is one between warps, too.
      if (granule % 128 === 0) threadsAlike = granule;
    }
    const rows = threads[0] % 128 === 0 || threads[1] * threads[2] === 1;
    if (threadsAlike % 128 === 0 && rows) return 1;
    return threadsAlike % 32 === 0 ? 2 : 3;
  }
}

/** How many threads side by side have the same value, where it comes from the thread's number; 1 if that is not known. */
function granuleOf(node: Node): number {
  const [left, right] = node.args;
  switch (node.op) {
    case 'convert':
    case 'bitcast':
      return granuleOf(left.node);
    case 'special':
      return node.attributes.name === 'warpid' ? 32 : 1;
    case 'shr':
    case 'div':
    case 'and': {
      if (right.node.op !== 'const') return 1;
      const number = Number(right.node.attributes.value);
      if (!isThreadNumber(left)) return 1;
      if (node.op === 'and') return number === 0 ? 1 : granuleOf(left.node) * (number & -number);
      return granuleOf(left.node) * (node.op === 'shr' ? 2 ** number : number);
    }
    default:
      return 1;
  }
}

const NOWHERE: Place = { level: 0, cause: undefined };

function worst(a: Place, b: Place): Place {
  return b.level > a.level ? b : a;
}

/** `tid.x` or the number of a warp, also converted or divided. */
function isThreadNumber(value: Value): boolean {
  const { node } = value;
  switch (node.op) {
    case 'convert':
    case 'bitcast':
      return isThreadNumber(node.args[0]);
    case 'shr':
    case 'div':
    case 'and':
      return node.args[1].node.op === 'const' && isThreadNumber(node.args[0]);
    default:
      return node.op === 'special' && (node.attributes.name === 'tid.x' || node.attributes.name === 'warpid');
  }
}
