import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import { checkConfig } from '../src/repository/check-config.ts';
import { parseConfig } from '../src/repository/config.ts';
import { serveGrpc } from './grpc-client.ts';
import { config, ensemble, makeRepository, model, step } from './repository-kit.ts';

/** A model that checks the shape it is given, and gives it back. */
const expects = (shape: string): string =>
  model(`{ OUT: (() => {
    const { shape, data } = request.input('IN', 'INT32');
    if (String(shape) !== '${shape}') throw new ModelError('the model sees ' + shape);
    return tensor('INT32', shape, data);
  })() }`);
const tensors = (input: string, output: string, more = ''): string =>
  `${more} input { name: "IN" data_type: TYPE_INT32 ${input} } output { name: "OUT" data_type: TYPE_INT32 ${output} }`;

test('a model sees other shapes than its clients', async (t) => {
  const warm =
    'model_warmup { name: "w" batch_size: 1 inputs { key: "IN" value { data_type: TYPE_INT32 dims: 1 zero_data: true } } }';
  const directory = makeRepository(t, {
    // A model whose batch dimension is its only one.
    'flat/config.pbtxt': tensors(
      'dims: 1 reshape { shape: [ ] }',
      'dims: 1 reshape { shape: [ ] }',
      'max_batch_size: 4',
    ),
    'flat/1/model.ts': expects('2'),
    'warm/config.pbtxt': tensors(
      'dims: 1 reshape { shape: [ ] }',
      'dims: 1 reshape { shape: [ ] }',
      `max_batch_size: 4 ${warm}`,
    ),
    'warm/1/model.ts': expects('1'),
    // Sizes that are free keep their order.
    'free/config.pbtxt': tensors(
      'dims: [ -1, 1, -1 ] reshape { shape: [ -1, -1 ] }',
      'dims: [ -1, -1 ] reshape: { shape: [ -1, 1, -1 ] }',
    ),
    'free/1/model.ts': expects('2,3').replace("tensor('INT32', shape, data)", "tensor('INT32', [2, 1, 3], data)"),
    'wrong/config.pbtxt': tensors('dims: 4', 'dims: 4 reshape { shape: [ 2, 2 ] }'),
    'wrong/1/model.ts': expects('4'),
    'whole/config.pbtxt': `platform: "ensemble" ${tensors('dims: [ 1, 2 ] reshape { shape: [ 2, 1 ] }', 'dims: [ 1, 2 ] reshape { shape: [ 2, 1 ] }')}
      ensemble_scheduling { ${step('inner', { IN: 'IN' }, { OUT: 'OUT' })} }`,
    'whole/1/.empty': '',
    'inner/config.pbtxt': tensors('dims: [ 2, 1 ] reshape { shape: 2 }', 'dims: [ 2, 1 ] reshape { shape: 2 }'),
    'inner/1/model.ts': expects('2'),
  });
  const { get, post, call } = await serveGrpc(t, GRPCInferenceService, { repository: { directories: [directory] } });
  const infer = async (name: string, shape: number[]): Promise<unknown> => {
    const data = Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i);
    const reply = await (
      await post(`/v2/models/${name}/infer`, { inputs: [{ name: 'IN', datatype: 'INT32', shape, data }] })
    ).json();
    if (reply.error !== undefined) return reply.error;
    assert.deepEqual(reply.outputs[0].data, data);
    return reply.outputs[0].shape;
  };
  assert.deepEqual(await infer('flat', [2, 1]), [2, 1]);
  assert.deepEqual(await infer('warm', [1, 1]), [1, 1]);
  assert.deepEqual(await infer('free', [2, 1, 3]), [2, 3]);
  assert.deepEqual(await infer('whole', [1, 2]), [1, 2]);
  assert.match(
    String(await infer('flat', [2])),
    /unexpected shape for input 'IN' for model 'flat'\. Expected \[-1,1\], got \[2\]/,
  );
  assert.match(
    String(await infer('wrong', [4])),
    /output 'OUT' of model 'wrong' has shape \[4\]; its configuration says \[2,2\]/,
  );
  const metadata = await (await get('/v2/models/flat')).json();
  assert.deepEqual(
    [metadata.inputs[0].shape, metadata.outputs[0].shape],
    [
      [-1, 1],
      [-1, 1],
    ],
  );
  assert.deepEqual((await (await get('/v2/models/flat/config')).json()).input[0].reshape, { shape: [] });
  const inputs = [{ name: 'IN', datatype: 'INT32', shape: [2n, 1n], contents: { intContents: [4, 5] } }];
  const { outputs } = await call(GRPCInferenceService, 'ModelInfer', { modelName: 'flat', inputs });
  assert.deepEqual(outputs[0].shape, [2n, 1n]);
});

test('a reshape that changes the number of elements is refused', () => {
  const refused: [string, RegExp][] = [
    ['dims: 4 reshape { shape: [ 2, 3 ] }', /model input 'IN' has different size for dims and reshape for m/],
    ['dims: [ -1, 2 ] reshape { shape: 2 }', /has different number of variable-size dimensions for dims and reshape/],
    [
      'dims: 1 reshape { shape: [ ] }',
      /cannot have empty reshape for non-batching model as scalar tensors are not supported/,
    ],
  ];
  for (const [input, pattern] of refused) {
    assert.throws(() => checkConfig(parseConfig(`name: "m" ${tensors(input, 'dims: 1')}`, 'f')), pattern);
  }
  // What an ensemble hands on is what it reshapes to.
  const text = ensemble(step('m', { IN: 'IN' }, { OUT: 'OUT' })).replace(
    'dims: -1',
    'dims: -1 reshape { shape: [ -1, 1 ] }',
  );
  checkConfig(parseConfig(`name: "e" ${text}`, 'f'));
  checkConfig(parseConfig(`name: "m" ${config('TYPE_INT32')}`, 'f'));
});
