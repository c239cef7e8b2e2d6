import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RoseError } from '../src/errors.ts';
import { grammarOf, type StructureForm } from '../src/grammar/structure.ts';
import type { Schema } from '../src/grammar/schema-node.ts';
import { randomOf, Walker } from './walk.ts';

const json = (schema: Schema): StructureForm => ({ kind: 'json', schema });

/** A schema of lists in lists. */
function nested(levels: number, inner: unknown): Schema {
  let schema = inner;
  for (let i = 0; i < levels; i++) schema = { items: schema };
  return schema as Schema;
}

describe('what is large', () => {
  const most: readonly [string, StructureForm][] = [
    ['a schema as deep as may be', json(nested(512, true))],
    ['a pattern as deep as may be', { kind: 'regex', pattern: `${'('.repeat(256)}a${')'.repeat(256)}` }],
    ['many properties, none of which is required', json(properties(1500))],
    ['many values', json({ enum: Array.from({ length: 200_000 }, (_, i) => i) })],
    ['many choices', { kind: 'choice', choices: Array.from({ length: 200_000 }, (_, i) => `${i}`) }],
    // Looked through in one go: from every bracket and line end anew it would take a minute.
    ['brackets that are never closed', { kind: 'grammar', ebnf: `root ::= ${'['.repeat(65_000)}` }],
    ['lines that say nothing', { kind: 'grammar', ebnf: `${'\n'.repeat(65_000)}root ::= "a"` }],
  ];
  for (const [name, form] of most) {
    test(name, { timeout: 10_000 }, () => {
      assert.match(grammarOf({ form, param: 'field' }).ebnf, /root ::=/);
    });
  }
});

function properties(count: number): Schema {
  const names = Array.from({ length: count }, (_, i) => [`p${i}`, { type: 'integer' }] as const);
  return { type: 'object', properties: Object.fromEntries(names), additionalProperties: false };
}

