import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { create } from '@bufbuild/protobuf';
import {
  GRPCInferenceService,
  InferParameterSchema,
  type ModelInferResponse,
  type ModelStreamInferResponse,
} from '../src/grpc/proto/inference_pb.js';
import { rawTexts, serveGrpc, textsOf, type GrpcServing } from './grpc-client.ts';
import { until } from './serving.ts';
import { config, IDENTITY, makeRepository, model, numbers } from './repository-kit.ts';

type Models = Readonly<Record<string, { readonly config: string; readonly source: string }>>;

/** A server over a repository with these models, each with the one version 1. */
function serveModels(t: TestContext, models: Models): Promise<GrpcServing> {
  const files = Object.entries(models).flatMap(([name, { config, source }]) => [
    [`${name}/config.pbtxt`, config],
    [`${name}/1/model.ts`, source],
  ]);
  const directory = makeRepository(t, Object.fromEntries(files) as Record<string, string>);
  return serveGrpc(t, GRPCInferenceService, { repository: { directories: [directory] } });
}

interface Counts {
  readonly inference_count: number;
  readonly execution_count: number;
  readonly inference_stats: Readonly<Record<string, { readonly count: number; readonly ns: number }>>;
  readonly batch_stats: readonly { readonly batch_size: number; readonly compute_infer: { readonly count: number } }[];
  readonly response_stats: Readonly<Record<string, Readonly<Record<string, { readonly count: number }>>>>;
}

async function statsOf({ get }: GrpcServing, name: string): Promise<Counts> {
  return (await (await get(`/v2/models/${name}/stats`)).json()).model_stats[0];
}

test('tensors of every type go through a model as they are', async (t) => {
  const sizes = { UINT8: 1, INT16: 2, UINT32: 4, INT64: 8, UINT64: 8, FP16: 2, BF16: 2, FP32: 4, FP64: 8, BOOL: 1 };
  const types = Object.keys(sizes) as (keyof typeof sizes)[];
  const tensors = [...types, 'STRING'].map(
    (type) => `input { name: "IN_${type}" data_type: TYPE_${type} dims: -1 optional: true }
      output { name: "OUT_${type}" data_type: TYPE_${type} dims: -1 }`,
  );
  const source = model("{ ['OUT' + request.inputNames[0].slice(2)]: request.input(request.inputNames[0]) }");
  const { call } = await serveModels(t, { m: { config: tensors.join('\n'), source } });
  const send = (type: string, datatype: string, elements: number, raw: Uint8Array): Promise<ModelInferResponse> =>
    call(GRPCInferenceService, 'ModelInfer', {
      modelName: 'm',
      inputs: [{ name: `IN_${type}`, datatype, shape: [BigInt(elements)] }],
      rawInputContents: [raw],
    });
  for (const type of types) {
    // Small tensors are copied between threads, large ones share memory.
    for (const elements of [0, 3, 20_000]) {
      const raw = Uint8Array.from({ length: elements * sizes[type] }, (_, i) =>
        type === 'BOOL' ? i & 1 : (i * 37) & 255,
      );
      const { outputs, rawOutputContents } = await send(type, type, elements, raw);
      assert.deepEqual([outputs[0].datatype, outputs[0].shape], [type, [BigInt(elements)]]);
      assert.equal(Buffer.compare(rawOutputContents[0], raw), 0, `${type} ${elements}`);
    }
  }
  const texts = ['', 'a\0b', 'ünï', 'x'.repeat(20_000)];
  assert.deepEqual(textsOf(await send('STRING', 'BYTES', 4, rawTexts(...texts)), 'OUT_STRING'), texts);
});

test('a binary tensor at any place of a body is aligned for the model', async (t) => {
  const { post } = await serveModels(t, { m: { config: config('TYPE_INT64'), source: IDENTITY } });
  for (const padding of ['', ' ', '  ', '   ']) {
    const inputs = [{ name: 'IN', datatype: 'INT64', shape: [2], parameters: { binary_data_size: 16 } }];
    const json = Buffer.from(JSON.stringify({ inputs }) + padding);
    const body = Buffer.concat([json, Buffer.from(BigInt64Array.of(-1n, 2n ** 62n).buffer)]);
    const headers = { 'inference-header-content-length': String(json.length) };
    const response = await post('/v2/models/m/infer', body, { headers });
    assert.match(await response.text(), /\[-1,4611686018427387904\]/);
  }
});

