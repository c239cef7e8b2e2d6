import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { config, makeRepository, model, numbers, write } from './repository-kit.ts';
import { serve } from './serving.ts';

/** Answers with how many requests it was given together at most, and which elements it saw. */
const SEEN = `import { tensor, texts } from '@rose/server/backend';
let most = 0;
const seen = [];
export default class {
  execute(requests) {
    const asked = requests[0].input('IN').data[0] === 77;
    if (!asked) most = Math.max(most, requests.length);
    return requests.map((request) => {
      if (!asked) seen.push([...request.input('IN').data], texts(request.input('TEXT')), request.input('IN').shape);
      return { outputs: { OUT: tensor('BYTES', [1, 1], [JSON.stringify({ most, seen })]) } };
    });
  }
}`;
const CONFIG = `backend: "typescript" max_batch_size: 4
  input { name: "IN" data_type: TYPE_INT32 dims: 2 } input { name: "TEXT" data_type: TYPE_STRING dims: 1 }
  output { name: "OUT" data_type: TYPE_STRING dims: 1 }`;
const warm = (name: string, batch: number, of: string, text = 'zero_data: true', more = ''): string => `
  model_warmup { name: "${name}" batch_size: ${batch} ${more}
    inputs { key: "IN" value { data_type: TYPE_INT32 dims: 2 ${of} } }
    inputs { key: "TEXT" value { data_type: TYPE_STRING dims: 1 ${text} } } }`;

test('samples are executed in each instance before it serves, as batches, and counted', async (t) => {
  const directory = makeRepository(t, {
    'm/config.pbtxt': [
      CONFIG,
      warm('zeros', 3, 'zero_data: true', 'random_data: true', 'count: 2'),
      warm('file', 1, 'input_data_file: "ints"', 'input_data_file: "text"'),
      warm('none', 0, 'zero_data: true'),
    ].join('\n'),
    'm/1/model.ts': SEEN,
    'm/warmup/ints': '\x05\0\0\0\x06\0\0\0more',
    'm/warmup/text': '\x02\0\0\0hi',
  });
  const { get, post } = await serve(t, { repository: { directories: [directory] } });
  const inputs = [
    { name: 'IN', datatype: 'INT32', shape: [1, 2], data: [77, 0] },
    { name: 'TEXT', datatype: 'BYTES', shape: [1, 1], data: [''] },
  ];
  const reply = await (await post('/v2/models/m/infer', { inputs })).json();
  const { most, seen } = JSON.parse(reply.outputs[0].data[0]);
  assert.equal(most, 3);
  const zeros = [[0, 0], [''], [1, 2]];
  assert.deepEqual(seen, [...Array.from({ length: 6 }, () => zeros).flat(), [5, 6], ['hi'], [1, 2]]);
  // As with Triton, samples are in the statistics: two batches of three, one of one, and ours.
  const [of] = (await (await get('/v2/models/m/stats')).json()).model_stats;
  assert.deepEqual([of.inference_count, of.execution_count, of.inference_stats.success.count], [8, 4, 8]);
  assert.deepEqual(
    of.batch_stats.map((batch: { batch_size: number; compute_infer: { count: number } }) => [
      batch.batch_size,
      batch.compute_infer.count,
    ]),
    [
      [1, 2],
      [3, 2],
    ],
  );
  const shown = await (await get('/v2/models/m/config')).json();
  assert.deepEqual([shown.model_warmup[0].count, shown.model_warmup[0].inputs.IN.zero_data], [2, true]);
});

async function loadOf(t: TestContext, files: Record<string, string>) {
  const directory = makeRepository(t, files);
  const { post } = await serve(t, { repository: { directories: [directory], mode: 'explicit' } });
  const load = async (): Promise<string> => {
    const response = await post('/v2/repository/models/m/load', '');
    return response.status === 200 ? '' : (await response.json()).error;
  };
  return { directory, load, post };
}

test('a sample that cannot be made, or fails, keeps the version from being ready', async (t) => {
  const { directory, load, post } = await loadOf(t, { 'm/1/model.ts': SEEN, 'm/warmup/short': 'abc' });
  const refused: [string, RegExp][] = [
    [
      warm('w', 1, 'zero_data: true').replace('dims: 2', 'dims: 9223372036854775807'),
      /warmup input 'IN' of shape \[1,9223372036854776000\] has more than 2147483648 bytes/,
    ],
    [warm('w', 1, ''), /warmup setting expects input 'IN' to have input_data_type set/],
    [
      warm('w', 1, 'input_data_file: "none"'),
      /cannot read 'warmup\/none' for warmup input 'IN': there is no such file/,
    ],
    [warm('w', 1, 'input_data_file: "../1/model.ts"'), /it must stay within the model directory/],
    [
      warm('w', 1, 'input_data_file: "short"'),
      /warmup setting expects 8 bytes, but the data provided from short only has 3 bytes/,
    ],
    [
      warm('w', 1, 'zero_data: true').replace('dims: 2', 'dims: -1'),
      /variable-size dimensions are specified for input 'IN'/,
    ],
    [warm('w', 1, 'zero_data: true').replace('dims: 2', 'dims: 3'), /unexpected shape for input 'IN' for model 'm'/],
    [warm('w', 1, 'zero_data: true').replace('"TEXT"', '"OTHER"'), /unexpected inference input 'OTHER' for model 'm'/],
  ];
  for (const [text, pattern] of refused) {
    write(directory, { 'm/config.pbtxt': `${CONFIG} ${text}` });
    const error = await load();
    assert.match(error, pattern);
    assert.match(error, /^load failed for model 'm': version 1 is at UNAVAILABLE state: /);
  }
  write(directory, { 'm/config.pbtxt': `${CONFIG} ${warm('w', 70_000, 'zero_data: true')}` });
  assert.match(await load(), /'batch_size' of model_warmup 'w' must be at most 65536 for m/);
  const failing = model("{ OUT: (() => { throw new Error('cold'); })() }");
  const sample =
    'model_warmup { name: "w" batch_size: 1 inputs { key: "IN" value { data_type: TYPE_INT32 dims: 1 zero_data: true } } }';
  write(directory, { 'm/config.pbtxt': config('TYPE_INT32', sample), 'm/1/model.ts': failing });
  assert.match(await load(), /UNAVAILABLE state: failed to run warmup sample 'w': cold;/);
  assert.equal((await post('/v2/models/m/infer', numbers(1))).status, 404);
});

test('controls of sequences may be warmed too, and so may decoupled models', async (t) => {
  const files = {
    'm/config.pbtxt': config(
      'TYPE_INT32',
      `sequence_batching { control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } } }
       model_warmup { name: "w" batch_size: 1
         inputs { key: "IN" value { data_type: TYPE_INT32 dims: 1 zero_data: true } }
         inputs { key: "START" value { data_type: TYPE_INT32 dims: 1 zero_data: true } } }`,
    ),
    'm/1/model.ts': model("{ OUT: request.input('START', 'INT32') }"),
  };
  const { directory, load } = await loadOf(t, files);
  assert.equal(await load(), '');
  write(directory, {
    'm/config.pbtxt': config(
      'TYPE_INT32',
      `model_transaction_policy { decoupled: true }
       model_warmup { name: "w" batch_size: 1 inputs { key: "IN" value { data_type: TYPE_INT32 dims: 1 zero_data: true } } }`,
    ),
    'm/1/model.ts': `export default class { execute([request]) {
      for (let i = 0; i < 100; i++) void request.sender.send({ outputs: { OUT: request.input('IN') } });
      request.sender.end();
    } }`,
  });
  assert.equal(await load(), '');
});