describe('what is refused, and why', () => {
  const cases: readonly [StructureForm, RegExp][] = [
    [json({ patternProperties: { a: true } }), /"patternProperties" is not supported \(at #\)/],
    [json({ properties: { a: { not: {} } } }), /"not" is not supported \(at #\/properties\/a\)/],
    [json({ type: 'array', uniqueItems: true }), /"uniqueItems"/],
    [json({ type: 'number', multipleOf: 0.5 }), /multipleOf/],
    [json({ type: 'strong' }), /there is no type "strong"/],
    [json({ $ref: '#/$defs/none' }), /names nothing/],
    [json({ $ref: 'http://x/y' }), /not within the schema/],
    [json({ $ref: '#' }), /no text of finite length/],
    [
      json({ $defs: { a: { anyOf: [{ $ref: '#/$defs/a' }, { type: 'null' }] } }, $ref: '#/$defs/a' }),
      /refers to itself/,
    ],
    [json({ type: 'object', properties: { n: { $ref: '#' } }, required: ['n'] }), /no text of finite length/],
    [json({ type: 'integer', minimum: 3, maximum: 2 }), /no text of finite length/],
    [json({ oneOf: [{ type: 'string' }, { type: 'string', maxLength: 3 }] }), /may both be valid/],
    [json({ oneOf: [{ type: 'integer' }, { type: 'number' }] }), /may both be valid/],
    [json({ type: 'string', pattern: '(?=a)b' }), /\(\?=a\) in a pattern is not supported/],
    [json({ type: 'string', pattern: '(a)\\1' }), /\\1 in a pattern is not supported/],
    [json({ type: 'string', pattern: '(' }), /not a regular expression/],
    [json({ type: 'string', pattern: '^a+$', maxLength: 4 }), /beyond minLength or maxLength/],
    [json({ type: 'string', maxLength: 100_000 }), /more than \d+ places/],
    [json('x' as unknown as Schema), /must be an object, true or false/],
    [{ kind: 'regex', pattern: '(a*)*' }, /may be empty/],
    [{ kind: 'choice', choices: [] }, /nothing to choose from/],
    [{ kind: 'grammar', ebnf: 'rule ::= "a"' }, /no rule root/],
    [
      {
        kind: 'calls',
        format: 'hermes',
        tools: ['object', 'string'].map((type, i) => ({ name: `f${i}`, parameters: { type }, param: `field${i}` })),
        required: true,
        several: false,
      },
      /^field1: no object of finite length/,
    ],
    [json({ $ref: '#/%zz' }), /names nothing/],
    [json({ oneOf: [{ type: 'integer' }, { const: 3 }] }), /may both be valid/],
    [json(nested(5000, { type: 'null' })), /nested more than 512 levels deep/],
    [json({ const: nested(5000, 0) }), /nested more than 512 levels deep/],
    [{ kind: 'regex', pattern: `${'('.repeat(5000)}a${')'.repeat(5000)}` }, /nested more than 256 levels deep/],
  ];
  for (const [form, message] of cases) {
    test(JSON.stringify(form).slice(0, 100), () => {
      assert.throws(
        () => grammarOf({ form, param: 'field' }),
        (error) =>
          error instanceof RoseError &&
          error.code === 'invalid' &&
          /^field1?$/.test(error.param ?? '') &&
          message.test(error.message),
      );
    });
  }
});

describe('what is taken', async () => {
  const walker = await Walker.open();
  const cases: readonly [StructureForm, readonly string[], readonly string[]][] = [
    [json({ type: 'integer', minimum: 7, maximum: 120 }), ['7', '99', '120'], ['6', '121', '126', '07', '-7']],
    [json({ type: 'integer', minimum: -12, maximum: 5 }), ['-12', '-1', '0', '5'], ['-13', '6']],
    [json({ type: 'integer', exclusiveMinimum: 1.5, exclusiveMaximum: 4 }), ['2', '3'], ['1', '4']],
    [json({ type: 'number', minimum: 0.25, maximum: 2 }), ['0.25', '0.3', '1', '1.999', '2'], ['0.2', '2.001', '3']],
    [json({ type: 'number', exclusiveMinimum: -1.5, exclusiveMaximum: 0 }), ['-1.4', '-1', '-0.5'], ['-1.5', '0', '1']],
    [json({ type: 'string', maxLength: 3 }), ['"äöü"', '"\\n"', '""'], ['"abcd"']],
    [json({ type: 'string', minLength: 2 }), ['"🙂🙂"', '"abc"'], ['"🙂"']],
    [json({ type: 'string' }), ['"\\u00e9\\\\"'], ['"\\ud83d\\ude00"', '"\n"', 'a']],
    [json({ type: 'string', pattern: '^[^a"]\\d$' }), ['"b1"', '"\\\\1"', '"é9"'], ['"a1"', '"\\"1"', '"b"']],
    [json({ const: { a: ['ß', null] } }), ['{"a":["ß",null]}'], ['{"a":["ß"]}']],
    [json({ enum: [1, 'a'], type: 'string' }), ['"a"'], ['1']],
    [json({ type: 'boolean' }), ['true', 'false'], ['True']],
    [json({ oneOf: [{ type: 'integer', minimum: 8, maximum: 9 }, { const: 'z' }] }), ['8', '"z"'], ['7', '"y"']],
    [json({ oneOf: [{ enum: ['a', null] }, { type: ['boolean', 'number'] }] }), ['"a"', 'null', 'true', '1'], ['"b"']],
    [
      json({ type: 'object', properties: { a: { type: 'null' }, b: { type: 'null' } }, required: ['b'] }),
      ['{"a":null,"b":null}', '{ "b" : null }', '{\n  "b": null\n}'],
      ['{}', '{"b":null,"a":null}', '{"b":null,"c":1}'],
    ],
    [
      json({ properties: { ab: { type: 'null' } }, additionalProperties: { type: 'integer' } }),
      ['{"ab":null,"a":1,"abc":2,"":3}', '{"é":1}', '{}'],
      ['{"ab":1}', '{"a":null}', '{"\\u0061b":1}', '{"b":1,"ab":null}'],
    ],
    [
      json({
        type: 'array',
        prefixItems: [{ type: 'null' }, { type: 'boolean' }],
        items: { type: 'integer' },
        minItems: 1,
        maxItems: 3,
      }),
      ['[null]', '[null, true,3]'],
      ['[]', '[true]', '[null,true,3,4]', '[null,1]'],
    ],
    [
      json({
        allOf: [
          { type: 'object', properties: { a: { type: 'integer' } } },
          { properties: { a: { maximum: 3 } }, required: ['a'] },
        ],
      }),
      ['{"a":3}'],
      ['{"a":4}', '{}'],
    ],
    [{ kind: 'regex', pattern: 'a{2,3}|[α-γ]+\\.?' }, ['aa', 'aaa', 'αβ.'], ['a', 'aaaa', 'δ', '.']],
    [{ kind: 'choice', choices: [' yes', 'größer'] }, [' yes', 'größer'], ['yes', 'gr']],
    [{ kind: 'grammar', ebnf: 'root ::= "x" [é-ü] | [^a-é] # [é]\n' }, ['xé', 'xü', 'ü'], ['xa', 'é', 'b', 'x']],
  ];
  for (const [form, taken, refused] of cases) {
    test(JSON.stringify(form), async () => {
      for (const text of taken) assert.equal(await walker.takes({ form, param: 'x' }, text), true, text);
      for (const text of refused) assert.equal(await walker.takes({ form, param: 'x' }, text), false, text);
    });
  }

  test('reasoning comes first, in its tags', async () => {
    const tags = { open: '<think>', close: '</think>' };
    const form = { kind: 'choice', choices: ['yes'] } as const;
    const [may, opened] = [false, true].map((given) => ({ form, param: 'x', reasoning: { tags, opened: given } }));
    assert.equal(await walker.takes(may, '<think>Hm < 2</</think>\n\nyes'), true);
    assert.equal(await walker.takes(may, 'yes'), true);
    assert.equal(await walker.takes(may, '<think>yes'), false);
    assert.equal(await walker.takes(opened, 'so</think>yes'), true);
    assert.equal(await walker.takes(opened, 'yes'), false);
  });

  test('every text is well-formed UTF-8 whose length is kept', async () => {
    const random = randomOf(1);
    for (let i = 0; i < 20; i++) {
      const text = await walker.walk(
        { form: json({ type: 'string', minLength: 2, maxLength: 4 }), param: 'x' },
        random,
      );
      assert.ok(text !== undefined, 'the text did not end');
      const { length } = [...(JSON.parse(text) as string)];
      assert.ok(length >= 2 && length <= 4, text);
    }
  });

  test('a grammar that cannot be read is told with its place, and the next one works', async () => {
    const broken = { form: { kind: 'grammar', ebnf: 'root ::= foo' }, param: 'x' } as const;
    for (let i = 0; i < 3; i++) {
      await assert.rejects(
        walker.takes(broken, ''),
        /x: EBNF parser error at line 1, column 10: Rule "foo" is not defined/,
      );
    }
    assert.equal(await walker.takes({ form: { kind: 'regex', pattern: 'a' }, param: 'x' }, 'a'), true);
  });
});
