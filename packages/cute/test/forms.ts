import type { InstructionForm } from '../src/atoms/form.ts';
import { makeNode } from '../src/ir/builder.ts';
import type { KernelIR, Position, Value } from '../src/ir/ir.ts';
import { archOf } from '../src/ptx/arch.ts';
import { Emitter, type EmitNode } from '../src/ptx/emitter.ts';
import { EMITTERS } from '../src/ptx/emitters.ts';
import { classOf } from '../src/ptx/registers.ts';

const HERE: Position = { file: 'forms.ts', line: 1, column: 1 };

const TABLE: Readonly<Record<string, EmitNode>> = {
  ...EMITTERS,
  // Operands come from parameters; a predicate and 128 bits are made of one.
  param: (e, node) => {
    const [result] = node.results;
    const kind = classOf(result.type);
    const register = e.define(result);
    if (kind === 'p') return e.line(`setp.ne.u64 ${register}, ${word(e)}, 0`);
    if (kind === 'q') e.need(8.3);
    if (kind === 'q') return e.line(`mov.b128 ${register}, {${word(e)}, ${word(e)}}`);
    e.line(`ld.param.b${{ h: 16, r: 32, d: 64 }[kind]} ${register}, [p0]`);
  },
};

function word(e: Emitter): string {
  const register = e.temporary('d');
  e.line(`ld.param.b64 ${register}, [p0]`);
  return register;
}

/** An entry around one form, and the ISA version and lines that it takes. */
export function entryOf(
  form: InstructionForm,
  name: string,
  arch: string,
): { isa: number; text: string; code: string[] } {
  const kernel: KernelIR = { name, params: [], shared: [], body: [], threads: [128, 1, 1], values: 0, slotCount: 0 };
  const emitter = new Emitter(kernel, archOf(arch), TABLE);
  const args: Value[] = form.args.map((type) => {
    const node = makeNode(kernel, 'param', HERE, { types: [type], attributes: { index: 0 } });
    emitter.node(node);
    return node.results[0];
  });
  const slots = form.slots.map((type) => ({ id: kernel.slotCount++, type, name: 'sum' }));
  const before = emitter.code.length;
  const node = makeNode(kernel, form.op, HERE, { args, types: form.results, attributes: form.attributes, slots });
  emitter.node(node);
  // Registers that are taken apart only when somebody asks.
  for (const result of node.results) emitter.register(result);
  const code = emitter.code.slice(before).filter((line) => !line.startsWith('.loc'));
  const text = [
    `.visible .entry ${name}(.param .b64 p0) .reqntid 128`,
    '{',
    ...emitter.declarations(),
    ...emitter.prologue,
    ...emitter.code.filter((line) => !line.startsWith('.loc')),
    'ret;',
    '}',
  ].join('\n');
  return { isa: emitter.isa, text, code };
}
