import { choiceOf, flagOf } from '../ir/attributes.ts';
import type { Node, Value } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import type { Emitter, EmitNode } from './emitter.ts';
import { classOf, suffixOf } from './registers.ts';
import { widen } from './scalar.ts';

type Rounding = 'rn' | 'rz' | 'rm' | 'rp';
const ROUNDINGS = ['rn', 'rz', 'rm', 'rp'] as const;

function isEight(type: TypeName): type is 'e4m3' | 'e5m2' {
  return type === 'e4m3' || type === 'e5m2';
}

function convert(e: Emitter, node: Node): void {
  const to = node.results[0].type;
  const from = node.args[0].type;
  if (TYPES[to].kind === 'v' || TYPES[from].kind === 'v') return convertPacked(e, node);
  if (node.args.length !== 1) throw e.error(`convert to ${to} takes one value`);
  if (from === to && !node.attributes.saturate && !node.attributes.relu)
    return e.alias(node.results[0], e.register(node.args[0]));
  if (from === 'pred') return fromPredicate(e, node);
  if (to === 'pred') {
    const source = toFloat32Or(e, node.args[0]);
    return e.line(
      `setp.${source.type.startsWith('f') ? 'neu' : 'ne'}.${source.type} ${e.define(node.results[0])}, ${source.register}, ${zero(source.type)}`,
    );
  }
  if (TYPES[to].kind === 'f') return toFloat(e, node);
  if (TYPES[from].kind === 'f') return floatToInteger(e, node);
  integerToInteger(e, node);
}

function zero(type: string): string {
  return type === 'f32' ? '0f00000000' : type === 'f64' ? '0d0000000000000000' : '0';
}

/** A predicate as 1 or 0 of any type. */
function fromPredicate(e: Emitter, node: Node): void {
  const to = node.results[0].type;
  const p = e.register(node.args[0]);
  const result = e.define(node.results[0]);
  const ONES: Partial<Record<TypeName, string>> = {
    f16: '0x3c00',
    bf16: '0x3f80',
    e4m3: '0x38',
    e5m2: '0x3c',
    f32: '0x3f800000',
    tf32: '0x3f800000',
    f64: '0x3ff0000000000000',
  };
  const bits = { p: '', h: 'b16', r: 'b32', d: 'b64', q: '' }[classOf(to)];
  if (bits === '') throw e.error(`convert from pred to ${to} does not exist`);
  e.line(`selp.${bits} ${result}, ${ONES[to] ?? '1'}, 0, ${p}`);
}

/** Numbers of few bits as float32 and everything else as it is, with the type that PTX has for it. */
function toFloat32Or(e: Emitter, value: Value): { register: string; type: string } {
  const type = value.type;
  if (type === 'bf16') return { register: bf16ToFloat(e, value), type: 'f32' };
  if (type === 'f16') return { register: widen(e, e.register(value), 'f16'), type: 'f32' };
  if (isEight(type)) return { register: eightToFloat(e, value), type: 'f32' };
  if (type === 'i8' || type === 'u8') {
    const wide = e.temporary('h');
    e.line(`cvt.${type === 'i8' ? 's16.s8' : 'u16.u8'} ${wide}, ${e.register(value)}`);
    return { register: wide, type: type === 'i8' ? 's16' : 'u16' };
  }
  return { register: e.register(value), type: suffixOf(type) };
}

/** Exact, and one instruction also for a half of a register that was never taken apart. */
function bf16ToFloat(e: Emitter, value: Value): string {
  const part = e.part(value);
  if (part?.wordBits !== 32) return widen(e, e.register(value), 'bf16');
  const wide = e.temporary('r');
  e.line(part.index === 0 ? `shl.b32 ${wide}, ${part.word}, 16` : `and.b32 ${wide}, ${part.word}, 0xffff0000`);
  return wide;
}

/** An 8-bit float as f16 in the low half of a register. */
function eightToHalves(e: Emitter, value: Value): string {
  const type = value.type;
  e.need(e.arch.capability === 89 ? 8.1 : 7.8, 'sm_89', `converting ${type}`);
  const halves = e.temporary('r');
  e.line(`cvt.rn.f16x2.${type}x2 ${halves}, ${e.register(value)}`);
  return halves;
}

function lowHalf(e: Emitter, word: string, result: string): void {
  e.line(`cvt.u16.u32 ${result}, ${word}`);
}

function eightToFloat(e: Emitter, value: Value): string {
  const half = e.temporary('h');
  lowHalf(e, eightToHalves(e, value), half);
  return widen(e, half, 'f16');
}

