import assert from 'node:assert/strict';
import { test } from 'node:test';
import { config, makeRepository } from './repository-kit.ts';
import { eventsOf, serve, until } from './serving.ts';

/** What a model does, by a name that a request brings; `ok` is a good response. */
const CASES: Readonly<Record<string, readonly [code: string, error: string]>> = {
  string: ["throw 'text'", 'text'],
  null: ['throw null', 'null'],
  undefined: ['throw undefined', 'undefined'],
  symbol: ["throw Symbol('s')", 'Symbol(s)'],
  object: ['throw { a: 1 }', '{ a: 1 }'],
  'without prototype': ['throw Object.create(null)', '[Object: null prototype] {}'],
  'like an error': ["throw { message: 'm', code: 'UNAVAILABLE' }", 'm'],
  'a trap': [
    "throw new Proxy({}, { get() { throw new Error('t'); } })",
    'the model threw something that cannot be told',
  ],
  'a message that throws': [
    "throw Object.defineProperty(new Error(), 'message', { get() { throw 1; } })",
    'the model threw something that cannot be told',
  ],
  'a code that is no text': ["throw Object.assign(new Error('e'), { code: Symbol('c') })", 'e'],
  'a long message': ["throw new Error('x'.repeat(1e6))", `${'x'.repeat(4000)}...`],
  nothing: ['return', 'execute returned no array for 1 requests: it must return one outcome for each'],
  'outcomes that are none': ['return [null]', 'a response must be { outputs } or an Error'],
  'no outputs': ['return [{ outputs: null }]', 'and outputs an object of tensors by their names'],
  'outputs without names': [
    'return [{ outputs: [ok.outputs.OUT] }]',
    'and outputs an object of tensors by their names',
  ],
  'a function as parameter': [
    'return [{ ...ok, parameters: { a: () => 1 } }]',
    "parameter 'a' must be a string, a number, a boolean or a bigint",
  ],
  'a large parameter': [
    'return [{ ...ok, parameters: { a: 2n ** 64n } }]',
    "parameter 'a' is 18446744073709551616, which no 64-bit integer holds",
  ],
  'parameters that are none': ['return [{ ...ok, parameters: 5 }]', 'parameters must be an object'],
  ...Object.fromEntries(
    ["'x'", '[-1]', '[0.5, 2]', '[NaN]', '[1n]', 'undefined'].map((shape) => [
      `shape ${shape}`,
      [
        `return [{ outputs: { OUT: { datatype: 'BYTES', shape: ${shape}, data: [] } } }]`,
        "output 'OUT' has no shape: that is an array of whole numbers, each at least 0",
      ] as const,
    ]),
  ),
};

function source(cases: Readonly<Record<string, readonly [code: string, ...unknown[]]>>, more: string): string {
  const members = Object.entries(cases).map(
    ([name, [code]]) => `${JSON.stringify(name)}: async (ok, requests) => { ${code} }`,
  );
  return `import { tensor, texts } from '@rose/server/backend';
    const cases = { ${members.join(',\n')} };
    export default class { async execute(requests) {
      const ok = { outputs: { OUT: tensor('BYTES', [1], ['fine']) } };
      ${more}
    } }`;
}

const DO = "return cases[texts(requests[0].input('IN', 'BYTES'))[0]](ok, requests)";

function ask(what: string): object {
  return { inputs: [{ name: 'IN', datatype: 'BYTES', shape: [1], data: [what] }] };
}

test('whatever a model throws or returns is an error of its request, and its instance goes on', async (t) => {
  const files = {
    'm/config.pbtxt': config('TYPE_STRING'),
    'm/1/model.ts': source({ ...CASES, fine: ['return [ok]'] }, DO),
  };
  const { post, log } = await serve(t, { repository: { directories: [makeRepository(t, files)] } });
  for (const [name, [, error]] of Object.entries(CASES)) {
    const reply = await post('/v2/models/m/infer', ask(name));
    assert.equal(reply.status, name === 'like an error' ? 503 : 500, name);
    const text = (await reply.json()).error;
    assert.ok(text.endsWith(error) || text.startsWith(error), `${name}: ${text.slice(0, 200)}`);
  }
  assert.equal((await post('/v2/models/m/infer', ask('fine'))).status, 200);
  assert.deepEqual(log, []);
});

