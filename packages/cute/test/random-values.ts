import type { Builder } from '../src/ir/builder.ts';
import type { Attributes, Value } from '../src/ir/ir.ts';
import type { TypeName } from '../src/types/dtype.ts';

/** What a random kernel knows how to pick. */
export type Pick = (type: 'i32' | 'u32' | 'f32' | 'bf16' | 'pred') => Value;

type Whole = 'i32' | 'u32';

/** Values of the families of operations that everyday kernels use less, from and to types that kernels store. */
export class RareValues {
  private readonly b: Builder;
  private readonly next: (below: number) => number;
  private readonly pick: Pick;

  constructor(builder: Builder, next: (below: number) => number, pick: Pick) {
    this.b = builder;
    this.next = next;
    this.pick = pick;
  }

  /** A new value of type i32, u32, f32 or pred. */
  make(): Value {
    const families = [
      () => this.unary(),
      () => this.fields(),
      () => this.bytes(),
      () => this.multiples(),
      () => this.long(),
      () => this.float(),
      () => this.double(),
      () => this.half(),
      () => this.pair(),
      () => this.eight(),
      () => this.rounded(),
      () => this.test(),
    ];
    return families[this.next(families.length)]();
  }

  private value(op: string, type: TypeName, args: readonly Value[], attributes: Attributes = {}): Value {
    return this.b.value(op, type, { args, attributes });
  }

  private one<T>(list: readonly T[]): T {
    return list[this.next(list.length)];
  }

  private number(type: TypeName, value: number): Value {
    return this.value('const', type, [], { value });
  }

  private whole(): Whole {
    return this.one(['i32', 'u32']);
  }

  private convert(value: Value, type: TypeName, attributes: Attributes = {}): Value {
    return this.value('convert', type, [value], attributes);
  }

  private unary(): Value {
    const type = this.whole();
    const op = this.one(['neg', 'abs', 'not', 'brev', 'popc', 'clz']);
    if (op === 'popc' || op === 'clz') return this.value(op, 'u32', [this.pick(type)]);
    return this.value(op, op === 'neg' || op === 'abs' ? 'i32' : type, [
      this.pick(op === 'neg' || op === 'abs' ? 'i32' : type),
    ]);
  }

  private fields(): Value {
    const type = this.whole();
    const [start, length] = [this.next(40), this.next(40)];
    if (this.next(2) === 0) {
      return this.value('bfe', type, [this.pick(type), this.number(type, start), this.number(type, length)]);
    }
    const places = [this.number('i32', start), this.number('i32', length)];
    return this.value('bfi', type, [this.pick(type), this.pick(type), ...places]);
  }

  private bytes(): Value {
    const type = this.whole();
    switch (this.next(4)) {
      case 0:
        return this.value('prmt', type, [this.pick(type), this.pick(type), this.number('u32', this.next(65536))]);
      case 1:
        return this.value('lop3', type, [this.pick(type), this.pick(type), this.pick(type)], { lut: this.next(256) });
      case 2: {
        const attributes = { direction: this.one(['l', 'r']), mode: this.one(['wrap', 'clamp']) };
        return this.value('shf', 'u32', [this.pick('u32'), this.pick('u32'), this.pick('u32')], attributes);
      }
      default: {
        const signs = type === 'i32' ? this.one(['ss', 'su', 'us']) : 'uu';
        return this.value('dp4a', type, [this.pick('u32'), this.pick('u32'), this.pick(type)], { signs });
      }
    }
  }

  private multiples(): Value {
    const type = this.whole();
    switch (this.next(3)) {
      case 0:
        return this.value('mad', type, [this.pick(type), this.pick(type), this.pick(type)]);
      case 1:
        return this.value('mulhi', type, [this.pick(type), this.pick(type)]);
      default: {
        const long = type === 'i32' ? 'i64' : 'u64';
        const product = this.value('mulwide', long, [this.pick(type), this.pick(type)]);
        return this.convert(this.value('shr', long, [product, this.number('u32', this.next(66))]), type);
      }
    }
  }