function toFloat(e: Emitter, node: Node): void {
  const [value] = node.args;
  const result = node.results[0];
  const to = result.type;
  const from = value.type;
  const rounding = choiceOf<Rounding>(node, 'round', ROUNDINGS, 'rn');
  const relu = flagOf(node, 'relu');
  const saturate = flagOf(node, 'saturate');
  const integer = TYPES[from].kind === 'i' || TYPES[from].kind === 'u';
  if (TYPES[from].kind === 'b' || TYPES[to].kind === 'b')
    throw e.error(`convert from ${from} to ${to} does not exist: bitcast`);
  if (isEight(to)) return toEight(e, node, integer ? integerToFloat(e, value) : toFloat32(e, value));
  if (integer) {
    if (relu || saturate) throw e.error(`convert from ${from} to ${to} has neither relu nor saturate`);
    if (to === 'tf32') throw e.error('convert to f32 first, then to tf32');
    if (to === 'bf16') e.need(7.8, 'sm_90', 'converting integers to bf16');
    const source = to === 'bf16' ? toFloat32Or(e, value) : { register: e.register(value), type: suffixOf(from) };
    return e.line(`cvt.${rounding}.${to}.${source.type} ${e.define(result)}, ${source.register}`);
  }
  if (to === 'f16' && isEight(from) && !relu) return lowHalf(e, eightToHalves(e, value), e.define(result));
  if (to === 'f64') {
    if (from === 'f16') return e.line(`cvt.f64.f16 ${e.define(result)}, ${e.register(value)}`);
    return e.line(`cvt.f64.f32 ${e.define(result)}, ${toFloat32(e, value)}`);
  }
  if (from === 'f64') {
    if (to === 'tf32') throw e.error('convert to f32 first, then to tf32');
    if (to === 'bf16') e.need(7.8, 'sm_90', 'converting f64 to bf16');
    return e.line(`cvt.${rounding}${saturate ? '.sat' : ''}.${to}.f64 ${e.define(result)}, ${e.register(value)}`);
  }
  const source = toFloat32(e, value);
  if (to === 'f32') {
    if (saturate) return e.line(`cvt.sat.f32.f32 ${e.define(result)}, ${source}`);
    if (relu) return e.line(`max.f32 ${e.define(result)}, ${source}, 0f00000000`);
    return e.alias(result, source);
  }
  if (to === 'tf32') e.need(7.8, 'sm_90', 'rounding to tf32');
  if (to === 'f16' && (rounding === 'rm' || rounding === 'rp') && (relu || saturate))
    throw e.error(`convert to ${to} rounds ${rounding} only without relu and saturate`);
  if (saturate) e.need(8.1, to === 'tf32' ? 'sm_100' : 'sm_89', `saturating to ${to}`);
  e.line(
    `cvt.${rounding}${saturate ? '.satfinite' : ''}${relu ? '.relu' : ''}.${to}.f32 ${e.define(result)}, ${source}`,
  );
}

/** A register with the value as float32; exact for all floats but f64. */
function toFloat32(e: Emitter, value: Value): string {
  if (value.type === 'f64') {
    const single = e.temporary('r');
    e.line(`cvt.rn.f32.f64 ${single}, ${e.register(value)}`);
    return single;
  }
  return toFloat32Or(e, value).register;
}

function integerToFloat(e: Emitter, value: Value): string {
  const single = e.temporary('r');
  e.line(`cvt.rn.f32.${suffixOf(value.type)} ${single}, ${e.register(value)}`);
  return single;
}

/** The instruction makes pairs only: the upper one is zero here. */
function toEight(e: Emitter, node: Node, source: string): void {
  const to = node.results[0].type;
  if (choiceOf<Rounding>(node, 'round', ROUNDINGS, 'rn') !== 'rn') throw e.error(`convert to ${to} rounds to nearest`);
  e.need(e.arch.capability === 89 ? 8.1 : 7.8, 'sm_89', `converting to ${to}`);
  const relu = flagOf(node, 'relu') ? '.relu' : '';
  e.line(`cvt.rn.satfinite${relu}.${to}x2.f32 ${e.define(node.results[0])}, 0f00000000, ${source}`);
}

