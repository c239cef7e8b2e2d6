import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test, type TestContext } from 'node:test';
import { HttpClient, InferenceError, tensor, texts } from '@rose/client';
import { startRose, type RoseServer } from './rose-server.ts';

let server: RoseServer;
let client: HttpClient;

before(async () => {
  server = await startRose(['simple', 'simple_identity', 'identity_fp32', 'simple_string', 'mock_llm', 'parameter']);
  client = new HttpClient(`${server.url}/`);
});
after(() => server.close());

const sixteen = Int32Array.from({ length: 16 }, (_, i) => i);
const simple = {
  INPUT0: tensor('INT32', [1, 16], sixteen),
  INPUT1: tensor('INT32', [1, 16], new Int32Array(16).fill(1)),
};

/** Rejects with an InferenceError that has these fields. */
async function fails(promise: Promise<unknown>, kind: string, status: unknown, message: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof InferenceError, String(error));
    assert.deepEqual([error.kind, error.status], [kind, status], error.message);
    assert.match(error.message, message);
    return true;
  });
}

/** A server of the test's own. */
async function serve(
  t: TestContext,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  const own = createServer(answer).listen(0, '127.0.0.1');
  t.after(() => {
    own.closeAllConnections();
    own.close();
  });
  await new Promise((resolve) => own.once('listening', resolve));
  return `http://127.0.0.1:${(own.address() as AddressInfo).port}`;
}

test('outputs are views of one answer', async () => {
  const response = await client.infer('simple', { id: 'a', version: 1, inputs: simple });
  const [sum, difference] = [response.output('OUTPUT0', 'INT32'), response.output('OUTPUT1', 'INT32')];
  assert.deepEqual([response.id, response.model, response.version, response.final], ['a', 'simple', '1', true]);
  assert.deepEqual([sum.shape, [...sum.data]], [[1, 16], [...sixteen].map((x) => x + 1)]);
  assert.deepEqual(
    [...difference.data],
    [...sixteen].map((x) => x - 1),
  );
  assert.equal(sum.data.buffer, difference.data.buffer);
  assert.throws(() => response.output('OUTPUT0', 'FP32'), /output 'OUTPUT0' is INT32, not FP32/);
  assert.throws(() => response.output('OUTPUT2', 'INT32'), /it has OUTPUT0, OUTPUT1/);
  const one = await client.infer('simple', { inputs: simple, outputs: ['OUTPUT1'] });
  assert.deepEqual(
    one.outputs.map(({ name }) => name),
    ['OUTPUT1'],
  );
});

test('texts and bytes of any content; large tensors, compressed or not', async () => {
  const bytes = Uint8Array.of(0, 255, 10);
  const identity = await client.infer('simple_identity', {
    inputs: { INPUT0: tensor('BYTES', [1, 3], ['å', '', bytes]) },
  });
  assert.deepEqual(identity.output('OUTPUT0', 'BYTES').data[2], bytes);
  const words = await client.infer('simple_identity', { inputs: { INPUT0: texts(['a', 'ß'], [1, 2]) } });
  assert.deepEqual(words.texts('OUTPUT0'), ['a', 'ß']);
  const large = Float32Array.from({ length: 300_000 }, (_, i) => Math.fround(Math.sin(i)));
  const inputs = { INPUT0: tensor('FP32', [1, large.length], large) };
  for (const format of [undefined, 'gzip', 'deflate'] as const) {
    const options = format && { requestCompression: format, responseCompression: format };
    const { data } = (await new HttpClient(server.url, options).infer('identity_fp32', { inputs })).output(
      'OUTPUT0',
      'FP32',
    );
    assert.ok(
      Buffer.from(data.buffer, data.byteOffset, data.byteLength).equals(Buffer.from(large.buffer)),
      `compression: ${format}`,
    );
  }
});

test('parameters keep their types, integers every bit', async () => {
  const parameters = { text: 'x', whole: 2n ** 53n + 1n, half: 0.5, yes: true };
  const response = await client.infer('parameter', {
    inputs: { INPUT0: tensor('FP32', [1], Float32Array.of(1)) },
    parameters,
  });
  const [keys, values] = [response.texts('key'), response.texts('value')];
  const seen = Object.fromEntries(keys.map((key, i) => [key, values[i]]));
  assert.equal(seen.text, 'x');
  assert.equal(seen.whole, '9007199254740993');
  assert.match(seen.half, /^0\.5/);
});

