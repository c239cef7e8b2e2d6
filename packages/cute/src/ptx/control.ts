import { numberOf, textOf } from '../ir/attributes.ts';
import type { Node } from '../ir/ir.ts';
import { isJump, type Emitter, type EmitNode } from './emitter.ts';

function branch(e: Emitter, node: Node): void {
  const [yes, no] = node.regions;
  const p = e.register(node.args[0]);
  if (yes.length === 1 && isJump(yes[0])) {
    e.line(`@${p} ${jumpText(e, yes[0])}`);
    return e.region(no);
  }
  if (yes.length === 0 && no.length === 1 && isJump(no[0])) return e.line(`@!${p} ${jumpText(e, no[0])}`);
  const end = e.label('endif');
  if (yes.length === 0) {
    if (no.length === 0) return;
    e.line(`@${p} bra ${end}`);
    e.region(no);
    return e.place(end);
  }
  const other = no.length === 0 ? end : e.label('else');
  e.line(`@!${p} bra ${other}`);
  e.region(yes);
  if (no.length > 0) {
    if (!isJump(yes[yes.length - 1])) e.line(`bra ${end}`);
    e.place(other);
    e.region(no);
  }
  e.place(end);
}

function jumpText(e: Emitter, node: Node): string {
  if (node.op === 'return') return 'ret';
  if (node.op === 'trap') return 'trap';
  return `bra ${e.targetOf(node)}`;
}

function loop(e: Emitter, node: Node): void {
  const [body, latch] = node.regions;
  const [head, next, exit] = [e.label('loop'), e.label('latch'), e.label('exit')];
  e.place(head);
  if (numberOf(node, 'unroll', 0) !== 0) e.line('.pragma "nounroll"');
  e.within(textOf(node, 'label'), { exit, next }, () => e.region(body));
  e.place(next);
  e.region(latch);
  e.line(`bra ${head}`);
  e.place(exit);
}

function block(e: Emitter, node: Node): void {
  const exit = e.label('end');
  e.within(textOf(node, 'label'), { exit, next: undefined }, () => e.region(node.regions[0]));
  e.place(exit);
}

const jump: EmitNode = (e, node) => e.line(jumpText(e, node));

export const CONTROL_EMITTERS: Readonly<Record<string, EmitNode>> = {
  if: branch,
  loop,
  block,
  break: jump,
  continue: jump,
  return: jump,
  trap: jump,
};
