import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { DeviceMemory, exportMemory } from '@rose/cuda';
import { openGpu } from '../src/kernel/gpu.ts';
import { withoutGpu } from './linear-rows.ts';
import { start } from './rose.ts';

const CONFIG = `
name: "echo" backend: "typescript"
input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] } ]`;
const MODEL = `
export default class {
  execute(requests) {
    return requests.map((request) => ({ outputs: { OUT: request.input('IN') } }));
  }
}`;

/** An allocation of its own, so that its handle begins where it does. */
const ALLOCATION = 2 ** 21;

test('a server reads and writes the memory of a client on a GPU', { skip: withoutGpu() }, async (t) => {
  const repository = mkdtempSync(join(tmpdir(), 'rose-cuda-shm-'));
  t.after(() => rmSync(repository, { recursive: true }));
  mkdirSync(join(repository, 'echo', '1'), { recursive: true });
  writeFileSync(join(repository, 'echo', 'config.pbtxt'), CONFIG);
  writeFileSync(join(repository, 'echo', '1', 'model.js'), MODEL);
  const running = start([
    ...['serve', '--port', '0', '--model-repository', repository],
    ...['--allow-client-shm', 'true'],
  ]);
  t.after(() => running.process.kill('SIGKILL'));
  const [, url] = await running.until(/listening on (\S+)/);
  const post = (path: string, body?: object): Promise<Response> =>
    fetch(`${url}/v2/${path}`, { method: 'POST', ...(body && { body: JSON.stringify(body) }) });
  const register = (memory: DeviceMemory, byte_size: number): Promise<Response> => {
    const raw_handle = { b64: Buffer.from(exportMemory(memory)).toString('base64') };
    return post('cudasharedmemory/region/g/register', { raw_handle, byte_size, device_id: 0 });
  };

  using gpu = openGpu(0);
  using memory = new DeviceMemory(gpu.context, ALLOCATION);
  const values = Int32Array.from({ length: 8192 }, (_, i) => i * 3 - 5);
  memory.write(values, 64);

  const refused = await register(memory, 2 * ALLOCATION);
  assert.match(((await refused.json()) as { error: string }).error, /has \d+ bytes, fewer than the 4194304 asked for/);
  assert.equal(refused.status, 400);

  assert.equal((await register(memory, ALLOCATION)).status, 200);
  const status = await (await fetch(`${url}/v2/cudasharedmemory/status`)).json();
  assert.deepEqual(status, [{ name: 'g', device_id: 0, byte_size: ALLOCATION }]);
  const place = (offset: number): object => ({
    ...{ shared_memory_region: 'g', shared_memory_byte_size: values.byteLength, shared_memory_offset: offset },
  });
  const reply = await post('models/echo/infer', {
    inputs: [{ name: 'IN', shape: [values.length], datatype: 'INT32', parameters: place(64) }],
    outputs: [{ name: 'OUT', parameters: place(1_000_000) }],
  });
  const text = await reply.text();
  assert.deepEqual((JSON.parse(text) as { outputs: object[] }).outputs, [
    { name: 'OUT', datatype: 'INT32', shape: [values.length] },
  ]);
  const got = new Int32Array(values.length);
  memory.read(got, 1_000_000);
  assert.deepEqual(got, values);

  assert.equal((await post('cudasharedmemory/region/g/unregister')).status, 200);
  assert.deepEqual(await (await fetch(`${url}/v2/cudasharedmemory/status`)).json(), []);
  assert.equal((await register(memory, ALLOCATION)).status, 200);
  running.process.kill('SIGTERM');
  assert.equal((await running.ended).code, 0);
});