test('the server’s errors come with status and message', async () => {
  await fails(
    client.infer('nobody', { inputs: {} }),
    'refused',
    404,
    /^Request for unknown model: 'nobody' is not found$/,
  );
  await fails(client.infer('simple', { inputs: {} }), 'refused', 400, /expected 2 inputs but got 0 inputs/);
  await fails(client.modelConfig('simple', 7), 'refused', 404, /version 7 is not found/);
  await fails(client.loadModel('simple', { config: '{' }), 'refused', 500, /Invalid config override/);
  assert.deepEqual([await client.isModelReady('nobody'), await client.isModelReady('simple', 1)], [false, true]);
  assert.throws(() => tensor('INT32', [3], new Int32Array(2)), /the shape \[3\] has 3 elements, the data 2/);
  assert.throws(() => tensor('FP32', [2], new Int32Array(2) as never), /elements of FP32 are a Float32Array/);
  assert.throws(() => tensor('FP32', [-1], new Float32Array(1)), /\[-1\] is no shape/);
});

test('generate, its stream, and an error in the middle of one', async () => {
  const fields = { PROMPT: 'hello', STREAM: false };
  const whole = await client.generate<{ TEXT: string; model_name: string }>('mock_llm', fields);
  assert.deepEqual([whole.TEXT, whole.model_name], ['hello', 'mock_llm']);
  const events: string[] = [];
  for await (const event of client.generateStream<{ TEXT: string }>('mock_llm', {
    ...fields,
    STREAM: true,
    REPETITION: 3,
  })) {
    events.push(event.TEXT);
  }
  assert.deepEqual(events, ['hello', 'hello', 'hello']);
  const failing = async (): Promise<void> => {
    const failing = { ...fields, STREAM: true, REPETITION: 2, FAIL_LAST: true };
    const stream = client.generateStream<{ TEXT: string }>('mock_llm', failing);
    for await (const event of stream) events.push(event.TEXT);
  };
  await fails(failing(), 'refused', undefined, /An Error Occurred/);
  assert.equal(events.length, 5);
  await fails(client.generateStream('nobody', fields).next(), 'refused', 404, /unknown model/);
});

test('the repository: a model from files, its configuration, statistics, and gone again', async () => {
  const config = {
    backend: 'typescript',
    input: [{ name: 'IN', data_type: 'TYPE_INT64', dims: [-1] }],
    output: [{ name: 'OUT', data_type: 'TYPE_INT64', dims: [-1] }],
  };
  const code = `export default class {
    async execute(requests) { return requests.map((request) => ({ outputs: { OUT: request.input('IN') } })); }
  }`;
  await client.loadModel('brought', { config, files: { '1/model.js': code } });
  const values = BigInt64Array.of(2n ** 62n + 1n, -1n);
  const { data } = (await client.infer('brought', { inputs: { IN: tensor('INT64', [2], values) } })).output(
    'OUT',
    'INT64',
  );
  assert.deepEqual(data, values);
  const loaded = await client.modelConfig('brought');
  assert.deepEqual([loaded.max_batch_size, loaded.input[0].dims], [0, [-1]]);
  const [statistics] = await client.statistics('brought', '1');
  assert.deepEqual([statistics.inference_count, statistics.inference_stats.success.count], [1, 1]);
  const entry = { name: 'brought', version: '1', state: 'READY' };
  assert.deepEqual(
    (await client.repositoryIndex({ ready: true })).find(({ name }) => name === 'brought'),
    entry,
  );
  await client.unloadModel('brought');
  assert.equal(await client.isModelReady('brought'), false);
  const { name, extensions } = await client.serverMetadata();
  assert.ok(name === 'triton' && extensions.includes('model_repository'));
});

