import { anyOf, choice, EMPTY, NOTHING, repeat, rule, sequence, type Expression } from './expression.ts';
import { FORMATS } from './formats.ts';
import { arrayOf, between, constant, member, quoted, stringOf } from './json.ts';
import { keyBesides, keyNamed } from './keys.ts';
import { integersWithin, LARGEST, numbersWithin, type Bound } from './numbers.ts';
import { inString, readPattern, type Pattern } from './pattern.ts';
import { typeOf, typesOf, type JsonType, type Node, type Schema } from './schema-node.ts';
import { SchemaReader } from './schema-reader.ts';

/**
 * Writes the grammar of the JSON texts that a schema allows. Every text of the grammar is valid; not every valid text is
 * one of the grammar: properties come in the order in which the schema names them, others only where
 * `additionalProperties` says so (or there are no `properties`), white space is short, numbers have 15 digits at most.
 * @throws RoseError `invalid` naming a keyword that cannot be kept, and where it is
 */
export class SchemaWriter {
  readonly #reader: SchemaReader;
  readonly #rules: Map<string, Expression>;
  readonly #param: string;
  /** Names of the rules for schemas that are referred to. */
  readonly #references = new Map<string, string>();
  readonly #prefix: string;

  /** @param rules where the schema's rules go; names of those of one writer begin with `prefix` */
  constructor(schema: Schema, param: string, rules: Map<string, Expression>, prefix: string) {
    this.#reader = new SchemaReader(schema, param);
    this.#reader.checkNesting();
    this.#param = param;
    this.#rules = rules;
    this.#prefix = prefix;
  }

  write(schema: Schema, path = '#'): Expression {
    return choice(...this.#reader.alternatives(schema, path).map((node) => this.#node(node, path)));
  }

  #node(node: Node, path: string): Expression {
    if (node.reference !== undefined) return this.#reference(node.reference, path);
    if (node.values !== undefined) {
      return anyOf(node.values.filter((value) => this.#fits(node, value, path)).map(constant));
    }
    if (Object.keys(node).length === 0) return rule('value');
    const types = [...typesOf(node)];
    // Whole numbers are numbers already.
    const kept = types.filter((type) => type !== 'integer' || !types.includes('number'));
    return choice(...kept.map((type) => this.#type(type, node, path)));
  }

  #reference(reference: string, path: string): Expression {
    const known = this.#references.get(reference);
    if (known !== undefined) return rule(known);
    const name = `${this.#prefix}${this.#references.size}`;
    this.#references.set(reference, name);
    // Told before it is written, because it may refer to itself.
    this.#rules.set(name, NOTHING);
    this.#rules.set(name, this.write(this.#reader.target(reference, path), reference));
    return rule(name);
  }

  #type(type: JsonType, node: Node, path: string): Expression {
    switch (type) {
      case 'null':
        return constant(null);
      case 'boolean':
        return choice('true', 'false');
      case 'integer':
      case 'number':
        return this.#number(type, node, path);
      case 'string':
        return this.#string(node, path);
      case 'array':
        return this.#array(node, path);
      case 'object':
        return this.#object(node, path);
    }
  }

  #number(type: 'integer' | 'number', node: Node, path: string): Expression {
    const low = bound(node.minimum, node.exclusiveMinimum, Math.max, -LARGEST);
    const high = bound(node.maximum, node.exclusiveMaximum, Math.min, LARGEST);
    const bounded = low.value > -LARGEST || high.value < LARGEST || low.exclusive || high.exclusive;
    if (!bounded) return rule(type);
    if (type === 'integer') {
      const from = low.exclusive ? Math.floor(low.value) + 1 : Math.ceil(low.value);
      return integersWithin(from, high.exclusive ? Math.ceil(high.value) - 1 : Math.floor(high.value));
    }
    const numbers = numbersWithin(low, high);
    if (numbers !== undefined) return numbers;
    throw this.#reader.refuse(path, 'the bounds of a number may have 6 digits behind the point and 15 in all');
  }

  #string(node: Node, path: string): Expression {
    const { minLength = 0, maxLength = Infinity } = node;
    const patterns = (node.patterns ?? []).map((source) => this.#pattern(source, path));
    for (const format of node.formats ?? []) {
      // Unknown formats are annotations.
      const source = Object.hasOwn(FORMATS, format) ? FORMATS[format] : undefined;
      if (source !== undefined) patterns.push(this.#pattern(source, path));
    }
    if (patterns.length === 0) {
      return minLength === 0 && maxLength === Infinity ? rule('string') : this.#own(stringOf(minLength, maxLength));
    }
    if (patterns.length > 1) {
      throw this.#reader.refuse(path, 'a string can have one pattern or one format that is checked, not several');
    }
    const [pattern] = patterns;
    if (pattern.minLength < minLength || pattern.maxLength > maxLength) {
      const lengths = `${pattern.minLength} to ${pattern.maxLength} characters`;
      throw this.#reader.refuse(path, `the pattern or format allows ${lengths}, beyond minLength or maxLength`);
    }
    return this.#own(quoted(pattern.expression));
  }

  #pattern(source: string, path: string): Pattern {
    return readPattern(source, this.#param, inString, ` (at ${path})`);
  }

  /** A string as a rule of its own: its characters and its last quote are judged together. */
  #own(string: Expression): Expression {
    const name = `${this.#prefix}s${this.#rules.size}`;
    this.#rules.set(name, string);
    return rule(name);
  }

  #array(node: Node, path: string): Expression {
    const { prefixItems = [], items, minItems = 0, maxItems = Infinity } = node;
    const first = prefixItems.map((schema, i) => this.write(schema, `${path}/prefixItems/${i}`));
    const others = items === false ? undefined : this.#shared(this.write(items ?? true, `${path}/items`));
    return minItems > maxItems ? NOTHING : arrayOf(first, others, minItems, maxItems);
  }