test('a body without JSON is the only input of a model that has one', async (t) => {
  const shaped = (type: string, dims: string): string =>
    `max_batch_size: 4 input { name: "IN" data_type: ${type} dims: [ ${dims} ] } output { name: "OUT" data_type: ${type} dims: [ ${dims} ] }`;
  const { post } = await serveModels(t, {
    numbers: { config: shaped('TYPE_INT32', '2, -1'), source: IDENTITY },
    text: { config: shaped('TYPE_STRING', '1'), source: IDENTITY },
    texts: { config: shaped('TYPE_STRING', '2'), source: IDENTITY },
    free: { config: shaped('TYPE_INT32', '-1, -1'), source: IDENTITY },
  });
  const send = async (name: string, body: Uint8Array): Promise<[number, string]> => {
    const headers = { 'inference-header-content-length': '0' };
    const response = await post(`/v2/models/${name}/infer`, body, { headers });
    return [response.status, await response.text()];
  };
  const [, numbers] = await send('numbers', new Uint8Array(Int32Array.of(1, 2, 3, 4, 5, 6).buffer));
  assert.match(numbers, /"shape":\[1,2,3\],"parameters":\{"binary_data_size":24\}/);
  const [, text] = await send('text', Buffer.from('any bytes'));
  assert.match(text, /"shape":\[1,1\],"parameters":\{"binary_data_size":13\}\}\]\}\t\0\0\0any bytes$/);
  assert.match((await send('numbers', new Uint8Array(12)))[1], /can not be deduced: 12 bytes do not fill it/);
  assert.match((await send('texts', new Uint8Array(12)))[1], /the model must have input shape \[1\]/);
  assert.match((await send('free', new Uint8Array(12)))[1], /more than one variable-sized dimension/);
  assert.deepEqual((await send('embed', new Uint8Array(12)))[0], 400);
});

