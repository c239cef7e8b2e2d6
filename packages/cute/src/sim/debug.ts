import { textOf } from '../ir/attributes.ts';
import { TYPES } from '../types/dtype.ts';
import { decodeFloat } from '../types/numeric.ts';
import { firstLane } from './machine.ts';
import type { Handler } from './program.ts';
import { read, type Operand } from './registers.ts';

/** print, assert and trap. */

function shown(operand: Operand, value: number | bigint): string {
  switch (operand.type) {
    case 'pred':
      return value === 0 ? 'false' : 'true';
    case 'f16':
    case 'bf16':
    case 'e4m3':
    case 'e5m2':
      return String(decodeFloat(operand.type, value as number));
    default:
      if (TYPES[operand.type].kind === 'a' || TYPES[operand.type].kind === 'b') return `0x${value.toString(16)}`;
      if (TYPES[operand.type].kind === 'v')
        return `0x${BigInt.asUintN(TYPES[operand.type].bits, BigInt(value)).toString(16)}`;
      return String(value);
  }
}

const print: Handler = (node, program) => {
  const pieces = textOf(node, 'format').split('{}');
  const operands = node.args.map((value) => program.registers.of(value));
  return (warp) => {
    for (let lane = 0; lane < 32; lane++) {
      if (((warp.mask >>> lane) & 1) === 0) continue;
      const values = operands.map((operand) => shown(operand, read(warp, operand, lane)));
      warp.cta.cluster.machine.printed.push(pieces.map((piece, i) => `${piece}${values[i] ?? ''}`).join(''));
    }
  };
};

const assertion: Handler = (node, program) => {
  const { at } = program.registers.of(node.args[0]);
  const message = textOf(node, 'message', 'a device assertion failed');
  return (warp) => {
    for (let lane = 0; lane < 32; lane++) {
      if (((warp.mask >>> lane) & 1) === 0 || warp.n[at + lane] !== 0) continue;
      warp.report('assert', message, [warp.place('assert', lane)]);
      warp.cta.cluster.machine.findings.stopped = true;
      return;
    }
  };
};

export const DEBUG_HANDLERS: Readonly<Record<string, Handler>> = {
  print,
  assert: assertion,
  trap: () => (warp) => {
    warp.report('trap', 'a thread ended the grid', [warp.place('trap', firstLane(warp.mask))]);
    warp.cta.cluster.machine.findings.stopped = true;
  },
};
