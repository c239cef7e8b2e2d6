import type { Arch } from '../ptx/arch.ts';
import { KernelError } from './error.ts';
import { beginOf, formatPosition, walk, type KernelIR, type Node, type Region, type Value } from './ir.ts';

/** Rules about single nodes and sums: barriers, shared memory, alignment, registers, bytes that a barrier expects. */
export function checkRules(kernel: KernelIR, arch: Arch | undefined): void {
  const registers: Node[] = [];
  walk(kernel.body, (node) => {
    if (node.op === 'barrier' || node.op === 'barrier_arrive' || node.op === 'barrier_reduce')
      checkBarrier(kernel, node);
    if (node.op === 'set_max_registers') registers.push(node);
    checkAlignment(kernel, node);
  });
  checkRegisters(kernel, registers, arch);
  checkExpected(kernel, kernel.body);
  checkDrained(kernel);
  checkDependence(kernel);
}

function checkBarrier(kernel: KernelIR, node: Node): void {
  const id = Number(node.attributes.id ?? 0);
  if (!Number.isInteger(id) || id < 0 || id > 15) {
    throw new KernelError(`${node.op}: barrier ${id}; a CTA has barriers 0 to 15`, node.position);
  }
  const { count } = node.attributes;
  if (count === undefined) {
    if (node.op === 'barrier_arrive') throw new KernelError('barrier_arrive: count is missing', node.position);
    return;
  }
  const threads = kernel.threads[0] * kernel.threads[1] * kernel.threads[2];
  if (typeof count !== 'number' || count < 32 || count % 32 !== 0 || count > Math.ceil(threads / 32) * 32) {
    throw new KernelError(
      `${node.op}: ${String(count)} threads; it must be a multiple of 32 up to the CTA's ${threads}`,
      node.position,
    );
  }
}

/** Bytes that the hardware wants addresses in shared memory to be a multiple of, by operand. */
const WANTED: Readonly<Record<string, readonly (readonly [operand: number, align: number, what: string])[]>> = {
  mbarrier_init: [[0, 8, 'a barrier']],
  mbarrier_arrive: [[0, 8, 'a barrier']],
  mbarrier_expect: [[0, 8, 'a barrier']],
  mbarrier_wait: [[0, 8, 'a barrier']],
  mbarrier_try_wait: [[0, 8, 'a barrier']],
  tma_load: [
    [0, 128, 'the destination of a tensor copy'],
    [2, 8, 'a barrier'],
  ],
  tma_store: [[1, 128, 'the source of a tensor copy']],
  bulk_load: [
    [0, 16, 'the destination of a bulk copy'],
    [3, 8, 'a barrier'],
  ],
  bulk_store: [[1, 16, 'the source of a bulk copy']],
  ldmatrix: [[0, 16, 'a row of a matrix']],
  stmatrix: [[0, 16, 'a row of a matrix']],
  wgmma_descriptor: [[0, 16, 'a matrix']],
};

function checkAlignment(kernel: KernelIR, node: Node): void {
  if (node.op === 'load' || node.op === 'store') {
    const align = Number(node.attributes.align ?? 1);
    const place = knownPlace(kernel, node.args[0]);
    const at = place && place.bytes + Number(node.attributes.bytes ?? 0);
    if (place && at !== undefined && (at % align !== 0 || place.align % align !== 0)) {
      throw misaligned(node, `${node.op} of ${align} bytes at once`, align, place, at);
    }
    return;
  }
  if (node.op === 'bulk_load' || node.op === 'bulk_store') {
    const bytes = node.args[2].node;
    if (bytes.op === 'const' && Number(bytes.attributes.value) % 16 !== 0) {
      throw new KernelError(
        `${node.op} of ${String(bytes.attributes.value)} bytes: it must be a multiple of 16`,
        node.position,
      );
    }
  }
  for (const [operand, align, what] of WANTED[node.op] ?? []) {
    const place = node.args[operand] && knownPlace(kernel, node.args[operand]);
    if (place && (place.bytes % align !== 0 || place.align % align !== 0))
      throw misaligned(node, what, align, place, place.bytes);
  }
}

interface Place {
  readonly name: string;
  readonly align: number;
  readonly bytes: number;
}

/** Allocation and offset of an address of shared memory, where both are known. */
function knownPlace(kernel: KernelIR, value: Value): Place | undefined {
  const { node } = value;
  if (node.op === 'shared_address') {
    const allocation = kernel.shared.find(({ id }) => id === node.attributes.id);
    return allocation && { name: allocation.name, align: allocation.align, bytes: 0 };
  }
  if (node.op === 'ptr_cast' || node.op === 'map_shared') return knownPlace(kernel, node.args[0]);
  if (node.op !== 'ptr_add') return undefined;
  const [base, index] = node.args;
  if (index && index.node.op !== 'const') return undefined;
  const place = knownPlace(kernel, base);
  const moved = index ? Number(index.node.attributes.value) * Number(node.attributes.scale ?? 1) : 0;
  return place && { ...place, bytes: place.bytes + moved + Number(node.attributes.bytes ?? 0) };
}