test('a call ends with its signal, or with its time', async () => {
  const slow = { PROMPT: 'x', STREAM: false, DELAY: '30' };
  const controller = new AbortController();
  const under = client.generate('mock_llm', { ...slow, parameters: { DELAY: '30' } }, { signal: controller.signal });
  setTimeout(() => controller.abort(new Error('enough')), 50);
  await assert.rejects(under, /^Error: enough$/);
  await fails(
    client.generate('mock_llm', { ...slow, parameters: { DELAY: '30' } }, { timeoutMs: 50 }),
    'timeout',
    undefined,
    /within 50 ms/,
  );
});

test('what only reads is tried again; inference is not, unless it may be', async (t) => {
  let asked = 0;
  const url = await serve(t, (request, response) => {
    asked++;
    if (request.url === '/v2/models/broken/config') return void request.socket.destroy();
    if (asked % 3 !== 0) {
      return void response.writeHead(503, { 'retry-after': '0' }).end('{"error":"not now"}');
    }
    response
      .setHeader('content-type', 'application/json')
      .end(
        request.method === 'GET'
          ? '{"name":"m"}'
          : '{"model_name":"m","model_version":"1","outputs":[{"name":"A","datatype":"INT64","shape":[2],"data":[[1],[-2]]},{"name":"B","datatype":"BYTES","shape":[1],"data":["t"]}]}',
      );
  });
  const own = new HttpClient(url);
  assert.equal((await own.modelMetadata('m')).name, 'm');
  assert.equal(asked, 3);
  await fails(own.infer('m', { inputs: {} }), 'refused', 503, /^not now$/);
  assert.equal(asked, 4);
  // A server without the binary extension answers in JSON.
  const response = await own.infer('m', { inputs: {} }, { retries: 2 });
  assert.deepEqual(response.output('A', 'INT64').data, BigInt64Array.of(1n, -2n));
  assert.deepEqual(response.texts('B'), ['t']);
  asked = 0;
  await fails(own.modelConfig('broken', undefined, { retries: 1 }), 'network', undefined, /no answer from http:/);
  assert.equal(asked, 2);
  asked = 0;
  assert.deepEqual([await own.isLive(), asked], [false, 1]);
  await fails(
    new HttpClient('http://127.0.0.1:2').serverMetadata({ retries: 0 }),
    'network',
    undefined,
    /no answer from http:\/\/127.0.0.1:2: .*ECONNREFUSED/,
  );
});

test('answers that are none are told from refusals', async (t) => {
  const head = (outputs: object[]): Buffer => Buffer.from(JSON.stringify({ model_name: 'm', outputs }));
  const output = { name: 'A', datatype: 'FP32', shape: [2], parameters: { binary_data_size: 8 } };
  const answers: [Buffer, number | undefined, RegExp][] = [
    [Buffer.from('<html>'), undefined, /is not JSON/],
    [head([output]), head([output]).length, /output 'A' of the answer ends beyond/],
    [head([{ ...output, datatype: 'FP7' }]), undefined, /unknown type FP7|ends beyond/],
    [
      Buffer.concat([head([{ ...output, shape: [3] }]), Buffer.alloc(8)]),
      head([output]).length,
      /the shape \[3\] has 3/,
    ],
    [
      Buffer.concat([head([{ ...output, datatype: 'BYTES' }]), Buffer.alloc(8, 9)]),
      head([output]).length + 1,
      /ends beyond the 8 bytes/,
    ],
  ];
  let next: (typeof answers)[number];
  const url = await serve(t, (_, response) => {
    const [body, length] = next;
    if (length !== undefined) response.setHeader('inference-header-content-length', length);
    response.end(body);
  });
  for (next of answers) await fails(new HttpClient(url).infer('m', { inputs: {} }), 'protocol', undefined, next[2]);
  const html = await serve(t, (_, response) => void response.writeHead(502).end('<html>bad gateway</html>'));
  await fails(new HttpClient(html).infer('m', { inputs: {} }), 'refused', 502, /^502 Bad Gateway$/);
  const cut = await serve(t, (_, response) => {
    response.writeHead(200, { 'content-length': 100 }).write('{');
    setTimeout(() => response.destroy(), 20);
  });
  await fails(new HttpClient(cut).infer('m', { inputs: {} }), 'network', undefined, /no answer from/);
});