test('a request whose head came before in another form is read for itself', async (t) => {
  const { post } = await serveModels(t, { m: { config: config('TYPE_INT32'), source: IDENTITY } });
  const send = async (body: Uint8Array, length: string | undefined): Promise<[number, string]> => {
    const headers = length === undefined ? {} : { 'inference-header-content-length': length };
    const response = await post('/v2/models/m/infer', body, { headers });
    return [response.status, await response.text()];
  };
  const inputs = [{ name: 'IN', datatype: 'INT32', shape: [2], parameters: { binary_data_size: 8 } }];
  const json = Buffer.from(JSON.stringify({ id: 'secret', inputs }));
  // So many zeros that the whole is a tensor too.
  const numbers = Buffer.alloc(8 + ((4 - (json.length % 4)) % 4));
  const padded = Buffer.concat([json, Buffer.alloc(numbers.length - 8, ' '), Buffer.from(Int32Array.of(1, 2).buffer)]);
  const length = padded.length - 8;
  const raw = Buffer.alloc(padded.length, 1);
  const expected = await send(raw, '0');
  assert.equal(expected[0], 200);
  assert.doesNotMatch(expected[1], /secret/);
  for (const odd of [`${length}, ${length}`, `${length}abc`, `${length}.5`, ` ${length}`]) {
    const [status, text] = await send(padded, odd);
    assert.deepEqual([status, /"id":"secret"/.test(text), /\[1,2\]/.test(text)], [200, true, true], odd);
    assert.deepEqual(await send(raw, '0'), expected, `raw behind ${odd}`);
    // A known head is known by its length alone, however that is written.
    const wrong = { [`0x${length.toString(16)}`]: 200, [`${length / 10}e1`]: 500, '': 400 };
    for (const [form, status] of Object.entries(wrong)) {
      const answer = await send(padded, form);
      assert.equal(answer[0], status, `${form}: ${answer[1]}`);
      assert.doesNotMatch(answer[1], /^\{"id"/);
    }
  }
  const whole = Buffer.from(JSON.stringify({ inputs: [{ name: 'IN', datatype: 'INT32', shape: [1], data: [7] }] }));
  assert.match((await send(whole, undefined))[1], /\[7\]/);
  assert.doesNotMatch((await send(Buffer.alloc(whole.length & ~3, 2), '0'))[1], /\[7\]/);
});

test('parameters, ids, sequences and requested outputs reach the model, and its parameters the client', async (t) => {
  const source = `import { tensor } from '@rose/server/backend';
    export default class {
      execute(requests) {
        return requests.map((request) => ({
          outputs: { OUT: tensor('BYTES', [1], [JSON.stringify([request.id, request.parameters, request.sequence,
            [...(request.requestedOutputs ?? [])]], (_, value) => typeof value === 'bigint' ? Number(value) : value)]) },
          parameters: { text: 'x', count: 42, flag: false, real: 123.5, wide: 2n ** 63n },
        }));
      }
    }`;
  const { post, call } = await serveModels(t, { m: { config: config('TYPE_STRING'), source } });
  const inputs = [{ name: 'IN', datatype: 'BYTES', shape: [0], data: [] }];
  const parameters = { k: 1, sequence_id: 5, sequence_start: true, other: 'y' };
  const response = await post('/v2/models/m/infer', { id: 'i', inputs, parameters, outputs: [{ name: 'OUT' }] });
  const text = await response.text();
  assert.match(text, /"parameters":\{"text":"x","count":42,"flag":false,"real":123.5,"wide":9223372036854775808\}/);
  const [seen] = (JSON.parse(text) as { outputs: { data: string[] }[] }).outputs[0].data;
  assert.deepEqual(JSON.parse(seen), ['i', { k: 1, other: 'y' }, { id: 5, start: true, end: false }, ['OUT']]);
  const over = await call(GRPCInferenceService, 'ModelInfer', {
    modelName: 'm',
    inputs: [{ name: 'IN', datatype: 'BYTES', shape: [0n] }],
    rawInputContents: [new Uint8Array()],
  });
  const choices = Object.entries((over as ModelInferResponse).parameters).map(([name, { parameterChoice }]) => [
    name,
    [parameterChoice.case, parameterChoice.value],
  ]);
  assert.deepEqual(Object.fromEntries(choices), {
    count: ['int64Param', 42n],
    flag: ['boolParam', false],
    real: ['doubleParam', 123.5],
    text: ['stringParam', 'x'],
    wide: ['uint64Param', 2n ** 63n],
  });
});

test('what a model does wrong is told with its status, and counted', async (t) => {
  const body = `const what = texts(request.input('IN', 'BYTES'))[0];
    if (what === 'throw') throw new Error('it hurts');
    const outcomes = {
      bad: new ModelError('not like this', 'INVALID_ARG'),
      busy: new ModelError('later', 'UNAVAILABLE'),
      plain: new Error('plain'),
      name: { outputs: { OTHER: tensor('INT32', [1], Int32Array.of(1)) } },
      type: { outputs: { OUT: tensor('INT32', [1], Int32Array.of(1)) } },
      shape: { outputs: { OUT: tensor('BYTES', [1, 1], ['x']) } },
      data: { outputs: { OUT: { datatype: 'BYTES', shape: [1], data: 'x' } } },
      length: { outputs: { OUT: { datatype: 'BYTES', shape: [3], data: [] } } },
      nothing: undefined,
    };
    if (what === 'count') return [];
    return [what === 'ok' ? { outputs: { OUT: tensor('BYTES', [1], ['ok']) } } : outcomes[what]];`;
  const source = `import { ModelError, tensor, texts } from '@rose/server/backend';
    export default class { execute([request]) { ${body} } }`;
  const serving = await serveModels(t, { m: { config: config('TYPE_STRING'), source } });
  const ask = async (what: string): Promise<[number, string]> => {
    const inputs = [{ name: 'IN', datatype: 'BYTES', shape: [1], data: [what] }];
    const response = await serving.post('/v2/models/m/infer', { inputs });
    return [response.status, (await response.json()).error];
  };
  assert.deepEqual(await ask('bad'), [400, 'not like this']);
  assert.deepEqual(await ask('busy'), [503, 'later']);
  assert.deepEqual(await ask('plain'), [500, 'plain']);
  assert.deepEqual(await ask('throw'), [500, 'it hurts']);
  const expected: Record<string, RegExp> = {
    name: /unexpected output 'OTHER' of model 'm'/,
    type: /output 'OUT' of model 'm' is INT32; its configuration says BYTES/,
    shape: /output 'OUT' of model 'm' has shape \[1,1\]; its configuration says \[-1\]/,
    data: /output 'OUT' is BYTES, but its data is not an array of that type/,
    length: /output 'OUT' of shape \[3\] needs 3 elements, not 0/,
    nothing: /a response must be \{ outputs \} or an Error/,
    count: /execute returned 0 outcomes for 1 requests/,
  };
  for (const [what, pattern] of Object.entries(expected)) {
    const [code, text] = await ask(what);
    assert.equal(code, 500, what);
    assert.match(text, pattern);
  }
  assert.equal((await ask('ok'))[0], 200);
  const stats = await statsOf(serving, 'm');
  assert.deepEqual([stats.inference_stats.success.count, stats.inference_stats.fail.count], [1, 11]);
  assert.deepEqual([stats.inference_count, stats.inference_stats.queue.count], [1, 1]);
});

test('an instance that dies fails its requests and comes back', async (t) => {
  const source = `export default class { execute([request]) {
    if (request.input('IN').data[0] === 1) process.exit(3);
    if (request.input('IN').data[0] === 2) { setTimeout(() => { throw new Error('later'); }); return new Promise(() => {}); }
    return [{ outputs: { OUT: request.input('IN') } }];
  } }`;
  const { post, log, get } = await serveModels(t, { m: { config: config('TYPE_INT32'), source } });
  const died = await post('/v2/models/m/infer', numbers(1));
  assert.equal(died.status, 500);
  assert.match(
    (await died.json()).error,
    /instance of the model failed while it worked on the request: .*ended with code 3/,
  );
  // The next request waits until it is back.
  assert.equal((await post('/v2/models/m/infer', numbers(0))).status, 200);
  assert.match((await (await post('/v2/models/m/infer', numbers(2))).json()).error, /worked on the request: later/);
  assert.equal((await post('/v2/models/m/infer', numbers(0))).status, 200);
  assert.equal((await get('/v2/models/m/ready')).status, 200);
  assert.match(log.join(''), /instance 0 of model 'm' version 1 failed/);
  // Those that only waited in the instance behind the one that ended it are answered.
  const together = await Promise.all([0, 1, 0, 0].map((what) => post('/v2/models/m/infer', numbers(what))));
  assert.deepEqual(
    together.map(({ status }) => status).sort((a, b) => a - b),
    [200, 200, 200, 500],
  );
});

test('decoupled models answer any number of times', async (t) => {
  const source = `import { tensor } from '@rose/server/backend';
    export default class {
      async execute(requests) { for (const request of requests) void this.answer(request); }
      async answer(request) {
        for (const value of request.input('IN', 'INT32').data) {
          if (value < 0) { await request.sender.send(new Error('negative')); return; }
          await request.sender.send({ outputs: { OUT: tensor('INT32', [1], Int32Array.of(value)) } });
        }
        request.sender.end();
      }
    }`;
  const decoupled = 'model_transaction_policy { decoupled: true }';
  const serving = await serveModels(t, { m: { config: config('TYPE_INT32', decoupled), source } });
  const { post, stream } = serving;
  const refused = await post('/v2/models/m/infer', numbers(1));
  assert.equal(refused.status, 501);
  const events = await (await post('/v2/models/m/generate_stream', { IN: [3, 4, 5] })).text();
  assert.deepEqual(
    events.split('\n\n').map((event) => /"OUT":(\d)/.exec(event)?.[1]),
    ['3', '4', '5', undefined],
  );
  const late = await (await post('/v2/models/m/generate_stream', { IN: [1, -1] })).text();
  assert.match(late, /"OUT":1.*\n\ndata: \{"error":"negative"\}/);
  const empty = await post('/v2/models/m/generate', { IN: [1, 2] });
  assert.match((await empty.json()).error, /exactly 1 response/);
  // Far more than a slow reader takes at once.
  const many = stream();
  const on = create(InferParameterSchema, { parameterChoice: { case: 'boolParam', value: true } });
  many.send({
    modelName: 'm',
    parameters: { triton_enable_empty_final_response: on },
    inputs: [
      {
        name: 'IN',
        datatype: 'INT32',
        shape: [500n],
        contents: { intContents: Array.from({ length: 500 }, (_, i) => i) },
      },
    ],
  });
  const responses: ModelStreamInferResponse[] = await many.end();
  assert.equal(responses.length, 501);
  const stats = await statsOf(serving, 'm');
  assert.deepEqual([stats.inference_stats.success.count, stats.inference_stats.fail.count], [2, 2]);
  assert.equal(stats.response_stats['2'].success.count, 2);
});

test('a client that goes away cancels its request, waiting or running', async (t) => {
  const source = `export default class {
    seen = 0;
    async execute([request]) {
      this.seen++;
      const wait = request.input('IN').data[0];
      if (wait > 0) await new Promise((resolve) => request.signal.addEventListener('abort', resolve));
      return [{ outputs: { OUT: { datatype: 'INT32', shape: [1], data: Int32Array.of(this.seen) } } }];
    }
  }`;
  const serving = await serveModels(t, { m: { config: config('TYPE_INT32'), source } });
  const { post } = serving;
  const running = new AbortController();
  const waiting = new AbortController();
  const first = post('/v2/models/m/infer', numbers(1), { signal: running.signal });
  await new Promise((resolve) => setTimeout(resolve, 50));
  const second = post('/v2/models/m/infer', numbers(1), { signal: waiting.signal });
  await new Promise((resolve) => setTimeout(resolve, 50));
  waiting.abort();
  await assert.rejects(second);
  while ((await statsOf(serving, 'm')).inference_stats.fail.count === 0) await new Promise(setImmediate);
  running.abort();
  await assert.rejects(first);
  // The second one never came to the model.
  const third = await (await post('/v2/models/m/infer', numbers(0))).json();
  assert.deepEqual(third.outputs[0].data, [2]);
  assert.equal((await statsOf(serving, 'm')).inference_stats.fail.count, 2);
});

test('a model asks others, also those of the hub', async (t) => {
  const double = model("{ OUT: tensor('INT32', [1], request.input('IN').data.map((x) => 2 * x)) }");
  const source = `import { tensor, texts } from '@rose/server/backend';
    export default class {
      initialize(context) { this.context = context; }
      async execute([request]) {
        try {
          const { outputs } = await this.context.infer({ model: 'double', inputs: { IN: request.input('IN') } });
          let said = '';
          const call = { model: 'chat', inputs: { text_input: tensor('BYTES', [1], ['hi']), stream: tensor('BOOL', [1], Uint8Array.of(1)) } };
          for await (const response of this.context.stream(call)) said += texts(response.outputs.text_output)[0];
          return [{ outputs: outputs, parameters: { said } }];
        } catch (error) { return [error]; }
      }
    }`;
  const missing = `export default class {
      initialize(context) { this.context = context; }
      async execute([request]) {
        return [await this.context.infer({ model: 'nobody', inputs: {} })];
      }
    }`;
  const { post } = await serveModels(t, {
    double: { config: config('TYPE_INT32'), source: double },
    asks: { config: config('TYPE_INT32'), source },
    missing: { config: config('TYPE_INT32'), source: missing },
  });
  const answer = await (await post('/v2/models/asks/infer', numbers(21))).json();
  assert.deepEqual([answer.outputs[0].data, answer.parameters.said], [[42], 'echo: hi']);
  const error = await post('/v2/models/missing/infer', numbers(1));
  assert.deepEqual(
    [error.status, (await error.json()).error],
    [404, "Request for unknown model: 'nobody' is not found"],
  );
});

test('instances work at the same time, and unloading waits for them', async (t) => {
  const source = `export default class {
    initialize({ instance }) { this.instance = instance; }
    async execute([request]) {
      const begun = new BroadcastChannel('instances at the same time');
      begun.postMessage(this.instance);
      begun.close();
      await new Promise((resolve) => setTimeout(resolve, 100));
      return [{ outputs: { OUT: { datatype: 'INT32', shape: [1], data: Int32Array.of(this.instance) } } }];
    }
  }`;
  let begun = 0;
  const channel = new BroadcastChannel('instances at the same time');
  channel.addEventListener('message', () => begun++);
  t.after(() => channel.close());
  const { post, server } = await serveModels(t, {
    m: { config: config('TYPE_INT32', 'instance_group [ { count: 2 }, { count: 1 } ]'), source },
  });
  const ask = async (): Promise<number> =>
    (await (await post('/v2/models/m/infer', numbers(0))).json()).outputs[0].data[0];
  const all = Promise.all([ask(), ask(), ask()]);
  await until(() => begun === 3, 'all three are executed');
  const closed = server.close(5000);
  assert.deepEqual((await all).sort(), [0, 1, 2]);
  await closed;
});
