import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deflateSync, gunzipSync, gzipSync, inflateSync } from 'node:zlib';
import { serve, type Reply } from './serving.ts';

const TEXT = { name: 'TEXT', shape: [2, 1], datatype: 'BYTES', data: ['ab', 'c'] };

/** BYTES elements as binary requests carry them. */
function packed(...texts: (string | Uint8Array)[]): Buffer {
  return Buffer.concat(
    texts.flatMap((text) => {
      const bytes = Buffer.from(text as string);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      return [length, bytes];
    }),
  );
}

function binaryRequest(json: object, ...tensors: Uint8Array[]): { body: Buffer; headers: Record<string, string> } {
  const head = Buffer.from(JSON.stringify(json));
  return {
    body: Buffer.concat([head, ...tensors]),
    headers: { 'inference-header-content-length': String(head.length), 'content-type': 'application/octet-stream' },
  };
}

test('server and model metadata', async (t) => {
  const { get } = await serve(t);
  const server = await (await get('/v2?anything=1')).json();
  const repository = ['model_repository', 'model_repository(unload_dependents)', 'schedule_policy'];
  const more = ['model_configuration', 'binary_tensor_data', 'parameters', 'statistics', 'trace', 'logging'];
  const extensions = ['classification', 'sequence', ...repository, ...more];
  assert.deepEqual(server, { name: 'triton', version: '0.0.1', extensions });
  const model = await (await get('/v2/models/embed')).json();
  assert.deepEqual(model, {
    name: 'embed',
    versions: ['1'],
    platform: 'rose',
    inputs: [
      { name: 'TEXT', datatype: 'BYTES', shape: [-1, 1] },
      { name: 'INPUT_IDS', datatype: 'INT64', shape: [-1, -1] },
      { name: 'ATTENTION_MASK', datatype: 'INT64', shape: [-1, -1] },
    ],
    outputs: [{ name: 'EMBEDDING', datatype: 'FP32', shape: [-1, 4] }],
  });
  const config = await (await get('/v2/models/chat/versions/1/config')).json();
  assert.equal(config.max_batch_size, 0);
  assert.deepEqual(config.model_transaction_policy, { decoupled: true });
  assert.equal(config.input[0].data_type, 'TYPE_STRING');
  assert.equal(config.dynamic_batching, undefined);
  const topics = await (await get('/v2/models/org%2Ftopics/config')).json();
  assert.equal(topics.name, 'org/topics');
  assert.deepEqual(topics.output[0].dims, [2]);
  assert.deepEqual(topics.parameters.labels, { string_value: 'sea, land' });
});

test('health tells the truth, and clients that read bodies find what they look for', async (t) => {
  const { url, hub } = await serve(t);
  const get = async (path: string): Promise<[number, unknown]> => {
    const response = await fetch(url + path);
    return [response.status, await response.json()];
  };
  assert.deepEqual(await get('/v2/health/live'), [200, { live: true }]);
  assert.deepEqual(await get('/v2/health/ready'), [200, { ready: true }]);
  assert.deepEqual(await get('/v2/models/chat/ready'), [200, { name: 'chat', ready: true }]);
  hub.healthy = false;
  assert.deepEqual(await get('/v2/health/live'), [200, { live: true }]);
  assert.deepEqual(await get('/v2/health/ready'), [400, { ready: false }]);
  assert.deepEqual(await get('/v2/models/chat/ready'), [400, { error: 'Model version not ready' }]);
});

test('paths and methods that do not exist', async (t) => {
  const { url } = await serve(t);
  const cases: [string, string, number, string][] = [
    ['GET', '/v2/nothing', 404, 'Not Found'],
    ['GET', '/base/v2/health/live', 404, 'Not Found'],
    ['GET', '/v2/models/embed/versions/abc', 404, 'Not Found'],
    ['POST', '/v2/health/live', 405, 'Method Not Allowed'],
    ['GET', '/v2/models/embed/infer', 405, 'Method Not Allowed'],
    ['DELETE', '/v2/models/chat/generate_stream', 405, 'Method Not Allowed'],
    ['GET', '/v2/models/nope', 404, "Request for unknown model: 'nope' is not found"],
    ['GET', '/v2/models/embed/versions/99/ready', 404, "Request for unknown model: 'embed' version 99 is not found"],
    ['POST', '/v2/models/nope/infer', 404, "Request for unknown model: 'nope' is not found"],
  ];
  for (const [method, path, status, message] of cases) {
    const response = await fetch(url + path, { method });
    assert.equal(response.headers.get('content-type'), 'application/json', path);
    assert.deepEqual([response.status, await response.json()], [status, { error: message }], path);
  }
});

