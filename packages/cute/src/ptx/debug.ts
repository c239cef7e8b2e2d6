import { numberOf, textOf } from '../ir/attributes.ts';
import type { Node, Value } from '../ir/ir.ts';
import type { Needs } from '../ir/op-info.ts';
import { TYPES } from '../types/dtype.ts';
import type { Emitter, EmitNode } from './emitter.ts';
import { RING_PARAM } from './params.ts';
import { RECORD_HEADER_WORDS, RING_HEADER_WORDS, wordsOf, type PrintSite } from './ring.ts';

/** Writes a record into the buffer of the host; ring.ts says how it looks. */
function record(e: Emitter, site: PrintSite, values: readonly Value[]): void {
  const index = e.sites.push(site) - 1;
  const ring = e.once('ring', 'd', (d) => `ld.param.u64 ${d}, [${RING_PARAM}]`);
  const words = RECORD_HEADER_WORDS + site.types.reduce((sum, type) => sum + wordsOf(type), 0);
  const [at, end, capacity] = [e.temporary('r'), e.temporary('r'), e.temporary('r')];
  const full = e.temporary('p');
  const address = e.temporary('d');
  const skip = e.label('printed');
  // A buffer that is full stays so: looking first keeps the count from wrapping around.
  e.line(`ld.relaxed.sys.b32 ${at}, [${ring}]`);
  e.line(`ld.b32 ${capacity}, [${ring}+4]`);
  e.line(`setp.gt.u32 ${full}, ${at}, ${capacity}`);
  e.line(`@${full} bra ${skip}`);
  e.line(`atom.relaxed.sys.add.u32 ${at}, [${ring}], ${words}`);
  e.line(`add.u32 ${end}, ${at}, ${words}`);
  e.line(`setp.gt.u32 ${full}, ${end}, ${capacity}`);
  e.line(`@${full} bra ${skip}`);
  e.line(`mad.wide.u32 ${address}, ${at}, 4, ${ring}`);
  const base = 4 * RING_HEADER_WORDS;
  for (const [i, axis] of ['x', 'y', 'z'].entries()) {
    const block = e.temporary('r');
    e.line(`mov.u32 ${block}, %ctaid.${axis}`);
    e.line(`st.b32 [${address}+${base + 4 * (1 + i)}], ${block}`);
  }
  e.line(`st.b32 [${address}+${base + 16}], ${threadWord(e)}`);
  let offset = base + 4 * RECORD_HEADER_WORDS;
  for (const value of values) {
    for (const word of wordsIn(e, value)) {
      e.line(`st.b32 [${address}+${offset}], ${word}`);
      offset += 4;
    }
  }
  const mark = e.temporary('r');
  e.line(`mov.b32 ${mark}, ${index + 1}`);
  e.line(`st.release.sys.b32 [${address}+${base}], ${mark}`);
  e.place(skip);
}

function threadWord(e: Emitter): string {
  const [x, y, z] = ['x', 'y', 'z'].map((axis) => {
    const id = e.temporary('r');
    e.line(`mov.u32 ${id}, %tid.${axis}`);
    return id;
  });
  const word = e.temporary('r');
  e.line(`mad.lo.u32 ${word}, ${y}, 1024, ${x}`);
  e.line(`mad.lo.u32 ${word}, ${z}, 1048576, ${word}`);
  return word;
}

/** A value as the bits of one word or two. */
function wordsIn(e: Emitter, value: Value): string[] {
  const bits = TYPES[value.type].bits;
  if (bits === 128) throw e.error('128 bits are not printed: unpack them');
  const register = e.register(value);
  if (bits === 32) return [register];
  if (bits === 64) {
    const halves = [e.temporary('r'), e.temporary('r')];
    e.line(`mov.b64 {${halves.join(', ')}}, ${register}`);
    return halves;
  }
  const word = e.temporary('r');
  if (bits === 1) e.line(`selp.b32 ${word}, 1, 0, ${register}`);
  else e.line(`cvt.u32.u${bits} ${word}, ${register}`);
  return [word];
}

function print(e: Emitter, node: Node): void {
  const format = textOf(node, 'format');
  const holes = format.split('{}').length - 1;
  if (holes !== node.args.length) {
    throw e.error(`print: the format ${JSON.stringify(format)} has ${holes} {} for ${node.args.length} values`);
  }
  const types = node.args.map((value) => value.type);
  record(e, { kind: 'print', format, types, position: node.position }, node.args);
}

function assertion(e: Emitter, node: Node): void {
  const holds = e.label('holds');
  e.line(`@${e.register(node.args[0])} bra ${holds}`);
  record(e, { kind: 'assert', format: textOf(node, 'message', ''), types: [], position: node.position }, []);
  e.line('fence.sc.sys');
  e.line('trap');
  e.place(holds);
}

/** PTX as it is, with registers for `$0`, `$1`: results first, then operands. */
function inline(e: Emitter, node: Node): void {
  if (node.attributes.isa !== undefined || node.attributes.target !== undefined) {
    e.need(numberOf(node, 'isa', 7), textOf(node, 'target', 'sm_80') as Needs['target'], 'asm');
  }
  const operands = node.args.map((value) => e.register(value));
  const registers = [...node.results.map((value) => e.define(value)), ...operands];
  const text = textOf(node, 'template').replaceAll(/\$(\d+)/g, (hole, digits: string) => {
    const register = registers[Number(digits)];
    if (register === undefined) throw e.error(`asm: ${hole} is beyond the ${registers.length} operands`);
    return register;
  });
  for (const line of text.split('\n')) {
    const trimmed = line.trim();
    if (trimmed !== '') e.code.push(/[;{}:]$/.test(trimmed) ? `  ${trimmed}` : `  ${trimmed};`);
  }
}

export const DEBUG_EMITTERS: Readonly<Record<string, EmitNode>> = { print, assert: assertion, asm: inline };
