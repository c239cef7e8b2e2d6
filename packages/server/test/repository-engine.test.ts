import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { create } from '@bufbuild/protobuf';
import type { EngineOptions, ServerOptions } from '@rose/server';
import { GRPCInferenceService, InferParameterSchema } from '../src/grpc/proto/inference_pb.js';
import { rawTexts, serveGrpc, textsOf, type GrpcServing } from './grpc-client.ts';
import { makeRepository } from './repository-kit.ts';
import { eventsOf, serve, until, type Reply } from './serving.ts';
import { oneThread } from './one-thread.ts';

const root = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
const EXAMPLES = root('examples/model-repository');
const BERT = root('test/checkpoints/bert-mean');

/** Engines in threads of this process, which start sooner than processes. */
const engine: EngineOptions = {
  locate: async (name) => root(`models/${name}`),
  settings: { engine: 'thread', ...oneThread },
};

function explicit(directory: string, ...loadModels: string[]): Pick<ServerOptions, 'repository'> {
  return { repository: { directories: [directory], mode: 'explicit', loadModels, engine } };
}

const SERVICE = GRPCInferenceService;

/** The bundled models of the examples, over HTTP and gRPC. */
function serveExamples(t: TestContext): Promise<GrpcServing> {
  return serveGrpc(t, SERVICE, explicit(EXAMPLES, 'tiny_chat', 'tiny_embed'));
}

test('a model that generates text: metadata, generate, a stream over HTTP and gRPC, with equal texts', async (t) => {
  const { get, post, stream, call } = await serveExamples(t);
  const metadata = await (await get('/v2/models/tiny_chat')).json();
  assert.deepEqual([metadata.platform, metadata.versions], ['rose', ['1']]);
  assert.deepEqual(metadata.inputs[0], { name: 'text_input', datatype: 'BYTES', shape: [1] });
  const config = await (await get('/v2/models/tiny_chat/config')).json();
  assert.equal(config.model_transaction_policy.decoupled, true);
  assert.deepEqual(config.parameters.task, { string_value: 'generate' });
  // The form of TensorRT-LLM's samples, with its empty lists of words.
  const asked = { text_input: 'Once upon a time', max_tokens: 8, bad_words: '', stop_words: '', end_id: -1 };
  const whole = await (await post('/v2/models/tiny_chat/generate', { ...asked, temperature: 0 })).json();
  assert.match(whole.text_output, /^Once upon a time, there was /);
  const events = await eventsOf(
    await post('/v2/models/tiny_chat/generate_stream', { ...asked, parameters: { temperature: 0 }, streaming: true }),
  );
  const texts = events.map((event) => JSON.parse(event).text_output);
  assert.ok(texts.length > 2);
  assert.equal(`Once upon a time${texts.join('')}`, whole.text_output);

  const open = stream();
  const parameter = create(InferParameterSchema, { parameterChoice: { case: 'boolParam', value: true } });
  open.send({
    modelName: 'tiny_chat',
    id: '7',
    parameters: { triton_enable_empty_final_response: parameter },
    inputs: [
      { name: 'text_input', datatype: 'BYTES', shape: [1n] },
      { name: 'stream', datatype: 'BOOL', shape: [1n] },
      { name: 'sampling_parameters', datatype: 'BYTES', shape: [1n] },
    ],
    rawInputContents: [
      rawTexts('Once upon a time'),
      Uint8Array.of(1),
      rawTexts('{"max_tokens": "8", "temperature": 0, "ignore_eos": true}'),
    ],
  });
  const responses = (await open.end()).map(({ inferResponse }) => inferResponse);
  assert.equal(responses.at(-1)?.outputs.length, 0);
  assert.deepEqual(
    responses.slice(0, -1).flatMap((response) => textsOf(response, 'text_output')),
    texts,
  );
  const statistics = await call(SERVICE, 'ModelStatistics', { name: 'tiny_chat' });
  const [{ inferenceCount, executionCount, inferenceStats, responseStats }] = statistics.modelStats;
  // One whole answer and two streams.
  assert.deepEqual([responseStats[0].success.count, responseStats[1].success.count], [3n, 2n]);
  assert.equal(inferenceCount, 3n);
  assert.equal(inferenceStats.success.count, 3n);
  assert.ok(executionCount >= 8n);
});

