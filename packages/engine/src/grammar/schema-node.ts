/** A JSON schema (2020-12 and what draft 7 wrote otherwise). */
export type Schema = boolean | Readonly<Record<string, unknown>>;

export const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'] as const;
export type JsonType = (typeof TYPES)[number];

/** What a schema asks of a value, without alternatives and references. What is undefined asks for nothing. */
export interface Node {
  readonly types?: ReadonlySet<JsonType>;
  /** Of `enum` and `const`. */
  readonly values?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly patterns?: readonly string[];
  readonly formats?: readonly string[];
  readonly prefixItems?: readonly Schema[];
  readonly items?: Schema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additional?: Schema;
  readonly required?: readonly string[];
  /** The path of the schema that it is, where it is nothing but a reference. */
  readonly reference?: string;
}

/** What both ask for; undefined where no value can be of the types. */
export function both(a: Node, b: Node): Node | undefined {
  const types = a.types && b.types ? common(a.types, b.types) : (a.types ?? b.types);
  if (types?.size === 0) return undefined;
  const values =
    a.values && b.values
      ? a.values.filter((value) => b.values!.some((other) => same(value, other)))
      : (a.values ?? b.values);
  const merged: { -readonly [K in keyof Node]: Node[K] | undefined } = {
    types,
    values,
    minimum: pick(Math.max, a.minimum, b.minimum),
    maximum: pick(Math.min, a.maximum, b.maximum),
    exclusiveMinimum: pick(Math.max, a.exclusiveMinimum, b.exclusiveMinimum),
    exclusiveMaximum: pick(Math.min, a.exclusiveMaximum, b.exclusiveMaximum),
    minLength: pick(Math.max, a.minLength, b.minLength),
    maxLength: pick(Math.min, a.maxLength, b.maxLength),
    patterns: union(a.patterns, b.patterns),
    formats: union(a.formats, b.formats),
    minItems: pick(Math.max, a.minItems, b.minItems),
    maxItems: pick(Math.min, a.maxItems, b.maxItems),
    required: union(a.required, b.required),
    ...items(a, b),
    ...properties(a, b),
  };
  return Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== undefined));
}

function common(a: ReadonlySet<JsonType>, b: ReadonlySet<JsonType>): ReadonlySet<JsonType> {
  const types = a.intersection(b);
  // Whole numbers are numbers.
  if ((a.has('integer') && b.has('number')) || (b.has('integer') && a.has('number'))) types.add('integer');
  return types;
}

function pick(
  choose: (a: number, b: number) => number,
  a: number | undefined,
  b: number | undefined,
): number | undefined {
  return a === undefined ? b : b === undefined ? a : choose(a, b);
}

function union(a: readonly string[] | undefined, b: readonly string[] | undefined): readonly string[] | undefined {
  return a === undefined ? b : b === undefined ? a : [...new Set([...a, ...b])];
}

function items(a: Node, b: Node): Pick<Node, 'prefixItems' | 'items'> {
  const length = Math.max(a.prefixItems?.length ?? 0, b.prefixItems?.length ?? 0);
  const at = (node: Node, i: number): Schema | undefined => node.prefixItems?.[i] ?? node.items;
  const prefixItems = Array.from({ length }, (_, i) => allOf(at(a, i), at(b, i)) ?? true);
  const rest = allOf(a.items, b.items);
  return { ...(length > 0 && { prefixItems }), ...(rest !== undefined && { items: rest }) };
}

function properties(a: Node, b: Node): Pick<Node, 'properties' | 'additional'> {
  const own = (node: Node, name: string): Schema | undefined =>
    node.properties && Object.hasOwn(node.properties, name) ? node.properties[name] : node.additional;
  const names = [...new Set([...Object.keys(a.properties ?? {}), ...Object.keys(b.properties ?? {})])];
  const merged = names.map((name) => [name, allOf(own(a, name), own(b, name)) ?? true] as const);
  const additional = allOf(a.additional, b.additional);
  const declared = a.properties !== undefined || b.properties !== undefined;
  return {
    ...(declared && { properties: Object.fromEntries(merged) }),
    ...(additional !== undefined && { additional }),
  };
}

function allOf(a: Schema | undefined, b: Schema | undefined): Schema | undefined {
  if (a === undefined || a === true) return b ?? a;
  if (b === undefined || b === true || a === b) return a;
  return { allOf: [a, b] };
}

/** Whether two JSON values are equal. */
export function same(a: unknown, b: unknown): boolean {
  return sorted(a) === sorted(b);
}

function sorted(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([x], [y]) => (x < y ? -1 : 1)))
      : inner,
  );
}

export function typeOf(value: unknown): JsonType {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value as 'string' | 'boolean' | 'object';
}

/** The types that its values can have at all; undefined: any. */
export function typesAllowed({ types, values }: Node): ReadonlySet<JsonType> | undefined {
  return values === undefined ? types : new Set(values.map(typeOf));
}

/** The types of values that are written for it: what it says, or what its keywords are about, or all. */
export function typesOf(node: Node): ReadonlySet<JsonType> {
  if (node.types !== undefined) return node.types;
  const has = (...keys: (keyof Node)[]): boolean => keys.some((key) => node[key] !== undefined);
  const told: JsonType[] = [];
  if (has('properties', 'additional', 'required')) told.push('object');
  if (has('items', 'prefixItems', 'minItems', 'maxItems')) told.push('array');
  if (has('minLength', 'maxLength', 'patterns', 'formats')) told.push('string');
  if (has('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum')) told.push('number');
  return new Set(told.length > 0 ? told : TYPES);
}