test('texts to embeddings, in JSON', async (t) => {
  const { post } = await serve(t);
  const response = await post('/v2/models/embed/versions/1/infer', { id: '42', inputs: [TEXT] });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'application/json');
  const body = await response.json();
  assert.equal(body.id, '42');
  assert.equal(body.model_version, '1');
  assert.deepEqual(body.outputs[0].shape, [2, 4]);
  const [a, b] = body.outputs[0].data;
  assert.equal(a, Math.fround(a));
  assert.ok(Math.abs(a / b - 98 / 99) < 1e-6);
});

test('doubles are printed as doubles, and there is no id where none was sent', async (t) => {
  const { post } = await serve(t);
  const inputs = ['QUERY', 'TEXT'].map((name) => ({ name, shape: [1, 1], datatype: 'BYTES', data: [['a b']] }));
  const text = await (await post('/v2/models/rerank/infer', { inputs, outputs: [{ name: 'LOGITS' }] })).text();
  const outputs = '[{"name":"LOGITS","datatype":"FP32","shape":[1,1],"data":[1.0]}]';
  assert.equal(text, `{"model_name":"rerank","model_version":"1","outputs":${outputs}}`);
});

test('scores: the sigmoid of one label, the softmax over several', async (t) => {
  const { post } = await serve(t);
  const inputs = (text: string): object[] =>
    [
      ['QUERY', 'a'],
      ['TEXT', text],
    ].map(([name, data]) => ({ name, shape: [1, 1], datatype: 'BYTES', data: [data] }));
  const one = await (await post('/v2/models/rerank/infer', { inputs: inputs('b') })).json();
  assert.ok(Math.abs(one.outputs[0].data[0] - 1 / (1 + Math.E)) < 1e-6);
  const two = await (await post('/v2/models/org%2Ftopics/infer', { inputs: inputs('b') })).json();
  assert.deepEqual(two.outputs[1].data, [0, 1]);
  assert.ok(Math.abs(two.outputs[0].data[1] - Math.E / (1 + Math.E)) < 1e-6);
});

test('binary tensors both ways, unaligned', async (t) => {
  const { post, hub } = await serve(t);
  const bytes = packed('ab', 'é');
  const input = { name: 'TEXT', shape: [2, 1], datatype: 'BYTES', parameters: { binary_data_size: bytes.length } };
  const outputs = [{ name: 'EMBEDDING', parameters: { binary_data: true } }];
  for (const id of ['', 'x', 'xy', 'xyz']) {
    const { body, headers } = binaryRequest({ id, inputs: [input], outputs }, bytes);
    const response = await post('/v2/models/embed/infer', body, { headers });
    assert.equal(response.headers.get('content-type'), 'application/octet-stream');
    const length = Number(response.headers.get('inference-header-content-length'));
    const reply = Buffer.from(await response.arrayBuffer());
    const json = JSON.parse(reply.subarray(0, length).toString());
    assert.deepEqual(json.outputs[0].parameters, { binary_data_size: 32 });
    assert.equal(reply.length - length, 32);
    assert.ok(Math.abs(reply.readFloatLE(length) / reply.readFloatLE(length + 4) - 98 / 99) < 1e-6);
  }
  assert.deepEqual(hub.seen.embed?.inputs, ['ab', 'é']);
});