test('leaving a stream ends the request; events may come in any pieces', async (t) => {
  const closed = Promise.withResolvers<void>();
  const url = await serve(t, (request, response) => {
    if (request.url?.includes('on/') === true) response.on('close', closed.resolve);
    response.setHeader('content-type', 'text/event-stream');
    const pieces = ['dat', 'a: {"t":"é', '"}\n', '\n', ': comment\n\ndata:{"t":2}\r\n\r\n'];
    const bytes = Buffer.from(pieces.join(''));
    // A byte at a time: no character, line or event comes whole.
    for (const byte of bytes) response.write(Buffer.of(byte));
    if (request.url?.includes('ends')) response.end('data: {"t":3}\n\n');
  });
  const own = new HttpClient(url);
  const seen: unknown[] = [];
  for await (const { t: value } of own.generateStream('ends', {})) seen.push(value);
  assert.deepEqual(seen, ['é', 2, 3]);
  for await (const { t: value } of own.generateStream('on', {})) if (value === 2) break;
  await closed.promise;
});

test('shared memory and settings: what the client sends', async (t) => {
  const seen: string[] = [];
  const url = await serve(t, (request, response) => {
    let body = '';
    request.on('data', (data) => (body += data));
    request.on('end', () => {
      seen.push(`${request.method} ${request.url} ${body}`);
      response.end('{}');
    });
  });
  const own = new HttpClient(url, { headers: { authorization: 'Bearer k' } });
  await own.registerSystemSharedMemory('in/put', { key: '/in', byteSize: 64 });
  await own.registerCudaSharedMemory('c', { rawHandle: Uint8Array.of(1, 2), deviceId: 0, byteSize: 8 });
  await own.unregisterSystemSharedMemory();
  await own.unregisterCudaSharedMemory('c');
  await own.systemSharedMemory();
  await own.updateTraceSettings({ trace_level: ['TIMESTAMPS'], trace_rate: null }, 'm');
  await own.updateLogSettings({ log_verbose_level: 1 });
  await own.unloadModel('a b', { dependents: true });
  const region = { region: 'r', byteSize: 64, offset: 8 };
  await own.infer('m', {
    inputs: { A: { datatype: 'FP32', shape: [16], sharedMemory: region } },
    outputs: [
      { name: 'B', sharedMemory: { region: 'r', byteSize: 4 } },
      { name: 'C', classification: 3 },
    ],
    sequence: { id: 7n, start: true },
    priority: 2,
    queueTimeoutMicroseconds: 1000,
  });
  assert.deepEqual(seen.slice(0, 8), [
    'POST /v2/systemsharedmemory/region/in%2Fput/register {"key":"/in","offset":0,"byte_size":64}',
    'POST /v2/cudasharedmemory/region/c/register {"raw_handle":{"b64":"AQI="},"device_id":0,"byte_size":8}',
    'POST /v2/systemsharedmemory/unregister ',
    'POST /v2/cudasharedmemory/region/c/unregister ',
    'GET /v2/systemsharedmemory/status ',
    'POST /v2/models/m/trace/setting {"trace_level":["TIMESTAMPS"],"trace_rate":null}',
    'POST /v2/logging {"log_verbose_level":1}',
    'POST /v2/repository/models/a%20b/unload {"parameters":{"unload_dependents":true}}',
  ]);
  const json = seen[8].slice('POST /v2/models/m/infer '.length);
  assert.equal(json.length % 8, 0);
  assert.deepEqual(JSON.parse(json), {
    parameters: { priority: 2, timeout: 1000, sequence_id: 7, sequence_start: true, sequence_end: false },
    inputs: [
      {
        name: 'A',
        datatype: 'FP32',
        shape: [16],
        parameters: { shared_memory_region: 'r', shared_memory_byte_size: 64, shared_memory_offset: 8 },
      },
    ],
    outputs: [
      { name: 'B', parameters: { shared_memory_region: 'r', shared_memory_byte_size: 4 } },
      { name: 'C', parameters: { binary_data: true, classification: 3 } },
    ],
  });
});
