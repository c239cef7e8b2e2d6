import { describe, isDevice, operand } from './convert.ts';
import { need, tracing } from './state.ts';

/**
 * Registers that several functions or rounds of a loop change: an object whose properties are read and assigned as
 * device values, `const state = mutable({ stage: i32(0) })`. Without a kernel around it, a plain object.
 */
export function mutable<T extends Readonly<Record<string, number | boolean>>>(
  fields: T,
): { -readonly [K in keyof T]: T[K] } {
  const trace = tracing();
  if (!trace) return { ...fields };
  const { builder } = trace;
  const out = {};
  for (const [name, given] of Object.entries(fields) as [string, unknown][]) {
    if (!isDevice(given))
      return trace.fail(`mutable.${name} starts with a device value, e.g. i32(0), not ${describe(given)}`);
    const slot = builder.slot(given.type, name);
    builder.emit('set', { args: [given], slots: [slot] });
    Object.defineProperty(out, name, {
      enumerable: true,
      get: () => need(name).builder.value('get', slot.type, { slots: [slot] }),
      set: (value: unknown) => {
        const now = need(name);
        const args = [operand(now, value, slot.type, `value of '${name}'`)];
        now.builder.emit('set', { args, slots: [slot] });
      },
    });
  }
  return out as { -readonly [K in keyof T]: T[K] };
}
