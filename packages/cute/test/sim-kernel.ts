import { Builder, type NodeParts } from '../src/ir/builder.ts';
import type { Attributes, KernelIR, KernelParameter, Node, Slot, Value } from '../src/ir/ir.ts';
import type { Finding, SimulatorOptions, SimulatorResult } from '../src/sim/api.ts';
import type { TypeName } from '../src/types/dtype.ts';

/** Kernels for the simulator's tests, written node by node; the line of a node is its number. */

export interface KernelFacts {
  readonly params?: readonly KernelParameter[];
  readonly threads?: number | readonly [number, number, number];
  readonly cluster?: readonly [number, number, number];
}

export class KernelWriter {
  readonly kernel: KernelIR;
  readonly builder: Builder;
  private line = 0;

  constructor({ params = [], threads = 32, cluster }: KernelFacts = {}) {
    this.kernel = {
      name: 'test',
      params: [...params],
      shared: [],
      body: [],
      threads: typeof threads === 'number' ? [threads, 1, 1] : threads,
      ...(cluster ? { cluster } : {}),
      values: 0,
      slotCount: 0,
    };
    this.builder = new Builder(this.kernel, { file: 'test.ts', line: 0, column: 1 });
  }

  private here(): void {
    this.builder.position = { file: 'test.ts', line: ++this.line, column: 1 };
  }

  emit(op: string, parts: NodeParts = {}): Node {
    this.here();
    return this.builder.emit(op, parts);
  }

  value(op: string, type: TypeName, args: readonly Value[] = [], attributes: Attributes = {}): Value {
    this.here();
    return this.builder.value(op, type, { args, attributes });
  }

  constant(type: TypeName, value: number | string | boolean): Value {
    return this.value('const', type, [], { value });
  }

  special(name: string): Value {
    return this.value('special', 'i32', [], { name });
  }

  param(index: number): Value {
    const param = this.kernel.params[index];
    const type = param.kind === 'value' ? param.type : param.kind === 'tensor' ? 'ptr.global' : 'ptr.generic';
    return this.value('param', type, [], { index });
  }

  shared(name: string, bytes: number, align: number = 16): Value {
    const id = this.kernel.shared.length;
    this.kernel.shared.push({ id, name, bytes, align, element: 'b8' });
    return this.value('shared_address', 'ptr.shared', [], { id });
  }

  at(pointer: Value, index: Value | number, scale: number = 4): Value {
    if (typeof index === 'number') return this.value('ptr_add', pointer.type, [pointer], { bytes: index * scale });
    return this.value('ptr_add', pointer.type, [pointer, index], { scale });
  }

  load(pointer: Value, type: TypeName, attributes: Attributes = {}): Value {
    return this.loads(pointer, type, 1, attributes)[0];
  }

  loads(pointer: Value, type: TypeName, count: number, attributes: Attributes = {}): Value[] {
    const types = Array.from({ length: count }, () => type);
    return this.emit('load', { args: [pointer], types, attributes: { count, ...attributes } }).results;
  }

  store(pointer: Value, values: Value | readonly Value[], attributes: Attributes = {}): void {
    const list = 'id' in values ? [values] : values;
    this.emit('store', { args: [pointer, ...list], attributes: { count: list.length, ...attributes } });
  }

  slot(type: TypeName, name: string): Slot {
    this.here();
    return this.builder.slot(type, name);
  }

  get(slot: Slot): Value {
    this.here();
    return this.builder.value('get', slot.type, { slots: [slot] });
  }

  set(slot: Slot, value: Value): void {
    this.emit('set', { args: [value], slots: [slot] });
  }

  if(condition: Value, then: () => void, otherwise: () => void = () => {}): void {
    const node = this.emit('if', { args: [condition], regions: [[], []] });
    this.in(node, 0, then);
    this.in(node, 1, otherwise);
  }

  loop(label: string, body: () => void, latch: () => void = () => {}): void {
    const node = this.emit('loop', { attributes: { label }, regions: [[], []] });
    this.in(node, 0, body);
    this.in(node, 1, latch);
  }

  block(label: string, body: () => void): void {
    this.in(this.emit('block', { attributes: { label }, regions: [[]] }), 0, body);
  }

  private in(node: Node, region: number, write: () => void): void {
    this.builder.enter(node.regions[region]);
    write();
    this.builder.close();
  }

  compare(test: string, left: Value, right: Value | number): Value {
    const other = typeof right === 'number' ? this.constant(left.type, right) : right;
    return this.value('compare', 'pred', [left, other], { test });
  }

  barrier(attributes: Attributes = {}): void {
    this.emit('barrier', { attributes });
  }
}

export function tensor(
  name: string,
  element: TypeName,
  access: 'read' | 'write' | 'readwrite' = 'readwrite',
): KernelParameter {
  return { kind: 'tensor', name, element, align: 16, access };
}

/** For mistakes that the verifier sees too: what the simulator says where they get to it. */
export const UNVERIFIED: SimulatorOptions = { checks: { verify: false } };

/** Kinds of what was found. */
export function kinds(result: SimulatorResult): string[] {
  return result.findings.map(({ kind }: Finding) => kind);
}