test('binary_data_output decides only where no outputs are listed', async (t) => {
  const { post } = await serve(t);
  const parameters = { binary_data_output: true };
  const all = await post('/v2/models/embed/infer', { inputs: [TEXT], parameters });
  assert.ok(all.headers.has('inference-header-content-length'));
  const listed = await post('/v2/models/embed/infer', { inputs: [TEXT], parameters, outputs: [{ name: 'EMBEDDING' }] });
  assert.equal(listed.headers.get('content-type'), 'application/json');
});

test('token ids: INT64 and INT32, the mask cuts padding off, types go along', async (t) => {
  const { post, hub } = await serve(t);
  const ids = {
    name: 'INPUT_IDS',
    shape: [2, 3],
    datatype: 'INT32',
    data: [
      [97, 98, 99],
      [100, 0, 0],
    ],
  };
  const mask = { name: 'ATTENTION_MASK', shape: [2, 3], datatype: 'INT64', data: [1, 1, 1, 1, 0, 0] };
  assert.equal((await post('/v2/models/embed/infer', { inputs: [ids, mask] })).status, 200);
  assert.deepEqual(hub.seen.embed?.inputs, [[97, 98, 99], [100]]);
  const types = { name: 'TOKEN_TYPE_IDS', shape: [2, 3], datatype: 'INT64', data: [0, 1, 1, 0, 0, 0] };
  assert.equal((await post('/v2/models/rerank/infer', { inputs: [ids, mask, types] })).status, 200);
  assert.deepEqual(hub.seen.score?.inputs, [
    { tokens: [97, 98, 99], types: [0, 1, 1] },
    { tokens: [100], types: [0] },
  ]);
  const hole = { ...mask, data: [1, 0, 1, 1, 0, 0] };
  const refused = await post('/v2/models/embed/infer', { inputs: [ids, hole] });
  assert.deepEqual([refused.status, /padding must stand at the end/.test(await refused.text())], [400, true]);
});

test('parameters reach the engine', async (t) => {
  const { post, hub } = await serve(t);
  const parameters = {
    truncate: true,
    dimensions: 2,
    timeout: 5000,
    priority: 1,
    sequence_id: 'a',
    sequence_start: true,
  };
  const body = await (await post('/v2/models/embed/infer', { inputs: [TEXT], parameters })).json();
  assert.deepEqual(body.outputs[0].shape, [2, 2]);
  const { truncate, dimensions, timeoutMs } = hub.seen.embed!;
  assert.deepEqual({ truncate, dimensions, timeoutMs }, { truncate: true, dimensions: 2, timeoutMs: 5 });
});

test('compressed requests and replies', async (t) => {
  const { post } = await serve(t);
  const json = Buffer.from(JSON.stringify({ inputs: [TEXT] }));
  for (const [encoding, compress] of [
    ['gzip', gzipSync],
    ['deflate', deflateSync],
  ] as const) {
    const response = await post('/v2/models/embed/infer', compress(json), {
      headers: { 'content-encoding': encoding },
    });
    assert.equal(response.status, 200, encoding);
  }
  // With compression the header's length counts decompressed bytes.
  const bytes = packed('ab', 'c');
  const input = { name: 'TEXT', shape: [2, 1], datatype: 'BYTES', parameters: { binary_data_size: bytes.length } };
  const { body, headers } = binaryRequest({ inputs: [input] }, bytes);
  const both = await post('/v2/models/embed/infer', gzipSync(body), {
    headers: { ...headers, 'content-encoding': 'gzip' },
  });
  assert.equal(both.status, 200);

  // fetch decompresses by itself; the header shows what was sent.
  for (const [accept, expected] of [
    ['gzip', 'gzip'],
    ['gzip;q=0.5, deflate;q=0.8', 'deflate'],
    ['identity, gzip;q=0.5', null],
    ['br', null],
  ] as const) {
    const init = { headers: { 'accept-encoding': accept } };
    const response = await post('/v2/models/embed/infer', { inputs: [TEXT] }, init);
    assert.equal(response.headers.get('content-encoding'), expected, accept);
    assert.equal((await response.json()).model_name, 'embed');
  }
  assert.deepEqual(inflateSync(deflateSync(json)), gunzipSync(gzipSync(json)));
  const unknown = await post('/v2/models/embed/infer', json, { headers: { 'content-encoding': 'br' } });
  assert.deepEqual([unknown.status, await unknown.json()], [501, { error: 'Unsupported compression type' }]);
  assert.equal(unknown.headers.get('accept-encoding'), 'gzip, deflate');
  const broken = await post('/v2/models/embed/infer', json, { headers: { 'content-encoding': 'gzip' } });
  assert.equal(broken.status, 400);
});

