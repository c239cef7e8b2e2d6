import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test, type TestContext } from 'node:test';
import { freeBytes } from '../src/triton/bytes.ts';
import { config, ensemble, model, modelFiles, step, type Models } from './repository-kit.ts';
import { serve, type Serving } from './serving.ts';

/** Elements of a tensor that is handed over between threads. */
const ELEMENTS = 50_000;

function serveModels(t: TestContext, models: Models): Promise<Serving> {
  return serve(t, { repository: { directories: [modelFiles(t, models)] } });
}

/** A binary request whose inputs hold one number each, again and again, and with OUT as bytes. */
function requestOf(inputs: Readonly<Record<string, number>>): { body: Buffer; headers: Record<string, string> } {
  const json = Buffer.from(
    JSON.stringify({
      inputs: Object.keys(inputs).map((name) => ({
        ...{ name, datatype: 'INT32', shape: [ELEMENTS] },
        parameters: { binary_data_size: 4 * ELEMENTS },
      })),
      outputs: [{ name: 'OUT', parameters: { binary_data: true } }],
    }),
  );
  const tensors = Object.values(inputs).map((value) => Buffer.from(new Int32Array(ELEMENTS).fill(value).buffer));
  // Not compressed, which copies: memory is given back behind what is sent as it is.
  const headers = { 'inference-header-content-length': `${json.length}`, 'accept-encoding': 'identity' };
  return { body: Buffer.concat([json, ...tensors]), headers };
}

async function ask({ post }: Serving, name: string, inputs: Readonly<Record<string, number>>): Promise<number[]> {
  const { body, headers } = requestOf(inputs);
  const response = await post(`/v2/models/${name}/infer`, body, { headers });
  const bytes = Buffer.from(await response.arrayBuffer());
  assert.equal(response.status, 200, String(bytes));
  const data = bytes.subarray(Number(response.headers.get('inference-header-content-length')));
  assert.equal(data.length, 4 * ELEMENTS);
  return [...new Set(new Int32Array(Uint8Array.from(data).buffer))];
}

test('a model may keep the arrays of its inputs and outputs: nobody writes there again', async (t) => {
  // OUT of each request is what all before it held, if that still is so.
  const source = model('this.next(request)').replace(
    'async execute',
    `kept = [];
    next(request) {
      const input = request.input('IN').data;
      for (const { array, value } of this.kept) {
        if (!array.every((x) => x === value)) throw new ModelError('an array has changed');
      }
      const output = input.map((x) => 2 * x);
      this.kept.push({ array: input, value: input[0] }, { array: output, value: 2 * input[0] });
      return { OUT: tensor('INT32', [input.length], output) };
    }
    async execute`,
  );
  const serving = await serveModels(t, { m: [config('TYPE_INT32'), source] });
  for (let i = 0; i < 30; i++) assert.deepEqual(await ask(serving, 'm', { IN: i }), [2 * i]);
});

test('requests at the same time have each its own memory', async (t) => {
  const serving = await serveModels(t, {
    m: [config('TYPE_INT32'), model("{ OUT: request.take('IN') }")],
  });
  for (let round = 0; round < 5; round++) {
    const values = Array.from({ length: 20 }, (_, i) => 100 * round + i);
    const answers = await Promise.all(values.map((value) => ask(serving, 'm', { IN: value })));
    assert.deepEqual(
      answers,
      values.map((value) => [value]),
    );
  }
});