test('a model may do with its list of requests what it likes', async (t) => {
  const files = {
    'm/config.pbtxt': config('TYPE_STRING'),
    'm/1/model.ts': source({ shift: ['requests.shift(); return [ok]'] }, DO),
  };
  const { post } = await serve(t, { repository: { directories: [makeRepository(t, files)] } });
  const reply = await post('/v2/models/m/infer', ask('shift'));
  assert.deepEqual([reply.status, (await reply.json()).outputs[0].data], [200, ['fine']]);
});

test("what a model's code posts to the server's port ends its instance, not the server", async (t) => {
  const posts = [
    "'junk'",
    'null',
    '{ kind: "other" }',
    '{ kind: "executed", batches: 3, packet: 1 }',
    '{ kind: "response" }',
  ];
  const cases = Object.fromEntries(
    posts.map((message) => [message, [`parentPort.postMessage(${message}); return new Promise(() => {})`] as const]),
  );
  const text = `import { parentPort } from 'node:worker_threads';\n${source({ ...cases, fine: ['return [ok]'] }, DO)}`;
  const files = { 'm/config.pbtxt': config('TYPE_STRING'), 'm/1/model.ts': text };
  const { post, log } = await serve(t, { repository: { directories: [makeRepository(t, files)] } });
  for (const message of posts) {
    const reply = await post('/v2/models/m/infer', ask(message));
    assert.equal(reply.status, 500, message);
    assert.match((await reply.json()).error, /its thread sent a message that is none of Rose's/);
    assert.equal((await post('/v2/models/m/infer', ask('fine'))).status, 200);
  }
  await until(() => log.length === posts.length, 'each end is told');
});

test('a decoupled model that returns outcomes, or sends after its end, is told so', async (t) => {
  const cases = {
    returns: ['return [ok]'],
    'sends after the end': [
      'const { sender } = requests[0]; await sender.send(ok); sender.end(); await sender.send(ok); sender.end()',
    ],
    'throws after the end': ["requests[0].sender.end(); throw new Error('late')"],
    'throws after a response': ["await requests[0].sender.send(ok); throw 'later'"],
    'answers later': [
      'return Promise.all(requests.map(async ({ sender }) => { setTimeout(async () => { await sender.send(ok); sender.end(); }, 20) }))',
    ],
  } as const;
  const files = {
    'm/config.pbtxt': config('TYPE_STRING', 'model_transaction_policy { decoupled: true }'),
    'm/1/model.ts': source(cases, DO),
  };
  const { post } = await serve(t, { repository: { directories: [makeRepository(t, files)] } });
  const stream = (what: string) => post('/v2/models/m/generate_stream', { IN: what });
  const returned = await stream('returns');
  assert.equal(returned.status, 500);
  assert.match((await returned.json()).error, /execute of a decoupled model returns nothing/);
  const outputs = async (what: string): Promise<unknown[]> =>
    (await eventsOf(await stream(what))).map((event) => {
      const { OUT, error } = JSON.parse(event) as { OUT?: string; error?: string };
      return error ?? OUT;
    });
  assert.deepEqual(await outputs('sends after the end'), ['fine']);
  assert.deepEqual(await outputs('throws after the end'), []);
  assert.deepEqual(await outputs('throws after a response'), ['fine', 'later']);
  assert.deepEqual(await outputs('answers later'), ['fine']);
});

test('an output that is too large for JSON is refused, and comes as binary data', async (t) => {
  const elements = 2 ** 24 + 1;
  const text = `import { tensor } from '@rose/server/backend';
    export default class { execute() { return [{ outputs: { OUT: tensor('INT8', [${elements}], new Int8Array(${elements})) } }]; } }`;
  const files = { 'm/config.pbtxt': config('TYPE_INT8'), 'm/1/model.ts': text };
  const { post } = await serve(t, { repository: { directories: [makeRepository(t, files)] } });
  const inputs = [{ name: 'IN', datatype: 'INT8', shape: [1], data: [1] }];
  const refused = await post('/v2/models/m/infer', { inputs });
  assert.equal(refused.status, 400);
  assert.equal(
    (await refused.json()).error,
    `output 'OUT' is too large for JSON, with ${elements} elements, more than ${elements - 1}: ask for it as binary data`,
  );
  const binary = await post('/v2/models/m/infer', { inputs, parameters: { binary_data_output: true } });
  assert.equal(binary.status, 200);
  assert.ok((await binary.arrayBuffer()).byteLength > elements);
});