function misaligned(node: Node, what: string, align: number, place: Place, bytes: number): KernelError {
  return new KernelError(
    `${node.op}: ${what} must lie at a multiple of ${align} bytes; it is at byte ${bytes} of ${place.name}, which is ` +
      `aligned to ${place.align}; give the allocation align: ${align}, and whole multiples as offsets`,
    node.position,
  );
}

/** Registers that the warpgroups ask for must fit the multiprocessor together. */
function checkRegisters(kernel: KernelIR, nodes: readonly Node[], arch: Arch | undefined): void {
  for (const node of nodes) {
    const count = Number(node.attributes.count);
    if (count % 8 !== 0 || count < 24 || count > 256) {
      throw new KernelError(`set_max_registers ${count}: it must be a multiple of 8 from 24 to 256`, node.position);
    }
  }
  const groups = (kernel.threads[0] * kernel.threads[1] * kernel.threads[2]) / 128;
  const most = arch?.registers ?? 65536;
  if (nodes.length === 0) return;
  // One call for each warpgroup, or fewer where some share theirs: the sum is known only in the first case.
  const counts = nodes.map((node) => Number(node.attributes.count));
  const sum = nodes.length === groups ? counts.reduce((a, b) => a + b, 0) : Math.min(...counts) * groups;
  if (sum * 128 > most) {
    throw new KernelError(
      `the ${groups} warpgroups ask for ${sum * 128} registers together (${counts.join(' + ')} a thread); there are ${most}`,
      nodes[nodes.length - 1].position,
    );
  }
}

/** Where a barrier's bytes and all copies to it are known and stand together, they must be equal. */
function checkExpected(kernel: KernelIR, nodes: Region): void {
  const expected = new Map<Value, { node: Node; bytes: number; copied: number; known: boolean }>();
  for (const node of nodes) {
    for (const region of node.regions) {
      checkExpected(kernel, region);
      // Copies under a condition or in a loop: how many there are is not known.
      walk(region, (inner) => inner.args.forEach((value) => expected.delete(value)));
    }
    if (node.op === 'mbarrier_wait') flush(expected);
    if (node.op === 'mbarrier_expect') {
      const bytes = typeof node.attributes.bytes === 'number' ? node.attributes.bytes : constantOf(node.args[1]);
      const before = expected.get(node.args[0]);
      if (before && before.copied > 0) flush(expected);
      const sum = before?.copied === 0 ? before.bytes : 0;
      if (bytes === undefined) expected.delete(node.args[0]);
      else expected.set(node.args[0], { node, bytes: sum + bytes, copied: 0, known: true });
    }
    const barrier = node.op === 'bulk_load' ? node.args[3] : node.op === 'tma_load' ? node.args[2] : undefined;
    const entry = barrier && expected.get(barrier);
    if (!entry) continue;
    const bytes = copiedBytes(kernel, node);
    if (bytes === undefined) entry.known = false;
    else entry.copied += bytes;
  }
  flush(expected);

  function flush(entries: typeof expected): void {
    for (const { node, bytes, copied, known } of entries.values()) {
      if (known && copied > 0 && copied !== bytes) {
        throw new KernelError(
          `mbarrier_expect waits for ${bytes} bytes, but the copies to it move ${copied}`,
          node.position,
        );
      }
    }
    entries.clear();
  }
}

/** Bytes that a copy brings to its own CTA's barrier; those of a multicast are not all its own CTA's doing. */
function copiedBytes(kernel: KernelIR, node: Node): number | undefined {
  if (node.attributes.multicast === true) return undefined;
  if (node.op === 'bulk_load') return constantOf(node.args[2]);
  const map = node.args[1].node;
  const param = map.op === 'param' ? kernel.params[Number(map.attributes.index)] : undefined;
  if (param?.kind !== 'tensormap' || param.boxBytes === undefined) return undefined;
  return param.boxBytes * (node.attributes.mode === 'gather4' ? 4 : 1);
}

function constantOf(value: Value | undefined): number | undefined {
  return value?.node.op === 'const' ? Number(value.node.attributes.value) : undefined;
}

/** A kernel that starts before the one before it has ended must wait for it somewhere. */
function checkDependence(kernel: KernelIR): void {
  if (!kernel.overlapsPrevious) return;
  let waits = false;
  walk(kernel.body, (node) => {
    if (node.op === 'grid_dependency_wait') waits = true;
  });
  if (waits) return;
  throw new KernelError(
    `${kernel.name} overlaps the kernel before it, but never waits for what that writes: call grid_dependency_wait ` +
      'before the first read that depends on it',
    beginOf(kernel),
  );
}

/** A CTA that ends frees its shared memory: copies out of it have to have read it by then. */
function checkDrained(kernel: KernelIR): void {
  let store: Node | undefined;
  let waits = false;
  walk(kernel.body, (node) => {
    if (node.op === 'tma_store' || node.op === 'bulk_store') store = node;
    if (node.op === 'bulk_wait') waits = true;
  });
  if (store && !waits) {
    throw new KernelError(
      `${store.op} at ${formatPosition(store.position)} is never waited for: end with bulk_commit and bulk_wait`,
      store.position,
    );
  }
}