  #object(node: Node, path: string): Expression {
    const { properties = {}, additional, required = [] } = node;
    const names = Object.keys(properties);
    const free = additional ?? node.properties === undefined;
    for (const name of required) if (!names.includes(name)) names.push(name);
    const members = names.map((name) => {
      const declared = Object.hasOwn(properties, name);
      // A property that is required though nothing describes it may be anything, unless others are forbidden.
      const schema = declared ? properties[name] : (additional ?? true);
      const value = this.write(schema, `${path}/properties/${name}`);
      return { one: member(keyNamed(name), value), required: required.includes(name) };
    });
    const others =
      free === false
        ? undefined
        : member(keyBesides(names), this.#shared(this.write(free, `${path}/additionalProperties`)));
    return between('{', this.#members(members, others), '}');
  }

  /**
   * Members in order, commas between them. Each place has two rules: for what may follow when a member is written
   * already, and when none is.
   */
  #members(members: readonly { one: Expression; required: boolean }[], others: Expression | undefined): Expression {
    const comma = sequence(rule('space'), ',', rule('space'));
    let begun: Expression = EMPTY;
    // The last member first: what the first one written may be.
    let fresh: Expression[] = [EMPTY];
    if (others !== undefined) {
      begun = repeat(sequence(comma, others), 0);
      fresh.push(sequence(others, begun));
    }
    for (const { one, required } of members.toReversed()) {
      const after = this.#shared(begun);
      const next = sequence(one, after);
      begun = required ? sequence(comma, next) : choice(sequence(comma, next), after);
      if (required) fresh = [];
      fresh.push(next);
    }
    return anyOf(fresh.toReversed());
  }

  /** An expression that is written in several places, as a rule. */
  #shared(expression: Expression): Expression {
    if (expression === EMPTY || expression.kind === 'rule') return expression;
    const name = `${this.#prefix}m${this.#rules.size}`;
    this.#rules.set(name, expression);
    return rule(name);
  }

  /** Whether a value of `enum` is what the other keywords ask for. */
  #fits(node: Node, value: unknown, path: string): boolean {
    const types = node.types;
    const type = typeOf(value);
    if (types !== undefined && !types.has(type) && !(type === 'integer' && types.has('number'))) return false;
    if (typeof value === 'number') {
      const { minimum = -Infinity, maximum = Infinity } = node;
      const { exclusiveMinimum: above = -Infinity, exclusiveMaximum: below = Infinity } = node;
      return value >= minimum && value <= maximum && value > above && value < below;
    }
    const about = (...keys: (keyof Node)[]): boolean => keys.some((key) => node[key] !== undefined);
    const beside =
      (type === 'string' && about('minLength', 'maxLength', 'patterns', 'formats')) ||
      (type === 'array' && about('items', 'prefixItems', 'minItems', 'maxItems')) ||
      (type === 'object' && about('properties', 'additional', 'required'));
    if (beside)
      throw this.#reader.refuse(path, `enum or const beside keywords about the same ${type} is not supported`);
    return true;
  }
}

/** The nearer one of two bounds. */
function bound(
  inclusive: number | undefined,
  exclusive: number | undefined,
  nearer: (a: number, b: number) => number,
  none: number,
): Bound {
  const value = nearer(nearer(inclusive ?? none, exclusive ?? none), none);
  return { value, exclusive: exclusive !== undefined && value === exclusive };
}
