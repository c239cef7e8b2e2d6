import { Bindings, type Binding } from './bindings.ts';
import { childrenOf, TransformError, type AnyNode } from './syntax.ts';

/** A statement that `break` or `continue` may name: the label of the JavaScript loop and the variable with its state. */
export interface Target {
  readonly label: string;
  readonly state: string;
  readonly kind: 'loop' | 'switch' | 'block';
}

/** Where in a function the rewriter is. */
export interface Context {
  /** Label of the innermost JavaScript loop that stands for a statement; absent at a function's top level. */
  readonly inner?: string;
  readonly loop?: Target;
  /** The innermost loop or switch. */
  readonly breakable?: Target;
  readonly labels: ReadonlyMap<string, Target>;
  /** Names that the next loop, switch or block has. */
  readonly pending: readonly string[];
  /** Variables that go by another name here: those of a pattern, before they become cells. */
  readonly renamed: ReadonlyMap<Binding, string>;
  /** Inside the default value of a parameter, where parameters are not cells yet. */
  readonly parameters?: boolean;
}

export const OUTSIDE: Context = { labels: new Map(), pending: [], renamed: new Map() };

/** One file that is rewritten. What is written keeps every line break of the text that it stands for. */
export class Unit {
  /** The text without types; every character is where it was. */
  readonly source: string;
  readonly file: string;
  /** Name of the tracing runtime in the file, and how names that the rewriter makes begin. */
  readonly prefix: string;
  readonly bindings: Bindings = new Bindings();
  /** A node inside a marked function, rewritten. */
  readonly rewrite: (node: AnyNode, context: Context) => string;
  private made = 0;

  constructor(
    source: string,
    file: string,
    prefix: string,
    rewrite: (unit: Unit, node: AnyNode, context: Context) => string | undefined,
  ) {
    this.rewrite = (node, context) => rewrite(this, node, context) ?? this.copy(node, context);
    this.source = source;
    this.file = file;
    this.prefix = prefix;
  }

  text(start: number, end: number): string {
    return this.source.slice(start, end);
  }

  /** The line breaks between two places. */
  gap(start: number, end: number): string {
    return this.source.slice(start, end).replace(/[^\n]/g, '');
  }

  /** Line and column of a node as one number; the runtime takes it apart again. */
  at(node: AnyNode): number {
    const { line, column } = this.place(node);
    return line * 4096 + Math.min(column, 4095);
  }

  place(node: AnyNode): { line: number; column: number } {
    if (!node.loc) throw new RangeError('the parser gave no locations');
    return node.loc.start;
  }

  name(): string {
    return `${this.prefix}${++this.made}`;
  }

  call(method: string, ...parts: (string | number)[]): string {
    return `${this.prefix}.${method}(${parts.join(', ')})`;
  }

  /** A node as it stands, with what is inside it rewritten. */
  copy(node: AnyNode, context: Context): string {
    let out = '';
    let at = node.start;
    for (const child of childrenOf(node)) {
      out += this.text(at, child.start) + this.rewrite(child, context);
      at = child.end;
    }
    return out + this.text(at, node.end);
  }

  refuse(node: AnyNode, what: string, fix: string): never {
    const { line, column } = this.place(node);
    throw new TransformError(`${what} in a 'use gpu' function: ${fix}`, this.file, line, column + 1);
  }
}