test('bodies over the limit are refused, also those that only grow over it', async (t) => {
  const { post } = await serve(t, { maxBodyBytes: 10_000 });
  const refused = async (response: Reply): Promise<void> => {
    assert.equal(response.status, 400);
    assert.match((await response.json()).error, /exceeds the maximum allowed/);
  };
  await refused(await post('/v2/models/embed/infer', { inputs: [{ ...TEXT, data: ['x'.repeat(10_000)] }] }));
  const bomb = gzipSync(Buffer.alloc(1_000_000, 0x20));
  await refused(await post('/v2/models/embed/infer', bomb, { headers: { 'content-encoding': 'gzip' } }));
  const huge = { name: 'INPUT_IDS', shape: [1, 2 ** 40], datatype: 'INT64', data: [1] };
  await refused(await post('/v2/models/embed/infer', { inputs: [huge] }));
});

/** What is wrong, the request, the status and part of the message. */
const IDS = { name: 'INPUT_IDS', shape: [1, 2], datatype: 'INT64', data: [1, 2] };
const BAD: readonly [string, unknown, number, string][] = [
  ['not JSON', '{"inputs":[', 500, 'failed to parse the request JSON buffer: Invalid value. at 11'],
  ['no body', '', 500, 'failed to parse the request JSON buffer: The document is empty. at 0'],
  ['not an object', '[]', 500, 'failed to parse the request JSON buffer'],
  ['no inputs', {}, 500, "Unable to parse 'inputs'"],
  [
    'inputs of the wrong type',
    { inputs: {} },
    500,
    "Unable to parse 'inputs': attempt to access JSON non-array as array",
  ],
  ['no input', { inputs: [] }, 400, "expected exactly one of the inputs 'TEXT' and 'INPUT_IDS' for model 'embed'"],
  [
    'both inputs',
    { inputs: [{ ...TEXT, shape: [1, 1], data: ['a'] }, IDS] },
    400,
    'expected exactly one of the inputs',
  ],
  ['unknown input', { inputs: [{ ...TEXT, name: 'X' }] }, 400, "unexpected inference input 'X' for model 'embed'"],
  ['twice', { inputs: [TEXT, TEXT] }, 400, "[request id: <id_unknown>] input 'TEXT' already exists in request"],
  ['id in messages', { id: '7', inputs: [TEXT, TEXT] }, 400, "[request id: 7] input 'TEXT' already exists"],
  ['id of the wrong type', { id: 7, inputs: [TEXT] }, 500, "Unable to parse 'id'"],
  [
    'unknown output',
    { inputs: [TEXT], outputs: [{ name: 'X' }] },
    400,
    "unexpected inference output 'X' for model 'embed'",
  ],
  [
    'output twice',
    { inputs: [TEXT], outputs: [{ name: 'EMBEDDING' }, { name: 'EMBEDDING' }] },
    400,
    "output 'EMBEDDING' already exists in request",
  ],
  [
    'wrong datatype',
    { inputs: [{ name: 'TEXT', shape: [1, 1], datatype: 'INT32', data: [1] }] },
    400,
    "inference input 'TEXT' data-type is 'INT32', but model 'embed' expects 'BYTES'",
  ],
  ['invented datatype', { inputs: [{ ...TEXT, datatype: 'FP8' }] }, 400, 'invalid datatype for input TEXT'],
  [
    'wrong shape',
    { inputs: [{ ...TEXT, shape: [2] }] },
    400,
    'Expected [-1,1], got [2]. NOTE: Setting a non-zero max_batch_size',
  ],
  [
    'negative dimension',
    { inputs: [{ ...TEXT, shape: [-1, 1] }] },
    500,
    "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
  ],
  [
    'overflowing shape',
    { inputs: [{ ...IDS, shape: [2 ** 40, 2 ** 40] }] },
    400,
    'causes total element count to exceed maximum size of',
  ],
  [
    'too large a batch',
    { inputs: [{ ...TEXT, shape: [257, 1], data: Array(257).fill('a') }] },
    400,
    "inference request batch-size must be <= 256 for 'embed'",
  ],
  ['an empty batch', { inputs: [{ ...TEXT, shape: [0, 1], data: [] }] }, 400, 'batch'],
  [
    'batches differ',
    { inputs: [IDS, { ...IDS, name: 'ATTENTION_MASK', shape: [2, 1] }] },
    400,
    "input 'ATTENTION_MASK' batch size does not match other inputs for 'embed'",
  ],
  [
    'widths differ',
    { inputs: [IDS, { ...IDS, name: 'ATTENTION_MASK', shape: [1, 1], data: [1] }] },
    400,
    'rows of 1 elements',
  ],
  [
    'too few texts',
    { inputs: [{ ...TEXT, data: ['a'] }] },
    400,
    "expected 2 string elements for inference input 'TEXT' for model 'embed', got 1",
  ],
  [
    'too few values',
    { inputs: [{ ...IDS, data: [1] }] },
    500,
    "Failed to parse 'data' field: shape does not match true shape",
  ],
  [
    'too many values',
    { inputs: [{ ...IDS, data: [1, [2, 3]] }] },
    500,
    "Unable to parse 'data': Shape does not match true shape of 'data' field",
  ],
  ['number for text', { inputs: [{ ...TEXT, data: [1, 2] }] }, 500, 'attempt to access JSON non-string as string'],
  [
    'text for number',
    { inputs: [{ ...IDS, data: ['1', '2'] }] },
    500,
    'attempt to access JSON non-signed-integer as signed-integer',
  ],
  ['fraction for integer', { inputs: [{ ...IDS, data: [1.5, 2] }] }, 500, 'non-signed-integer'],
  [
    'beyond the type',
    { inputs: [{ ...IDS, datatype: 'INT32', data: [2 ** 31, 2] }] },
    400,
    '2147483648 does not fit into INT32',
  ],
  [
    'FP16 in JSON',
    { inputs: [{ ...IDS, datatype: 'FP16' }] },
    400,
    'receiving FP16 data via JSON is not supported. Please use the binary data format for input INPUT_IDS',
  ],
  [
    'deep nesting',
    { inputs: [{ ...IDS, data: JSON.parse(`${'['.repeat(101)}1${']'.repeat(101)}`) }] },
    400,
    'JSON nesting depth exceeds maximum allowed limit (100)',
  ],
  ['no token id', { inputs: [{ ...IDS, data: [2 ** 40, 2] }] }, 400, 'INPUT_IDS holds 1099511627776'],
  ['no data', { inputs: [{ ...TEXT, data: undefined }] }, 400, 'Input must set only one of the following fields'],
  ['two sources', { inputs: [{ ...TEXT, parameters: { binary_data_size: 3 } }] }, 400, "set 'data' 'binary_data_size'"],
  [
    'binary without header',
    { inputs: [{ ...TEXT, data: undefined, parameters: { binary_data_size: 3 } }] },
    400,
    "must specify valid 'Infer-Header-Content-Length'",
  ],
  [
    'shared memory',
    { inputs: [{ ...TEXT, data: undefined, parameters: { shared_memory_region: 'r' } }] },
    404,
    "Unable to find shared memory region: 'r'",
  ],
  [
    'reserved parameter',
    { inputs: [TEXT], parameters: { triton_x: 1 } },
    400,
    "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
  ],
  [
    'structured parameter',
    { inputs: [TEXT], parameters: { x: [1] } },
    400,
    "parameter 'x' has invalid type. It should be either 'int', 'bool', or 'string'.",
  ],
  ['unknown parameter', { inputs: [TEXT], parameters: { truncat: true } }, 400, "unexpected parameter 'truncat'"],
  [
    'priority of the wrong type',
    { inputs: [TEXT], parameters: { priority: 'high' } },
    500,
    "Unable to parse 'priority'",
  ],
  ['engine refuses', { inputs: [{ ...TEXT, data: ['!early', 'a'] }] }, 400, 'the prompt is too long'],
  ['queue is full', { inputs: [{ ...TEXT, data: ['!full', 'a'] }] }, 503, 'Exceeds maximum queue size'],
];