test('an embedding model answers over every protocol; unloading takes it from all of them', async (t) => {
  const { get, post, call } = await serveExamples(t);
  const asked = { name: 'TEXT', datatype: 'BYTES', shape: [2, 1], data: ['A bear sleeps.', 'The sea is calm.'] };
  const response = await post('/v2/models/tiny_embed/versions/1/infer', { inputs: [asked] });
  const { outputs } = await response.json();
  assert.deepEqual([outputs[0].name, outputs[0].shape], ['EMBEDDING', [2, 256]]);
  const openai = await post('/v1/embeddings', { model: 'tiny_embed', input: asked.data });
  const { data } = await openai.json();
  assert.deepEqual([...data[0].embedding, ...data[1].embedding].map(Math.fround), outputs[0].data.map(Math.fround));
  const grpc = await call(SERVICE, 'ModelInfer', {
    modelName: 'tiny_embed',
    inputs: [{ name: 'TEXT', datatype: 'BYTES', shape: [2n, 1n] }],
    rawInputContents: [rawTexts(...asked.data)],
  });
  const raw = Uint8Array.from(grpc.rawOutputContents[0]);
  assert.deepEqual([...new Float32Array(raw.buffer)], outputs[0].data.map(Math.fround));
  const tooMany = await post('/v2/models/tiny_embed/infer', {
    inputs: [{ ...asked, shape: [33, 1], data: Array.from({ length: 33 }, () => 'x') }],
  });
  assert.match((await tooMany.json()).error, /batch-size must be <= 32/);

  const names = async (): Promise<string[]> =>
    (await (await get('/v1/models')).json()).data.map(({ id }: { id: string }) => id).slice(-2);
  assert.deepEqual(await names(), ['tiny_chat', 'tiny_embed']);
  assert.match(
    await (await get('/metrics')).text(),
    /rose_prompt_tokens_total\{model="tiny_embed",version="1"\} [1-9]/,
  );
  assert.equal((await post('/v2/repository/models/tiny_embed/unload', '')).status, 200);
  assert.deepEqual((await names()).at(-1), 'tiny_chat');
  assert.doesNotMatch(await (await get('/metrics')).text(), /rose_prompt_tokens_total\{model="tiny_embed"/);
  assert.equal((await post('/v2/models/tiny_embed/infer', { inputs: [asked] })).status, 404);
  assert.equal((await get('/v2/health/ready')).status, 200);
  assert.equal((await post('/v2/repository/models/tiny_embed/load', '')).status, 200);
  const again = await (await post('/v2/models/tiny_embed/infer', { inputs: [asked] })).json();
  assert.deepEqual(again.outputs[0].data, outputs[0].data);
});

test('rows of a decoupled model are answered apart, in the form that clients of TensorRT-LLM expect', async (t) => {
  const directory = makeRepository(t, {
    'ensemble/config.pbtxt': 'backend: "rose" max_batch_size: 4',
    'ensemble/1/model.json': JSON.stringify({ model: 'tiny-chat' }),
  });
  const { stream, post } = await serveGrpc(t, SERVICE, explicit(directory, 'ensemble'));
  const ask = async (prompts: string[], outputs: string[], more: Record<string, [string, Uint8Array]>) => {
    const open = stream();
    const int32 = (value: number): Uint8Array => new Uint8Array(Int32Array.from(prompts, () => value).buffer);
    const tensors: Record<string, [string, Uint8Array]> = {
      text_input: ['BYTES', rawTexts(...prompts)],
      max_tokens: ['INT32', int32(4)],
      end_id: ['INT32', int32(-1)],
      beam_width: ['INT32', int32(1)],
      temperature: ['FP32', new Uint8Array(4 * prompts.length)],
      ...more,
    };
    open.send({
      modelName: 'ensemble',
      inputs: Object.entries(tensors).map(([name, [datatype]]) => {
        return { name, datatype, shape: [BigInt(prompts.length), 1n] };
      }),
      outputs: outputs.map((name) => ({ name })),
      rawInputContents: Object.values(tensors).map(([, bytes]) => Uint8Array.from(bytes)),
    });
    return (await open.end()).map(({ errorMessage, inferResponse }) => {
      assert.equal(errorMessage, '');
      const shapes = inferResponse!.outputs.map(({ name, shape }) => [name, shape.map(Number)]);
      const at = (name: string): Uint8Array => {
        return inferResponse!.rawOutputContents[inferResponse!.outputs.findIndex((output) => output.name === name)];
      };
      return { text: textsOf(inferResponse, 'text_output')[0], shapes: Object.fromEntries(shapes), at };
    });
  };
  const no = (rows: number): [string, Uint8Array] => ['BOOL', new Uint8Array(rows)];
  const yes = (rows: number): [string, Uint8Array] => ['BOOL', new Uint8Array(rows).fill(1)];
  const whole = await (
    await post('/v2/models/ensemble/generate', { text_input: 'Once upon a time', max_tokens: 4, temperature: 0 })
  ).json();
  const both = ['text_output', 'batch_index'];
  const streamed = await ask(['Once upon a time', 'The king'], both, {
    stream: yes(2),
    exclude_input_in_output: no(2),
  });
  assert.deepEqual(streamed[0].shapes, { text_output: [1], batch_index: [1, 1] });
  const first = streamed.filter(({ at }) => at('batch_index')[0] === 0).map(({ text }) => text);
  assert.equal(`Once upon a time${first.join('')}`, whole.text_output);
  assert.ok(streamed.some(({ at }) => at('batch_index')[0] === 1));
  const sequences = await ask(
    ['Once upon a time'],
    ['text_output', 'sequence_index', 'cum_log_probs', 'output_log_probs'],
    {
      num_return_sequences: ['INT32', Uint8Array.of(2, 0, 0, 0)],
      return_log_probs: yes(1),
      exclude_input_in_output: yes(1),
    },
  );
  assert.deepEqual(
    sequences.map(({ at }) => at('sequence_index')[0]),
    [0, 1],
  );
  assert.deepEqual(sequences[1].shapes, {
    text_output: [1],
    sequence_index: [1, 1],
    cum_log_probs: [1, 1],
    output_log_probs: [1, 1, 4],
  });
  assert.equal(`Once upon a time${sequences[1].text}`, whole.text_output);
});

test('a reranker scores pairs, with the labels of its checkpoint', async (t) => {
  const directory = makeRepository(t, { 'rank/1/model.json': JSON.stringify({ model: 'tiny-rerank' }) });
  const { post, get } = await serve(t, explicit(directory, 'rank'));
  const config = await (await get('/v2/models/rank/config')).json();
  assert.deepEqual([config.backend, config.max_batch_size, config.output[0].name], ['rose', 256, 'SCORE']);
  const rows = (name: string, data: string[]): object => ({ name, datatype: 'BYTES', shape: [data.length, 1], data });
  const inputs = [
    rows('QUERY', ['where do bears sleep', 'where do bears sleep']),
    rows('TEXT', ['Bears sleep in dens.', 'The boat is red.']),
  ];
  const outputs = [{ name: 'SCORE' }, { name: 'LOGITS', parameters: { classification: 1 } }];
  const reply = await (await post('/v2/models/rank/infer', { inputs, outputs })).json();
  const [score, logits] = reply.outputs;
  assert.ok(score.data[0] > score.data[1]);
  assert.match(logits.data[0], /^-?\d+\.\d{6}:0:\w+$/);
});

test('a version directory holds a checkpoint; with a batch, rows are answered as they are alone', async (t) => {
  const directory = makeRepository(t, {
    'llm/config.pbtxt': 'backend: "vllm" max_batch_size: 4 model_transaction_policy { decoupled: false }',
    'llm/2/model.json': JSON.stringify({ model: '.', max_sequences: 2, enforce_eager: true }),
  });
  cpSync(root('models/tiny-chat'), join(directory, 'llm/2'), { recursive: true });
  const { post, get, log } = await serve(t, explicit(directory, 'llm'));
  assert.ok(log.some((line) => line.includes('fields without effect here: enforce_eager')));
  assert.deepEqual((await (await get('/v2/models/llm')).json()).inputs[0].shape, [-1, 1]);
  const infer = async (prompts: string[], more: object[] = []): Promise<Record<string, unknown[]>> => {
    const rows = (name: string, datatype: string, value: unknown): object => {
      return { name, datatype, shape: [prompts.length, 1], data: prompts.map(() => value) };
    };
    const response = await post('/v2/models/llm/infer', {
      inputs: [
        { name: 'text_input', datatype: 'BYTES', shape: [prompts.length, 1], data: prompts },
        rows('max_tokens', 'INT32', 6),
        rows('end_id', 'INT32', -1),
        rows('beam_width', 'INT32', 1),
        rows('temperature', 'FP32', 0),
        rows('exclude_input_in_output', 'BOOL', true),
        rows('return_log_probs', 'BOOL', true),
        ...more,
      ],
    });
    const reply = await response.json();
    assert.equal(response.status, 200, JSON.stringify(reply));
    return Object.fromEntries(
      reply.outputs.map((one: { name: string; shape: number[]; data: unknown[] }) => [
        one.name,
        [one.shape, ...one.data],
      ]),
    );
  };
  const both = await infer(['a', 'b c']);
  const [first, second] = [await infer(['a']), await infer(['b c'])];
  assert.deepEqual(both.text_output, [[2, 1], first.text_output[1], second.text_output[1]]);
  assert.deepEqual(both.output_log_probs, [
    [2, 1, 6],
    ...first.output_log_probs.slice(1),
    ...second.output_log_probs.slice(1),
  ]);
  const sum = (values: unknown[]): number => values.slice(1).reduce<number>((total, value) => total + Number(value), 0);
  assert.ok(Math.abs(sum(first.output_log_probs) - Number(first.cum_log_probs[1])) < 1e-5);
  const refused = async (status: number, pattern: RegExp, ...more: object[]): Promise<void> => {
    const text = { name: 'text_input', datatype: 'BYTES', shape: [1, 1], data: ['a'] };
    const response = await post('/v2/models/llm/infer', { inputs: [text, ...more] });
    assert.match((await response.json()).error, pattern);
    assert.equal(response.status, status);
  };
  const one = (name: string, datatype: string, value: unknown): object => {
    return { name, datatype, shape: [1, 1], data: [value] };
  };
  await refused(501, /'beam_width' is 2/, one('beam_width', 'INT32', 2));
  await refused(501, /logits are not returned/, one('return_context_logits', 'BOOL', true));
  await refused(400, /LoRA/, one('lora_task_id', 'UINT64', 1));
  await refused(400, /must be one of json, json_schema/, one('guided_decoding_guide_type', 'BYTES', 'xml'));
  await refused(400, /cannot stream/, one('stream', 'BOOL', true), one('max_tokens', 'INT32', 4));
});

test('what a checkpoint cannot be is refused by name', async (t) => {
  const model = (value: object): string => JSON.stringify(value);
  const directory = makeRepository(t, {
    'nofile/1/model.json': model({ model: './nowhere' }),
    'nocheckpoint/1/model.json': model({ model: '.' }),
    'field/1/model.json': model({ model: BERT, tensor_parallel_size: 2 }),
    'value/1/model.json': model({ model: BERT, quantize: 'int3' }),
    'text/1/model.json': '{"model": ',
    'input/config.pbtxt': 'input { name: "TXT" data_type: TYPE_STRING dims: 1 }',
    'input/1/model.json': model({ model: BERT }),
    'type/config.pbtxt': 'input { name: "TEXT" data_type: TYPE_INT32 dims: 1 }',
    'type/1/model.json': model({ model: BERT }),
    'decoupled/config.pbtxt': 'model_transaction_policy { decoupled: true }',
    'decoupled/1/model.json': model({ model: BERT }),
    'instances/config.pbtxt': 'instance_group { count: 2 }',
    'instances/1/model.json': model({ model: BERT }),
    'queue/config.pbtxt': 'max_batch_size: 2 dynamic_batching { default_queue_policy { max_queue_size: 1 } }',
    'queue/1/model.json': model({ model: BERT }),
    'warm/config.pbtxt': `model_warmup { name: "ids" batch_size: 1
      inputs { key: "INPUT_IDS" value { data_type: TYPE_INT64 dims: 2 zero_data: true } } }`,
    'warm/1/model.json': model({ model: root('models/tiny-embed') }),
    'cold/config.pbtxt': `model_warmup { name: "nothing" batch_size: 1
      inputs { key: "ATTENTION_MASK" value { data_type: TYPE_INT64 dims: 2 zero_data: true } } }`,
    'cold/1/model.json': model({ model: root('models/tiny-embed') }),
  });
  const { post } = await serve(t, explicit(directory));
  const expected: Record<string, RegExp> = {
    nofile: /there is no directory .*nowhere, which model.json names/,
    nocheckpoint: /is no checkpoint: it has no config.json/,
    field: /model.json: .*tensor_parallel_size/,
    value: /model.json: quantize: /,
    text: /model.json is not JSON/,
    input: /model 'input' has no input 'TXT'; it has TEXT, INPUT_IDS/,
    type: /input 'TEXT' of model 'type' is TYPE_STRING with dims \[1\], not TYPE_INT32 \[1\]/,
    decoupled: /answers once and cannot be decoupled/,
    instances: /an instance_group of 2 of model 'instances' is not for a checkpoint/,
    cold: /failed to run warmup sample 'nothing': expected exactly one of the inputs 'TEXT' and 'INPUT_IDS'/,
    queue: /the queue policy of model 'queue' is not for a checkpoint/,
  };
  for (const [name, pattern] of Object.entries(expected)) {
    const response = await post(`/v2/repository/models/${name}/load`, '');
    assert.ok(response.status >= 400, name);
    assert.match((await response.json()).error, pattern);
  }
  assert.equal((await post('/v2/repository/models/warm/load', '')).status, 200);
});

/** Processes that this one started, by the name they gave themselves. */
function enginesOf(parent: number): number[] {
  return readdirSync('/proc').flatMap((entry) => {
    try {
      const status = readFileSync(`/proc/${entry}/status`, 'utf8');
      return status.startsWith('Name:\trose engine\n') && status.includes(`\nPPid:\t${parent}\n`) ? Number(entry) : [];
    } catch {
      return [];
    }
  });
}

test(
  'a lost engine is started again as often as it may, then by a load',
  { skip: process.platform !== 'linux' },
  async (t) => {
    const settings = { ...oneThread, restarts: 1 };
    const repository = { ...explicit(EXAMPLES, 'tiny_embed').repository!, engine: { ...engine, settings } };
    const { post, get, log } = await serve(t, { repository });
    const ask = { inputs: [{ name: 'TEXT', datatype: 'BYTES', shape: [1, 1], data: ['A bear.'] }] };
    const infer = (): Promise<Reply> => post('/v2/models/tiny_embed/infer', ask);
    const before = await (await infer()).json();
    const kill = async (losses: number): Promise<void> => {
      const [engineProcess, ...others] = enginesOf(process.pid);
      assert.deepEqual(others, []);
      process.kill(engineProcess, 'SIGKILL');
      await until(() => log.filter((line) => line.includes('is lost: ')).length === losses, 'the loss is noticed');
      assert.equal((await infer()).status, 503);
      assert.equal((await get('/v2/health/ready')).status, 400);
    };
    await kill(1);
    let ready = false;
    for (let i = 0; i < 500 && !ready; i++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      ready = (await get('/v2/models/tiny_embed/ready')).status === 200;
    }
    assert.deepEqual(await (await infer()).json(), before);
    const { model_stats } = await (await get('/v2/models/tiny_embed/stats')).json();
    assert.equal(model_stats[0].execution_count, 2);
    assert.match(await (await get('/metrics')).text(), /\nrose_engine_restarts_total 1\n/);
    await kill(2);
    const { reason } = (await (await post('/v2/repository/index', '')).json()).find(
      ({ name }: { name: string }) => name === 'tiny_embed',
    );
    assert.match(reason, /its process ended with SIGKILL/);
    assert.equal((await post('/v2/repository/models/tiny_embed/load', '')).status, 200);
    assert.deepEqual(await (await infer()).json(), before);
    assert.equal((await post('/v2/repository/models/tiny_embed/unload', '')).status, 200);
    assert.deepEqual(enginesOf(process.pid), []);
  },
);
