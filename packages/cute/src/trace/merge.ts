import { makeNode } from '../ir/builder.ts';
import type { Node, Slot, Value } from '../ir/ir.ts';
import type { TypeName } from '../types/dtype.ts';
import { commonType, constantNode, convert, describe, isConstant, isDevice, operand } from './convert.ts';
import { Fragment } from './fragment.ts';
import type { Departure, Trace } from './state.ts';

/**
 * One value from several ways to get to a place: a register slot that each way writes before it leaves. `declare` puts
 * nodes before all of them; the result is read where the trace is now.
 */
export function merge(
  trace: Trace,
  ways: readonly Departure[],
  declare: (nodes: readonly Node[]) => void,
  name: string,
): unknown {
  const [first] = ways;
  if (ways.every((way) => Object.is(way.value, first.value))) return first.value;
  if (ways.every((way) => way.value instanceof Fragment)) {
    const fragments = ways.map((way) => (way.value as Fragment<unknown>).values());
    if (fragments.some((values) => values.length !== fragments[0].length)) {
      trace.fail(
        `${name} is a fragment of ${fragments.map((values) => values.length).join(' or ')} elements: make them equally long`,
      );
    }
    const parts = fragments[0].map((_value, i) =>
      merge(
        trace,
        each(
          ways,
          fragments.map((values) => values[i]),
        ),
        declare,
        name,
      ),
    );
    return new Fragment(parts, parts.find((part) => isDevice(part))?.type ?? 'f32');
  }
  if (ways.every((way) => isDevice(way.value) || isConstant(way.value)))
    return mergeScalars(trace, ways, declare, name);
  if (ways.every((way) => Array.isArray(way.value))) {
    const arrays = ways.map((way) => way.value as unknown[]);
    if (arrays.every((array) => array.length === arrays[0].length)) {
      return arrays[0].map((_value, i) =>
        merge(
          trace,
          each(
            ways,
            arrays.map((array) => array[i]),
          ),
          declare,
          name,
        ),
      );
    }
  }
  if (ways.every((way) => isPlain(way.value))) {
    const objects = ways.map((way) => way.value as Record<string, unknown>);
    const keys = Object.keys(objects[0]);
    if (objects.every((object) => Object.keys(object).join() === keys.join())) {
      return Object.fromEntries(
        keys.map((key) => [
          key,
          merge(
            trace,
            each(
              ways,
              objects.map((object) => object[key]),
            ),
            declare,
            name,
          ),
        ]),
      );
    }
  }
  const found = [...new Set(ways.map((way) => describe(way.value)))].join(' or ');
  return trace.fail(
    `${name} depends on a run-time condition and is ${found}: only numbers, fragments of one length, and arrays or objects ` +
      'of them can; decide at compile time, or store in both branches',
  );
}

function each(ways: readonly Departure[], values: readonly unknown[]): Departure[] {
  return ways.map((way, i) => ({ ...way, value: values[i] }));
}

function isPlain(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

function mergeScalars(
  trace: Trace,
  ways: readonly Departure[],
  declare: (nodes: readonly Node[]) => void,
  name: string,
): Value {
  const type = typeOfAll(
    trace,
    ways.map((way) => way.value),
  );
  const slot: Slot = { id: trace.kernel.slotCount++, type, name };
  declare([makeNode(trace.kernel, 'slot', trace.builder.position, { slots: [slot] })]);
  for (const { region, jump, value } of ways) {
    const nodes: Node[] = [];
    if (isConstant(value)) {
      const node = constantNode(trace, value, type);
      nodes.push(node, makeNode(trace.kernel, 'set', node.position, { args: node.results, slots: [slot] }));
    } else {
      trace.builder.enter(nodes);
      const args = [convert(value, type)];
      trace.builder.emit('set', { args, slots: [slot] });
      trace.builder.close();
    }
    region.splice(jump ? region.indexOf(jump) : region.length, 0, ...nodes);
  }
  return trace.builder.value('get', type, { slots: [slot] });
}

/** The type of one of several values: what device values have in common; numbers alone are i32 or f32. */
export function typeOfAll(trace: Trace, values: readonly unknown[]): TypeName {
  const types = [...new Set(values.filter(isDevice).map((value) => value.type))];
  if (types.length === 1) return types[0];
  if (types.length > 1) return types.reduce((a, b) => commonType(trace, 'or', a, b));
  if (values.every((value) => typeof value === 'boolean')) return 'pred';
  return values.every((value) => Number.isInteger(value)) ? 'i32' : 'f32';
}

/** Both values as one type, where they are computed anyway. */
export function unify(trace: Trace, a: unknown, b: unknown): [Value, Value] {
  const type = typeOfAll(trace, [a, b]);
  return [operand(trace, a, type), operand(trace, b, type)];
}
