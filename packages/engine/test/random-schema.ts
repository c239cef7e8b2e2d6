type Json = Record<string, unknown>;

/** A schema of random keywords that Rose keeps, nested to some depth. */
export function randomSchema(random: () => number, depth = 3): Json | boolean {
  const below = (n: number): number => Math.floor(random() * n);
  const pick = <T>(list: readonly T[]): T => list[below(list.length)];
  const maybe = (share: number, fields: () => Json): Json => (random() < share ? fields() : {});
  const inner = (): Json | boolean => randomSchema(random, depth - 1);

  const scalars: (() => Json)[] = [
    () => ({ type: 'string' }),
    () => {
      const minLength = below(4);
      return { type: 'string', minLength, ...maybe(0.8, () => ({ maxLength: minLength + below(6) })) };
    },
    () => ({ type: 'string', pattern: pick(PATTERNS) }),
    () => ({ type: 'string', format: pick(FORMATS) }),
    () => ({ type: 'boolean' }),
    () => ({ type: pick(['null', 'number', 'integer']) }),
    () => ({ type: ['string', 'null'], ...maybe(0.5, () => ({ maxLength: 3 })) }),
    () => {
      const low = below(4000) - 2000;
      return { type: 'integer', minimum: low, ...maybe(0.7, () => ({ maximum: low + below(3000) })) };
    },
    () => {
      const low = (below(4000) - 2000) / pick([1, 10, 1000]);
      const high = low + (1 + below(100)) / pick([1, 10, 100]);
      const bounds = { [pick(['minimum', 'exclusiveMinimum'])]: round(low) };
      return { type: 'number', ...bounds, [pick(['maximum', 'exclusiveMaximum'])]: round(high) };
    },
    () => ({ enum: ['a', 'größer', 1, -2.5, null, true, { k: [1, '"\\'] }].slice(below(3)) }),
    () => ({ const: pick<unknown>(['x y', 7, '🙂', [1, 2]]) }),
  ];
  if (depth === 0) return pick(scalars)();
  const nested: (() => Json | boolean)[] = [
    () => objectSchema(),
    () => objectSchema(),
    () => {
      const minItems = below(3);
      return { type: 'array', items: inner(), minItems, ...maybe(0.8, () => ({ maxItems: minItems + below(3) })) };
    },
    () => ({
      type: 'array',
      prefixItems: [inner(), inner()],
      items: pick<unknown>([false, { type: 'integer' }]),
      minItems: below(3),
    }),
    () => ({ anyOf: [inner(), inner()] }),
    () => ({ allOf: [objectSchema(), { type: 'object', properties: { a: true }, required: ['a'] }] }),
    () => ({
      oneOf: ['cat', 'dog'].map((kind) => ({
        type: 'object',
        properties: { kind: { const: kind }, [kind]: inner() },
        required: ['kind'],
      })),
    }),
    () => ({ $ref: '#/$defs/node' }),
    () => pick([true, {}]),
  ];
  return random() < 0.35 ? pick(scalars)() : pick(nested)();

  function objectSchema(): Json {
    const names = NAMES.slice(below(4), 4 + below(4));
    return {
      type: 'object',
      properties: Object.fromEntries(names.map((name) => [name, inner()])),
      required: names.filter(() => random() < 0.5),
      ...maybe(0.4, () => ({ additionalProperties: pick<unknown>([true, false, { type: 'integer' }]) })),
    };
  }
}

/** Definitions that a random schema may refer to: one that refers to itself. */
export const DEFINITIONS: Json = {
  node: {
    type: 'object',
    properties: { value: { type: 'integer' }, next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
    required: ['value', 'next'],
    additionalProperties: false,
  },
};

const NAMES = ['a', 'ab', 'größe', 'with space', 'quote"', 'b', '1', 'constructor'];
const PATTERNS = [
  '^[a-z]{1,5}$',
  '^(\\d{3}-)?\\d{4}$',
  '^[^x]{2}$',
  'a.c',
  '^(?:ab|c\\s?)+$',
  '^\\S+@\\w+$',
  '^[α-ω\\u{1F600}-\\u{1F64F}"]{1,3}$',
];
const FORMATS = ['date', 'time', 'date-time', 'uuid', 'ipv4', 'ipv6', 'email', 'hostname', 'duration'];

function round(value: number): number {
  return Number(value.toFixed(4));
}
