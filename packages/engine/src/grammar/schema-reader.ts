import { RoseError } from '../errors.ts';
import { both, same, TYPES, typesAllowed, typesOf, type JsonType, type Node, type Schema } from './schema-node.ts';

/** Keywords that are read. */
const READ = new Set(
  `$ref allOf anyOf oneOf type enum const minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength
  pattern format prefixItems items additionalItems minItems maxItems uniqueItems properties additionalProperties
  required`.split(/\s+/),
);
/** Keywords that ask for something that is not read: a schema with one of them is refused. Unknown ones mean nothing. */
const REFUSED = new Set(
  `not if then else dependentSchemas dependentRequired dependencies patternProperties propertyNames minProperties
  maxProperties contains minContains maxContains unevaluatedProperties unevaluatedItems $dynamicRef $recursiveRef $anchor
  $dynamicAnchor`.split(/\s+/),
);
const MOST_ALTERNATIVES = 256;
const MOST_DEPTH = 64;
/** How deep a schema's text may be nested. */
const MOST_NESTING = 512;

/** Reads schemas of one document as alternatives of nodes. */
export class SchemaReader {
  readonly #root: Schema;
  readonly #param: string;

  constructor(root: Schema, param: string) {
    this.#root = root;
    this.#param = param;
  }

  refuse(path: string, why: string): RoseError {
    return new RoseError('invalid', `${this.#param}: ${why} (at ${path})`, { param: this.#param });
  }

  /** What is nested without end would exhaust the stack. */
  checkNesting(): void {
    let level: unknown[] = [this.#root];
    for (let depth = 0; level.length > 0; depth++) {
      if (depth > MOST_NESTING) throw this.refuse('#', `it is nested more than ${MOST_NESTING} levels deep`);
      level = level.flatMap((value) => (typeof value === 'object' && value !== null ? Object.values(value) : []));
    }
  }

  /** The schema that a reference names. */
  target(reference: string, path: string): Schema {
    if (!reference.startsWith('#')) throw this.refuse(path, `$ref "${reference}" is not within the schema`);
    let at: unknown = this.#root;
    for (const step of reference.slice(1).split('/').slice(1)) {
      const key = decoded(step).replaceAll('~1', '/').replaceAll('~0', '~');
      const inside = typeof at === 'object' && at !== null && Object.hasOwn(at, key);
      at = inside ? (at as Record<string, unknown>)[key] : undefined;
    }
    if (at === undefined || (reference.length > 1 && !reference.startsWith('#/'))) {
      throw this.refuse(path, `$ref "${reference}" names nothing in the schema`);
    }
    return at as Schema;
  }

  /** A value is valid exactly if it is what one of the nodes asks for. */
  alternatives(schema: unknown, path: string, depth = 0): Node[] {
    if (depth > MOST_DEPTH) throw this.refuse(path, 'it is nested or refers to itself too deeply');
    if (schema === true) return [{}];
    if (schema === false) return [];
    if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
      throw this.refuse(path, 'a schema must be an object, true or false');
    }
    const fields = schema as Readonly<Record<string, unknown>>;
    const node = this.#own(fields, path);
    const inner = (sub: unknown, key: string): Node[] => this.alternatives(sub, `${path}/${key}`, depth + 1);
    let nodes: Node[] = node === undefined ? [] : [node];
    const { $ref: reference } = fields;
    if (reference !== undefined) {
      if (typeof reference !== 'string') throw this.refuse(path, '$ref must be a string');
      const target = this.target(reference, path);
      const alone = Object.keys(fields).every((key) => key === '$ref' || !READ.has(key));
      if (alone) return [{ reference }];
      nodes = this.#product(nodes, this.alternatives(target, path, depth + 1), path, depth);
    }
    for (const [i, sub] of this.#list(fields, 'allOf', path).entries()) {
      nodes = this.#product(nodes, inner(sub, `allOf/${i}`), path, depth);
    }
    const any = this.#list(fields, 'anyOf', path);
    if (any.length > 0)
      nodes = this.#product(
        nodes,
        any.flatMap((sub, i) => inner(sub, `anyOf/${i}`)),
        path,
        depth,
      );
    const one = this.#list(fields, 'oneOf', path).map((sub, i) => inner(sub, `oneOf/${i}`));
    if (one.length > 0) {
      this.#checkOne(one, nodes, path, depth);
      nodes = this.#product(nodes, one.flat(), path, depth);
    }
    return nodes;
  }

  #list(fields: Readonly<Record<string, unknown>>, key: string, path: string): readonly unknown[] {
    const value = fields[key];
    if (value === undefined) return [];
    if (!Array.isArray(value) || value.length === 0) throw this.refuse(path, `${key} must be a list of schemas`);
    return value;
  }

