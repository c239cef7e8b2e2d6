import { isType, type TypeName } from '../types/dtype.ts';
import { makeNode } from './builder.ts';
import { KernelError } from './error.ts';
import type {
  Attribute,
  KernelIR,
  KernelParameter,
  Node,
  Position,
  Region,
  SharedAllocation,
  Slot,
  Value,
} from './ir.ts';

/**
 * Reads a kernel that `printKernel` wrote, or that somebody wrote by hand.
 *
 * @param file name of the text, for messages.
 * @throws KernelError with the line that is not understood.
 */
export function parseKernel(text: string, file = 'kernel'): KernelIR {
  return new Parser(text, file).kernel();
}

/** A string, a number or a word (with dots), or a sign; `%`, `$` and `@` begin numbers of values, slots, positions. */
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|-?[A-Za-z_][\w.]*|[%$@(){}[\],:=/]/y;
const SPACE = /(?:\s|#[^\n]*)*/y;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

class Parser {
  private readonly text: string;
  private readonly file: string;
  private at = 0;
  private token = '';
  private tokenAt = 0;
  private readonly values = new Map<number, Value>();
  private readonly slots = new Map<number, Slot>();
  private readonly positions = new Map<number, Position>();
  private readonly result: Mutable<KernelIR>;

  constructor(text: string, file: string) {
    this.text = text;
    this.file = file;
    this.result = { name: '', params: [], shared: [], body: [], threads: [1, 1, 1], values: 0, slotCount: 0 };
    this.next();
  }

  kernel(): KernelIR {
    const { result } = this;
    this.expect('kernel');
    result.name = this.string();
    result.threads = this.triple();
    let numbers: [number, number] | undefined;
    for (;;) {
      const word = this.take();
      if (word === 'cluster') result.cluster = this.triple();
      else if (word === 'min_blocks') result.minBlocks = this.number();
      else if (word === 'max_registers') result.maxRegisters = this.number();
      else if (word === 'overlaps_previous') result.overlapsPrevious = this.take() === 'true';
      else if (word === 'numbers') numbers = [this.number(), this.number()];
      else if (word === 'param') result.params.push(this.parameter());
      else if (word === 'shared') result.shared.push(this.allocation());
      else if (word === 'slot') this.slot();
      else if (word === 'at') this.position();
      else if (word === 'body') break;
      else throw this.error(`${JSON.stringify(word)} is no part of a kernel's head`);
    }
    result.body = this.region();
    if (this.token !== '') throw this.error('the text goes on after the end of the kernel');
    if (numbers) [result.values, result.slotCount] = numbers;
    return result;
  }

  private parameter(): KernelParameter {
    const kind = this.take();
    const name = this.string();
    if (kind === 'tensormap') {
      if (this.token !== 'box') return { kind, name };
      this.expect('box');
      return { kind, name, boxBytes: this.number() };
    }
    if (kind === 'value') return { kind, name, type: this.type() };
    if (kind !== 'tensor') throw this.error(`${JSON.stringify(kind)} is no kind of parameter`);
    const element = this.type();
    this.expect('align');
    const align = this.number();
    const access = this.take();
    if (access !== 'read' && access !== 'write' && access !== 'readwrite')
      throw this.error('read, write or readwrite is missing');
    return { kind, name, element, align, access };
  }

  private allocation(): SharedAllocation {
    const id = this.number();
    const name = this.string();
    const element = this.type();
    this.expect('bytes');
    const bytes = this.number();
    this.expect('align');
    const align = this.number();
    if (this.token !== 'offset') return { id, name, bytes, align, element };
    this.next();
    return { id, name, bytes, align, element, offset: this.number() };
  }

  private slot(): void {
    const id = this.numbered('$');
    const type = this.type();
    this.slots.set(id, { id, type, name: this.string() });
    this.result.slotCount = Math.max(this.result.slotCount, id + 1);
  }

  private position(): void {
    const id = this.numbered('@');
    const position: Mutable<Position> = { file: this.string(), line: this.number(), column: this.number() };
    if (this.token.startsWith('"')) position.name = this.string();
    if (this.token === 'in') {
      this.next();
      position.inlinedAt = this.known(this.positions, '@');
    }
    this.positions.set(id, position);
  }

  private region(): Region {
    this.expect('{');
    const nodes: Region = [];
    while (this.token !== '}') nodes.push(this.node());
    this.next();
    return nodes;
  }

  private node(): Node {
    const start = this.tokenAt;
    const results: { id: number; divisor: number; type: TypeName }[] = [];
    while (this.token === '%') {
      const id = this.numbered('%');
      const divisor = this.skip('/') ? this.number() : 1;
      this.expect(':');
      results.push({ id, divisor, type: this.type() });
      if (!this.skip(',')) this.expect('=');
    }
    const op = this.take();
    this.expect('(');
    const args = this.list(')', () => this.known(this.values, '%'));
    const attributes: Record<string, Attribute> = {};
    if (this.skip('{')) {
      this.list('}', () => {
        const name = this.take();
        this.expect(':');
        attributes[name] = this.attribute();
      });
    }
    const slots = this.skip('[') ? this.list(']', () => this.known(this.slots, '$')) : [];
    const position = this.token === '@' ? this.known(this.positions, '@') : this.here(start);
    const node = makeNode(this.result, op, position, {
      args,
      attributes,
      slots,
      types: results.map(({ type }) => type),
    });
    for (const [i, { id, divisor }] of results.entries()) this.define(node.results[i], id, divisor);
    while (/^[a-z]/.test(this.token) && this.ahead() === '{') {
      this.next();
      node.regions.push(this.region());
    }
    return node;
  }

  private define(value: Value, id: number, divisor: number): void {
    if (this.values.has(id)) throw this.error(`%${id} is computed twice`);
    const own = value as Mutable<Value>;
    own.id = id;
    value.divisor = divisor;
    this.values.set(id, value);
    this.result.values = Math.max(this.result.values, id + 1);
  }

  private attribute(): Attribute {
    if (this.skip('[')) return this.list(']', () => this.attribute());
    const token = this.take();
    if (token.startsWith('"')) return JSON.parse(token) as string;
    if (token === 'true' || token === 'false') return token === 'true';
    if (token === 'nan') return Number.NaN;
    if (token === 'inf' || token === '-inf') return token === 'inf' ? Infinity : -Infinity;
    if (/^-?\d/.test(token)) return Number(token);
    throw this.error(`${JSON.stringify(token)} is no attribute`);
  }

  private list<T>(end: string, item: () => T): T[] {
    const items: T[] = [];
    while (!this.skip(end)) {
      items.push(item());
      if (this.token !== end) this.expect(',');
    }
    return items;
  }

  private triple(): [number, number, number] {
    this.expect('(');
    const [x, y, z] = this.list(')', () => this.number());
    if (z === undefined) throw this.error('three numbers are missing');
    return [x, y, z];
  }

  private known<T>(table: ReadonlyMap<number, T>, sign: string): T {
    const id = this.numbered(sign);
    const item = table.get(id);
    if (item === undefined) throw this.error(`${sign}${id} is not there before its use`);
    return item;
  }

  private numbered(sign: string): number {
    this.expect(sign);
    return this.number();
  }

  private number(): number {
    const token = this.take();
    if (!/^-?\d/.test(token)) throw this.error(`a number is missing before ${JSON.stringify(token)}`);
    return Number(token);
  }

  private string(): string {
    const token = this.take();
    if (!token.startsWith('"')) throw this.error(`a quoted text is missing before ${JSON.stringify(token)}`);
    return JSON.parse(token) as string;
  }

  private type(): TypeName {
    const token = this.take();
    if (!isType(token)) throw this.error(`${JSON.stringify(token)} is no type`);
    return token;
  }

  private expect(token: string): void {
    if (this.token !== token)
      throw this.error(`${JSON.stringify(token)} is missing before ${JSON.stringify(this.token)}`);
    this.next();
  }

  private skip(token: string): boolean {
    if (this.token !== token) return false;
    this.next();
    return true;
  }

  private take(): string {
    const token = this.token;
    this.next();
    return token;
  }

  private ahead(): string {
    SPACE.lastIndex = this.at;
    SPACE.test(this.text);
    return this.text[SPACE.lastIndex] ?? '';
  }

  private next(): void {
    SPACE.lastIndex = this.at;
    SPACE.test(this.text);
    this.tokenAt = SPACE.lastIndex;
    TOKEN.lastIndex = this.tokenAt;
    const match = TOKEN.exec(this.text);
    if (!match && this.tokenAt < this.text.length)
      throw this.error(`${JSON.stringify(this.text[this.tokenAt])} is no part of the language`);
    this.token = match?.[0] ?? '';
    this.at = this.tokenAt + this.token.length;
  }

  private lineOf(at: number): number {
    let line = 1;
    for (let i = this.text.indexOf('\n'); i >= 0 && i < at; i = this.text.indexOf('\n', i + 1)) line++;
    return line;
  }

  private here(at: number): Position {
    return { file: this.file, line: this.lineOf(at), column: 1 };
  }

  private error(message: string): KernelError {
    return new KernelError(message, this.here(this.tokenAt));
  }
}