test('a client that takes its answer late gets it whole, whatever others ask meanwhile', async (t) => {
  const serving = await serveModels(t, {
    m: [config('TYPE_INT32'), model("{ OUT: request.take('IN') }")],
  });
  const { body, headers } = requestOf({ IN: 7 });
  const socket = connect({ host: '127.0.0.1', port: Number(new URL(serving.url).port) });
  t.after(() => socket.destroy());
  const pieces: Buffer[] = [];
  const lines = Object.entries({ ...headers, 'content-length': body.length }).map(
    ([name, value]) => `${name}: ${value}`,
  );
  const request = Buffer.concat([
    Buffer.from(['POST /v2/models/m/infer HTTP/1.1', ...lines, '', ''].join('\r\n')),
    body,
  ]);
  const count = 40;
  socket.pause();
  // More than sockets hold by themselves.
  for (let i = 0; i < count; i++) socket.write(request);
  for (let i = 0; i < 20; i++) assert.deepEqual(await ask(serving, 'm', { IN: 9 }), [9]);
  const whole = new Promise<void>((resolve) => {
    let length = 0;
    let expected = Infinity;
    socket.on('data', (piece: Buffer) => {
      if (length === 0) {
        // All answers are as long as the first one.
        const head = piece.toString('latin1').split('\r\n\r\n')[0];
        expected = count * (head.length + 4 + Number(/content-length: (\d+)/i.exec(head)?.[1]));
      }
      pieces.push(piece);
      length += piece.length;
      if (length >= expected) resolve();
    });
  });
  socket.resume();
  await whole;
  const answers = Buffer.concat(pieces).toString('latin1').split('HTTP/1.1 200 OK').slice(1);
  assert.equal(answers.length, count);
  const sevens = '\x07\0\0\0'.repeat(ELEMENTS);
  for (const answer of answers) assert.equal(answer.slice(-sevens.length), sevens);
});

test('an array that was taken and sent is empty; one that shares its memory with another input is copied', async (t) => {
  const two = `${config('TYPE_INT32')}\ninput { name: "IN2" data_type: TYPE_INT32 dims: -1 optional: true }`;
  // What is left of the request before.
  const source = model('this.next(request)').replace(
    'async execute',
    `last;
    next(request) {
      const before = this.last?.length ?? 0;
      const output = request.take('IN');
      this.last = output.data;
      output.data.fill(before);
      return { OUT: output };
    }
    async execute`,
  );
  const serving = await serveModels(t, { m: [two, source] });
  assert.deepEqual(await ask(serving, 'm', { IN: 1 }), [0]);
  assert.deepEqual(await ask(serving, 'm', { IN: 1, IN2: 2 }), [0]);
  assert.deepEqual(await ask(serving, 'm', { IN: 1 }), [ELEMENTS]);
});

test('steps of an ensemble that read the same large input all get it', async (t) => {
  const sum = `backend: "typescript" max_batch_size: 0
    input { name: "A" data_type: TYPE_INT32 dims: -1 } input { name: "B" data_type: TYPE_INT32 dims: -1 }
    output { name: "OUT" data_type: TYPE_INT32 dims: -1 }`;
  const adding = model(
    "{ OUT: tensor('INT32', request.input('A').shape, request.input('A').data.map((x, i) => x + request.input('B').data[i])) }",
  );
  const serving = await serveModels(t, {
    same: [config('TYPE_INT32'), model("{ OUT: request.take('IN') }")],
    sum: [sum, adding],
    all: [
      ensemble(
        [
          step('same', { IN: 'IN' }, { OUT: 'a' }),
          step('same', { IN: 'IN' }, { OUT: 'b' }),
          step('sum', { A: 'a', B: 'b' }, { OUT: 'OUT' }),
        ].join(' '),
      ),
    ],
  });
  for (let i = 0; i < 3; i++) assert.deepEqual(await ask(serving, 'all', { IN: i }), [2 * i]);
});

test('what waits behind an instance that dies fails where its inputs went with it', async (t) => {
  const source = `export default class {
    execute([request]) {
      const input = request.input('IN');
      if (input.data[0] === 1) process.exit(3);
      return [{ outputs: { OUT: input } }];
    }
  }`;
  const serving = await serveModels(t, { m: [config('TYPE_INT32'), source] });
  const statuses = await Promise.all(
    Array.from({ length: 3 }, async () => {
      const { body, headers } = requestOf({ IN: 1 });
      return (await serving.post('/v2/models/m/infer', body, { headers })).status;
    }),
  );
  assert.deepEqual(statuses, [500, 500, 500]);
});