  /** What a node of each side asks for together, in every combination. */
  #product(a: readonly Node[], b: readonly Node[], path: string, depth: number): Node[] {
    // A lone reference stays one, so that a schema may refer to itself.
    if (a.length === 1 && Object.keys(a[0]).length === 0) return [...b];
    const [left, right] = [this.#resolved(a, path, depth), this.#resolved(b, path, depth)];
    if (left.length * right.length > MOST_ALTERNATIVES) throw this.refuse(path, 'it has too many alternatives');
    return left.flatMap((x) => right.map((y) => both(x, y)).filter((node) => node !== undefined));
  }

  #resolved(nodes: readonly Node[], path: string, depth: number): Node[] {
    return nodes.flatMap((node) => {
      if (node.reference === undefined) return [node];
      return this.#resolved(this.alternatives(this.target(node.reference, path), path, depth + 1), path, depth + 1);
    });
  }

  /** Only one of the branches may be valid: that is kept where no value that is written can be two of them. */
  #checkOne(branches: readonly Node[][], base: readonly Node[], path: string, depth: number): void {
    const flat = branches.map((nodes) => this.#resolved(this.#product(base, nodes, path, depth), path, depth));
    for (const [i, a] of flat.entries()) {
      for (const [j, b] of flat.entries()) {
        if (i === j || a.every((x) => b.every((y) => this.#disjoint(x, y, path, depth + 1)))) continue;
        throw this.refuse(path, `oneOf/${i} and oneOf/${j} may both be valid for one value: use anyOf`);
      }
    }
  }

  /** Whether no value written for `a` is valid for `b`. */
  #disjoint(a: Node, b: Node, path: string, depth: number): boolean {
    if (a.values && b.values) return !a.values.some((value) => b.values!.some((other) => same(value, other)));
    const allowed = typesAllowed(b);
    return [...(a.values ? typesAllowed(a)! : typesOf(a))].every((type) => {
      const excluded = allowed !== undefined && !allowed.has(type) && !(type === 'integer' && allowed.has('number'));
      if (excluded && !(type === 'number' && allowed.has('integer'))) return true;
      return type === 'object' && this.#differ(a, b, path, depth);
    });
  }

  /** Whether a property that both require tells them apart. */
  #differ(a: Node, b: Node, path: string, depth: number): boolean {
    return (a.required ?? []).some((name) => {
      const [x, y] = [a, b].map((node) =>
        node.properties && Object.hasOwn(node.properties, name) ? node.properties[name] : node.additional,
      );
      if (y === false) return true;
      if (x === undefined || y === undefined) return false;
      const [left, right] = [x, y].map((schema) =>
        this.#resolved(this.alternatives(schema, path, depth + 1), path, depth + 1),
      );
      return left.every((one) => right.every((other) => this.#disjoint(one, other, path, depth + 1)));
    });
  }

  /** What a schema's own keywords ask for; undefined: no value satisfies them. */
  #own(fields: Readonly<Record<string, unknown>>, path: string): Node | undefined {
    for (const key of Object.keys(fields)) {
      if (REFUSED.has(key)) throw this.refuse(path, `the keyword "${key}" is not supported`);
    }
    const node: { -readonly [K in keyof Node]: Node[K] } = {};
    const number = (key: keyof Node, whole: boolean): void => {
      const value = fields[key];
      if (value === undefined) return;
      if (typeof value !== 'number' || (whole && !(Number.isInteger(value) && value >= 0))) {
        throw this.refuse(path, `${key} must be a ${whole ? 'whole ' : ''}number`);
      }
      Object.assign(node, { [key]: value });
    };
    for (const key of ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'] as const) number(key, false);
    for (const key of ['minLength', 'maxLength', 'minItems', 'maxItems'] as const) number(key, true);
    const text = (key: string): string[] | undefined => {
      const value = fields[key];
      if (value === undefined) return undefined;
      if (typeof value !== 'string') throw this.refuse(path, `${key} must be a string`);
      return [value];
    };
    const [patterns, formats] = [text('pattern'), text('format')];
    if (patterns !== undefined) node.patterns = patterns;
    if (formats !== undefined) node.formats = formats;
    if (fields['type'] !== undefined) node.types = this.#types(fields['type'], path);
    this.#values(fields, path, node);
    this.#checkMultiple(fields, path, node);
    this.#arrays(fields, path, node);
    this.#objects(fields, path, node);
    return node.types?.size === 0 ? undefined : node;
  }

  #types(type: unknown, path: string): ReadonlySet<JsonType> {
    const names: unknown[] = Array.isArray(type) ? type : [type];
    const unknown = names.find((name) => !TYPES.includes(name as JsonType));
    if (unknown !== undefined) throw this.refuse(path, `there is no type ${JSON.stringify(unknown)}`);
    return new Set(names as JsonType[]);
  }

  #values(fields: Readonly<Record<string, unknown>>, path: string, node: { values?: readonly unknown[] }): void {
    const { enum: list } = fields;
    if (list !== undefined) {
      if (!Array.isArray(list) || list.length === 0) throw this.refuse(path, 'enum must be a list of values');
      node.values = list;
    }
    if (!Object.hasOwn(fields, 'const')) return;
    const only = fields['const'];
    node.values = node.values === undefined || node.values.some((value) => same(value, only)) ? [only] : [];
  }

  #checkMultiple(
    fields: Readonly<Record<string, unknown>>,
    path: string,
    node: { types?: ReadonlySet<JsonType> },
  ): void {
    const { multipleOf } = fields;
    if (multipleOf === undefined) return;
    if (multipleOf !== 1) throw this.refuse(path, 'multipleOf is only supported with the value 1');
    node.types ??= new Set(['integer']);
    if (node.types.has('number')) {
      node.types = new Set([...[...node.types].filter((type) => type !== 'number'), 'integer' as const]);
    }
  }

  #arrays(
    fields: Readonly<Record<string, unknown>>,
    path: string,
    node: { -readonly [K in keyof Node]: Node[K] },
  ): void {
    const { items, prefixItems, additionalItems, uniqueItems } = fields;
    if (uniqueItems !== undefined && uniqueItems !== false) {
      throw this.refuse(path, 'the keyword "uniqueItems" is not supported');
    }
    // Draft 7 wrote a list where `prefixItems` is now.
    const prefix = Array.isArray(items) ? items : prefixItems;
    const rest = Array.isArray(items) ? additionalItems : items;
    if (prefix !== undefined) {
      if (!Array.isArray(prefix)) throw this.refuse(path, 'prefixItems must be a list of schemas');
      node.prefixItems = prefix as Schema[];
    }
    if (rest !== undefined) node.items = rest as Schema;
  }

  #objects(
    fields: Readonly<Record<string, unknown>>,
    path: string,
    node: { -readonly [K in keyof Node]: Node[K] },
  ): void {
    const { properties, additionalProperties, required } = fields;
    if (properties !== undefined) {
      if (typeof properties !== 'object' || properties === null || Array.isArray(properties)) {
        throw this.refuse(path, 'properties must be an object of schemas');
      }
      node.properties = properties as Record<string, Schema>;
    }
    if (additionalProperties !== undefined) node.additional = additionalProperties as Schema;
    if (required === undefined) return;
    if (!Array.isArray(required) || !required.every((name) => typeof name === 'string')) {
      throw this.refuse(path, 'required must be a list of names');
    }
    node.required = required;
  }
}

/** A step of a reference without its percent signs; a step that is encoded wrongly names nothing. */
function decoded(step: string): string {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}