test('infer refuses what does not fit, with the texts clients look for', async (t) => {
  const { post, log } = await serve(t);
  for (const [what, body, status, message] of BAD) {
    const response = await post('/v2/models/embed/infer', body);
    const { error } = await response.json();
    assert.equal(response.status, status, `${what}: ${error}`);
    assert.ok(error.includes(message), `${what}: ${error}`);
  }
  assert.deepEqual(log, []);
});

test('a fault of the engine is 500 and goes to the log with its stack', async (t) => {
  const { post, log } = await serve(t);
  const response = await post('/v2/models/embed/infer', { inputs: [{ ...TEXT, data: ['!fault', ''] }] });
  assert.deepEqual([response.status, await response.json()], [500, { error: 'a bug in the engine' }]);
  assert.equal(log.length, 1);
  assert.match(log[0], /fake-hub/);
});

test('binary requests that do not add up', async (t) => {
  const { post } = await serve(t);
  const bytes = packed('ab', 'c');
  const input = (size: number): object => ({
    inputs: [{ name: 'TEXT', shape: [2, 1], datatype: 'BYTES', parameters: { binary_data_size: size } }],
  });
  const refuses = async (body: Buffer, header: string, message: RegExp): Promise<void> => {
    const response = await post('/v2/models/embed/infer', body, {
      headers: { 'inference-header-content-length': header },
    });
    const { error } = await response.json();
    assert.equal(response.status, 400, error);
    assert.match(error, message);
  };
  const { body, headers } = binaryRequest(input(bytes.length), bytes);
  const length = headers['inference-header-content-length'];
  await refuses(body, 'abc', /Unable to parse Inference-Header-Content-Length, got: abc/);
  await refuses(body, '-1', /inference header size should be in range \(0, \d+\), got: -1/);
  await refuses(body, String(body.length + 1), /inference header size should be in range/);
  await refuses(body, '99999999999', /value is out of range/);
  await refuses(
    body,
    '0',
    /Raw request must only have 1 input \(found 1\) to be deduced but got 3 inputs in 'embed' model configuration/,
  );
  await refuses(Buffer.concat([body, Buffer.alloc(1)]), length, /unexpected additional input data for model 'embed'/);
  await refuses(
    body.subarray(0, -1),
    length,
    /unexpected size for input 'TEXT', expecting 1 additional bytes for model 'embed'/,
  );
  const lying = binaryRequest(input(8), Buffer.from([200, 0, 0, 0, 1, 0, 0, 0]));
  await refuses(lying.body, lying.headers['inference-header-content-length'], /incomplete string data/);
  const latin = binaryRequest(input(9), packed(Uint8Array.of(0xff), ''));
  await refuses(
    latin.body,
    latin.headers['inference-header-content-length'],
    /element 0 of inference input 'TEXT' is not UTF-8/,
  );
  const short = {
    inputs: [{ name: 'INPUT_IDS', shape: [1, 2], datatype: 'INT64', parameters: { binary_data_size: 8 } }],
  };
  const ids = binaryRequest(short, Buffer.alloc(8));
  await refuses(
    ids.body,
    ids.headers['inference-header-content-length'],
    /input byte size mismatch for input 'INPUT_IDS' for model 'embed'. Expected 16, got 8/,
  );
});

test('a model that streams is not served by infer', async (t) => {
  const { post } = await serve(t);
  const response = await post('/v2/models/chat/infer', { inputs: [] });
  const message = "HTTP end point doesn't support models with decoupled transaction policy";
  assert.deepEqual([response.status, await response.json()], [501, { error: message }]);
});