  private long(): Value {
    const type = this.whole();
    const long = type === 'i32' ? 'i64' : 'u64';
    const [a, b] = [this.convert(this.pick(type), long), this.convert(this.pick(type), long)];
    const op = this.one(['add', 'sub', 'mul', 'and', 'or', 'xor', 'min', 'max', 'div', 'rem', 'shl', 'less']);
    if (op === 'less') return this.value('compare', 'pred', [a, b], { test: this.one(['lt', 'ge', 'eq']) });
    if (op === 'shl') return this.convert(this.value(op, long, [a, this.number('u32', this.next(66))]), type);
    const right = op === 'div' || op === 'rem' ? this.number(long, this.one([1, 3, 8, 1000, 2 ** 33])) : b;
    const result = this.value(op, long, [a, right]);
    return this.next(3) === 0 ? this.convert(result, 'f32') : this.convert(result, type);
  }

  private float(): Value {
    const [a, b, c] = [this.pick('f32'), this.pick('f32'), this.pick('f32')];
    const op = this.one(['fma', 'neg', 'abs', 'min', 'max', 'div', 'sqrt', 'rcp', 'bits', 'select']);
    if (op === 'fma') return this.value(op, 'f32', [a, b, c]);
    if (op === 'min' || op === 'max') return this.value(op, 'f32', [a, b], this.next(2) === 0 ? { nan: true } : {});
    if (op === 'div') return this.value(op, 'f32', [a, b]);
    if (op === 'bits') return this.value('bitcast', 'u32', [this.value('abs', 'f32', [this.finite(a)])]);
    if (op === 'select') return this.value(op, 'f32', [this.pick('pred'), a, b]);
    return this.value(op, 'f32', [a]);
  }

  /** The payload of NaN is nobody's promise: where bits are looked at there is none. */
  private finite(a: Value): Value {
    const limit = this.number('f32', 1000);
    return this.value('min', 'f32', [this.value('max', 'f32', [a, this.number('f32', -1000)]), limit]);
  }

  private double(): Value {
    const [a, b] = [this.convert(this.pick('f32'), 'f64'), this.convert(this.pick('i32'), 'f64')];
    const op = this.one(['add', 'sub', 'mul', 'div', 'fma']);
    const result = this.value(op, 'f64', op === 'fma' ? [a, b, a] : [a, b]);
    return this.convert(result, 'f32');
  }

  private half(): Value {
    const type = this.one(['f16', 'bf16'] as const);
    const [a, b] = [this.convert(this.pick('f32'), type), this.convert(this.pick('f32'), type)];
    const op = this.one(['add', 'sub', 'mul', 'fma', 'min', 'max']);
    return this.convert(this.value(op, type, op === 'fma' ? [a, b, a] : [a, b]), 'f32');
  }

  private pair(): Value {
    const packed = this.one(['f16x2', 'bf16x2'] as const);
    const element = packed === 'f16x2' ? 'f16' : 'bf16';
    const word = this.value('convert', packed, [this.pick('f32'), this.pick('f32')]);
    const other = this.value('pack', packed, [
      this.convert(this.pick('f32'), element),
      this.convert(this.pick('f32'), element),
    ]);
    const result = this.value(this.one(['add', 'mul', 'sub']), packed, [word, other]);
    const halves = this.b.emit('unpack', { args: [result], types: [element, element] }).results;
    return this.convert(halves[this.next(2)], 'f32');
  }

  private eight(): Value {
    const type = this.one(['e4m3', 'e5m2'] as const);
    return this.convert(this.convert(this.pick('f32'), type), 'f32');
  }

  private rounded(): Value {
    const round = this.one(['rn', 'rz', 'rm', 'rp']);
    const type = this.whole();
    if (this.next(2) === 0) return this.convert(this.pick('f32'), type, { round });
    return this.convert(this.pick(type), 'f32', { round });
  }

  private test(): Value {
    const test = this.one(['equ', 'neu', 'ltu', 'leu', 'gtu', 'geu', 'num', 'nan']);
    return this.value('compare', 'pred', [this.pick('f32'), this.pick('f32')], { test });
  }
}
