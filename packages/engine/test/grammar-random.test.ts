import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { DEFINITIONS, randomSchema } from './random-schema.ts';
import { randomOf, Walker } from './walk.ts';

/** Schemas tried; more with ROSE_RANDOM_SCHEMAS. */
const SCHEMAS = Number(process.env['ROSE_RANDOM_SCHEMAS'] ?? 60);

describe('answers drawn at random under random schemas', async () => {
  const walker = await Walker.open();
  const ajv = new Ajv2020.default({ strict: false, allErrors: true });
  addFormats.default(ajv);

  test('parse and validate, every one', async () => {
    let ended = 0;
    let walks = 0;
    for (let i = 0; i < SCHEMAS; i++) {
      const random = randomOf(i);
      const drawn = randomSchema(random);
      const schema = { ...(typeof drawn === 'boolean' ? {} : drawn), $defs: DEFINITIONS };
      const validate = ajv.compile(schema);
      for (let j = 0; j < 3; j++) {
        walks++;
        const answer = await walker
          .walk({ form: { kind: 'json', schema }, param: 'schema' }, random, 150)
          .catch(unsatisfiable);
        if (answer === undefined) continue;
        ended++;
        const what = `schema ${i}: ${JSON.stringify(schema)}\nanswer: ${answer}`;
        let value: unknown;
        assert.doesNotThrow(() => (value = JSON.parse(answer)), what);
        assert.ok(validate(value), `${what}\n${JSON.stringify(validate.errors)}`);
      }
    }
    assert.ok(ended > 0.6 * walks, `only ${ended} of ${walks} answers came to an end`);
  });
});

/** What is required may be forbidden by another part of a random schema. */
function unsatisfiable(error: unknown): undefined {
  assert.match(String(error), /no text of finite length satisfies it/);
}