test('memory that was given back is empty under old views, and may be given back twice', () => {
  const bytes = new Uint8Array(100).fill(1);
  const view = bytes.subarray(10, 20);
  freeBytes(view);
  freeBytes(bytes);
  assert.deepEqual([bytes.length, view.length], [0, 0]);
});

test('texts and classes that lie in shared buffers of Node.js are sent, and the server lives on', async (t) => {
  const texts = `backend: "typescript" input { name: "IN" data_type: TYPE_INT32 dims: -1 }
    output { name: "OUT" data_type: TYPE_STRING dims: -1 }`;
  const numbers = `backend: "typescript" input { name: "IN" data_type: TYPE_INT32 dims: -1 }
    output { name: "OUT" data_type: TYPE_FP32 dims: -1 }`;
  const serving = await serveModels(t, {
    texts: [texts, model("{ OUT: tensor('BYTES', [1], ['x'.repeat(20000)]) }")],
    classes: [numbers, model("{ OUT: tensor('FP32', [8192], Float32Array.from({ length: 8192 }, (_, i) => i)) }")],
  });
  for (const [name, parameters, least] of [
    ['texts', { binary_data: true }, 20_000],
    ['classes', { binary_data: true, classification: 1000 }, 16_384],
  ] as const) {
    const inputs = [{ name: 'IN', datatype: 'INT32', shape: [1], data: [1] }];
    const body = JSON.stringify({ inputs, outputs: [{ name: 'OUT', parameters }] });
    for (let i = 0; i < 3; i++) {
      const response = await serving.post(`/v2/models/${name}/infer`, body, {
        headers: { 'accept-encoding': 'identity' },
      });
      const bytes = Buffer.from(await response.arrayBuffer());
      assert.equal(response.status, 200, String(bytes));
      assert.ok(bytes.length > least && bytes.length < 32_768 + 500, `${bytes.length}`);
      // What is freed is freed once the response is with the system.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
});

test('a taken array that answers two requests is refused for the second one', async (t) => {
  const source = `export default class {
    execute(requests) {
      const first = requests[0].take('IN');
      return requests.map(() => ({ outputs: { OUT: first } }));
    }
  }`;
  const batching =
    'max_batch_size: 8 dynamic_batching { preferred_batch_size: 2 max_queue_delay_microseconds: 2000000 }';
  const serving = await serveModels(t, { m: [config('TYPE_INT32', batching), source] });
  const json = (value: number): string =>
    JSON.stringify({
      inputs: [{ name: 'IN', datatype: 'INT32', shape: [1, 8192], data: new Array<number>(8192).fill(value) }],
      outputs: [{ name: 'OUT', parameters: { binary_data: true } }],
    });
  const answers = await Promise.all(
    [3, 4].map(async (value) => {
      const response = await serving.post('/v2/models/m/infer', json(value), {
        headers: { 'accept-encoding': 'identity' },
      });
      return { status: response.status, text: await response.text() };
    }),
  );
  assert.equal(answers.filter(({ status }) => status === 200).length, 1);
  assert.match(answers.find(({ status }) => status === 500)!.text, /needs 8192 elements, not 0/);
});

test('a taken array is empty as soon as it is an output, also while results of short batches wait for one another', async (t) => {
  const source = `export default class {
    execute(requests) {
      return requests.map((request) => {
        const input = request.take('IN');
        if (this.last?.length) this.last.fill(input.data[0]);
        this.last = input.data;
        return { outputs: { OUT: input } };
      });
    }
  }`;
  const serving = await serveModels(t, { m: [config('TYPE_INT32'), source] });
  for (let round = 0; round < 90; round++) {
    const values = Array.from({ length: 16 }, (_, i) => 16 * round + i + 1);
    const answers = await Promise.all(values.map((value) => ask(serving, 'm', { IN: value })));
    assert.deepEqual(
      answers,
      values.map((value) => [value]),
    );
  }
});