function floatToInteger(e: Emitter, node: Node): void {
  const [value] = node.args;
  const to = node.results[0].type;
  const rounding = choiceOf<Rounding>(node, 'round', ROUNDINGS, 'rz');
  if (TYPES[to].kind !== 'i' && TYPES[to].kind !== 'u')
    throw e.error(`convert from ${value.type} to ${to} does not exist: bitcast`);
  const source = value.type === 'f16' ? { register: e.register(value), type: 'f16' } : toFloat32Or(e, value);
  e.line(`cvt.${rounding}i.${suffixOf(to)}.${source.type} ${e.define(node.results[0])}, ${source.register}`);
}

function integerToInteger(e: Emitter, node: Node): void {
  const [value] = node.args;
  const result = node.results[0];
  const from = TYPES[value.type];
  const to = TYPES[result.type];
  if (flagOf(node, 'saturate')) {
    return e.line(`cvt.sat.${suffixOf(result.type)}.${suffixOf(value.type)} ${e.define(result)}, ${e.register(value)}`);
  }
  if (classOf(value.type) === classOf(result.type) && to.bits <= from.bits) return e.alias(result, e.register(value));
  if (to.bits > from.bits) {
    const suffix = from.kind === 'b' ? `u${from.bits}` : suffixOf(value.type);
    const wide = from.kind === 'i' ? `s${to.bits}` : `u${to.bits}`;
    return e.line(`cvt.${wide}.${suffix} ${e.define(result)}, ${e.register(value)}`);
  }
  e.line(`cvt.u${Math.max(16, to.bits)}.u${from.bits} ${e.define(result)}, ${e.register(value)}`);
}

/** Pairs: two floats to one register, or an 8-bit pair to f16x2 and back. */
function convertPacked(e: Emitter, node: Node): void {
  const to = node.results[0].type;
  const from = node.args[0].type;
  const rounding = choiceOf<Rounding>(node, 'round', ROUNDINGS, 'rn');
  const relu = flagOf(node, 'relu') ? '.relu' : '';
  const result = node.results[0];
  const eight = TYPES[to].element === 'e4m3' || TYPES[to].element === 'e5m2';
  if (eight || from === 'e4m3x2' || from === 'e5m2x2') {
    e.need(e.arch.capability === 89 ? 8.1 : 7.8, 'sm_89', `converting ${from} to ${to}`);
  }
  if (to === 'f16x2' && (from === 'e4m3x2' || from === 'e5m2x2')) {
    return e.line(`cvt.rn${relu}.f16x2.${from} ${e.define(result)}, ${e.register(node.args[0])}`);
  }
  if (eight && TYPES[to].lanes === 2 && from === 'f16x2') {
    return e.line(`cvt.rn.satfinite${relu}.${to}.f16x2 ${e.define(result)}, ${e.register(node.args[0])}`);
  }
  if (from === 'f32' && node.args.length === TYPES[to].lanes) {
    const sources = node.args.map((value) => e.use(value));
    if (to === 'f16x2' || to === 'bf16x2') {
      if (rounding !== 'rn' && rounding !== 'rz') throw e.error(`convert to ${to} rounds rn or rz`);
      const saturate = flagOf(node, 'saturate') ? '.satfinite' : '';
      if (saturate !== '') e.need(8.1, 'sm_89', `saturating to ${to}`);
      return e.line(`cvt.${rounding}${saturate}${relu}.${to}.f32 ${e.define(result)}, ${sources[1]}, ${sources[0]}`);
    }
    if (eight) {
      const pairs: string[] = [];
      for (let i = 0; i < sources.length; i += 2) {
        const pair = sources.length === 2 ? e.define(result) : e.temporary('h');
        e.line(`cvt.rn.satfinite${relu}.${TYPES[to].element}x2.f32 ${pair}, ${sources[i + 1]}, ${sources[i]}`);
        pairs.push(pair);
      }
      if (pairs.length === 2) e.line(`mov.b32 ${e.define(result)}, {${pairs.join(', ')}}`);
      return;
    }
  }
  throw e.error(`convert from ${node.args.map((value) => value.type).join(', ')} to ${to} does not exist`);
}

function bitcast(e: Emitter, node: Node): void {
  const [value] = node.args;
  const [result] = node.results;
  if (TYPES[value.type].bits !== TYPES[result.type].bits)
    throw e.error(`bitcast from ${value.type} to ${result.type}: the widths differ`);
  e.alias(result, e.register(value), e.part(value));
}

export const CONVERT_EMITTERS: Readonly<Record<string, EmitNode>> = {
  convert,
  bitcast,
  pack: (e, node) => e.alias(node.results[0], e.join(node.args, TYPES[node.results[0].type].bits)),
  unpack: (e, node) => e.split(node.results, e.register(node.args[0]), TYPES[node.args[0].type].bits),
};
