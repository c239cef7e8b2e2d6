import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import { serveGrpc } from './grpc-client.ts';
import { config, makeRepository, model, numbers, useTemporaryDirectory } from './repository-kit.ts';
import { until } from './serving.ts';

const MIB = 2 ** 20;
const HELD = 128 * MIB;
/** What the process may keep: freed pages that the allocators hold back, and garbage. */
const KEPT = 64 * MIB;

/** Threads of this process; undefined where the system does not tell. */
function threads(): number | undefined {
  return existsSync('/proc/self/task') ? readdirSync('/proc/self/task').length : undefined;
}

test('unloading gives back memory, threads and files', async (t) => {
  const holds = model(
    "{ OUT: tensor('INT32', [1], Int32Array.of(this.weights.length)) }",
    `initialize() { this.weights = new Uint8Array(${HELD}).fill(1); }`,
  );
  const directory = makeRepository(t, { 'm/config.pbtxt': config('TYPE_INT32'), 'm/1/model.ts': holds });
  const temporary = useTemporaryDirectory(t);
  const { get, post, call } = await serveGrpc(t, GRPCInferenceService, {
    repository: { directories: [directory], mode: 'explicit' },
  });
  const bytes = (text: string) => ({ parameterChoice: { case: 'bytesParam', value: Buffer.from(text) } });
  const text = (value: string) => ({ parameterChoice: { case: 'stringParam', value } });
  const tensors = (name: string) => [{ name, data_type: 'TYPE_INT32', dims: [-1] }];
  const parameters = {
    config: text(JSON.stringify({ backend: 'typescript', input: tensors('IN'), output: tensors('OUT') })),
    'file:3/model.ts': bytes(holds),
    'file:3/more/data.txt': bytes('beside it'),
  };
  const cycle = async (): Promise<number> => {
    // As it stands in the repository, and with a client's own files.
    assert.equal((await post('/v2/repository/models/m/load', '')).status, 200);
    await call(GRPCInferenceService, 'RepositoryModelLoad', { modelName: 'own', parameters });
    assert.equal(readdirSync(temporary).length, 1);
    const answer = await (await post('/v2/models/own/infer', numbers(0))).json();
    assert.deepEqual([answer.model_version, answer.outputs[0].data], ['3', [HELD]]);
    const most = process.memoryUsage.rss();
    for (const name of ['m', 'own']) assert.equal((await post(`/v2/repository/models/${name}/unload`, '')).status, 200);
    assert.deepEqual(readdirSync(temporary), []);
    return most;
  };
  await cycle();
  const [base, ours] = [process.memoryUsage.rss(), threads()];
  for (let i = 0; i < 4; i++) {
    const most = await cycle();
    assert.ok(most - base > 2 * HELD - KEPT, `two models take ${(most - base) / MIB} MiB`);
    await until(() => process.memoryUsage.rss() - base < KEPT, 'the memory is given back');
    // A thread's end is told before the system has cleared it away.
    await until(() => (threads() ?? 0) <= (ours ?? 0), 'the threads are gone');
  }
  const metrics = await (await get('/metrics')).text();
  assert.doesNotMatch(metrics, /model="(m|own)"/);
});
