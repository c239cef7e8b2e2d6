import assert from 'node:assert/strict';
import { readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { GRPCInferenceService, type ModelInferResponse } from '../src/grpc/proto/inference_pb.js';
import { serveGrpc, type GrpcServing } from './grpc-client.ts';
import { until } from './serving.ts';

/** System memory is read and written as Linux has it. */
const skip = process.platform !== 'linux' && 'needs /dev/shm';
const DISABLED = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable.";
/** Two rows of ids for `embed`, 32 bytes; its answer is two rows of four, as many. */
const IDS = Buffer.from(BigInt64Array.of(1n, 2n, 3n, 4n).buffer);

let made = 0;

/** Shared memory with these bytes, as a client would have it; gone with the test. */
function sharedMemory(t: TestContext, bytes: Uint8Array): { key: string; file: string } {
  const name = `rose-test-${process.pid}-${made++}`;
  const file = `/dev/shm/${name}`;
  writeFileSync(file, bytes);
  t.after(() => rmSync(file, { force: true }));
  return { key: `/${name}`, file };
}

const serveAllowed = (t: TestContext): Promise<GrpcServing> =>
  serveGrpc(t, GRPCInferenceService, { allowClientSharedMemory: true });

async function refused(reply: Promise<Response>, status: number, text: string | RegExp): Promise<void> {
  const response = await reply;
  const { error } = (await response.json()) as { error: string };
  if (typeof text === 'string') assert.equal(error, text);
  else assert.match(error, text);
  assert.equal(response.status, status, error);
}

function inferBody(input: object, output?: object): object {
  return {
    inputs: [{ name: 'INPUT_IDS', shape: [2, 2], datatype: 'INT64', parameters: input }],
    outputs: [{ name: 'EMBEDDING', ...(output && { parameters: output }) }],
  };
}

const place = (
  shared_memory_region: string,
  shared_memory_byte_size: unknown,
  shared_memory_offset?: unknown,
): object => ({
  ...{ shared_memory_region, shared_memory_byte_size },
  ...(shared_memory_offset !== undefined && { shared_memory_offset }),
});

test('shared memory is off unless it is allowed; its status can be asked', { skip }, async (t) => {
  const { get, post, call } = await serveGrpc(t, GRPCInferenceService);
  const { key } = sharedMemory(t, IDS);
  for (const kind of ['system', 'cuda']) {
    const path = `/v2/${kind}sharedmemory`;
    assert.deepEqual(await (await get(`${path}/status`)).json(), []);
    await refused(get(`${path}/region/a/status`), 404, `Unable to find ${kind} shared memory region: 'a'`);
    await refused(post(`${path}/region/a/register`, { key, byte_size: 32 }), 501, DISABLED);
    await refused(post(`${path}/unregister`, ''), 501, DISABLED);
  }
  await assert.rejects(call(GRPCInferenceService, 'SystemSharedMemoryRegister', { name: 'a', key, byteSize: 32n }), {
    code: 12,
    details: DISABLED,
  });
  await refused(
    post('/v2/models/embed/infer', inferBody(place('a', 32))),
    404,
    "Unable to find shared memory region: 'a'",
  );
  assert.ok(!(await (await get('/v2')).json()).extensions.includes('system_shared_memory'));
});

test('regions are registered, listed and forgotten over both protocols', { skip }, async (t) => {
  const { get, post, call } = await serveAllowed(t);
  const { key } = sharedMemory(t, Buffer.alloc(64));
  const path = '/v2/systemsharedmemory';
  assert.ok((await (await get('/v2')).json()).extensions.includes('system_shared_memory'));
  assert.equal((await post(`${path}/region/a/register`, { key, byte_size: 32, offset: 16 })).status, 200);
  await call(GRPCInferenceService, 'SystemSharedMemoryRegister', { name: 'b', key, byteSize: 64n });
  const b = { name: 'b', key, offset: 0, byte_size: 64 };
  assert.deepEqual(await (await get(`${path}/status`)).json(), [{ name: 'a', key, offset: 16, byte_size: 32 }, b]);
  assert.deepEqual(await (await get(`${path}/region/b/status`)).json(), [b]);
  const { regions } = await call(GRPCInferenceService, 'SystemSharedMemoryStatus', { name: 'a' });
  assert.deepEqual([regions.a.key, regions.a.offset, regions.a.byteSize], [key, 16n, 32n]);
  await refused(
    get('/v2/cudasharedmemory/region/a/status'),
    404,
    "The region named 'a' is registered as system shared memory, not CUDA shared memory",
  );
  // Another kind's and an unknown one are no error, and nothing happens.
  assert.equal((await post('/v2/cudasharedmemory/region/a/unregister', '')).status, 200);
  assert.equal((await post(`${path}/region/unknown/unregister`, '')).status, 200);
  assert.equal((await (await get(`${path}/status`)).json()).length, 2);
  await call(GRPCInferenceService, 'SystemSharedMemoryUnregister', { name: 'a' });
  assert.deepEqual(await (await get(`${path}/status`)).json(), [b]);
  assert.equal((await post(`${path}/unregister`, '')).status, 200);
  assert.deepEqual(await (await get(`${path}/status`)).json(), []);
});

test('a region that cannot be is refused with the reason', { skip }, async (t) => {
  const { post } = await serveAllowed(t);
  const { key, file } = sharedMemory(t, Buffer.alloc(64));
  const register = (name: string, body: unknown): Promise<Response> =>
    post(`/v2/systemsharedmemory${name}/register`, body) as Promise<unknown> as Promise<Response>;
  const failed = "failed to register shared memory region 'a'";
  await refused(register('', {}), 400, "'region name' is necessary to register system shared memory region");
  await refused(register('/region/a', {}), 400, "Shared memory register request has no 'key' field");
  await refused(register('/region/a', { key }), 400, "Shared memory register request has no 'byte_size' field");
  await refused(register('/region/a', { key: 1, byte_size: 1 }), 500, 'attempt to access JSON non-string as string');
  await refused(register('/region/a', { key, byte_size: -1 }), 500, /non-unsigned-integer/);
  for (const bad of ['/', '///']) {
    const text = `cannot register shared memory region 'a' - invalid shm key '${bad}'`;
    await refused(register('/region/a', { key: bad, byte_size: 1 }), 400, text);
  }
  await refused(
    register('/region/a', { key: '//triton_python_backend_shm_region_1', byte_size: 1 }),
    400,
    /reserved prefix/,
  );
  const link = sharedMemory(t, Buffer.alloc(0));
  rmSync(link.file);
  symlinkSync(file, link.file);
  for (const bad of ['/not-there', '/../tmp/x', '/..', '/a\0b', `/${'x'.repeat(300)}`, link.key]) {
    await refused(
      register('/region/a', { key: bad, byte_size: 1 }),
      500,
      `Unable to open shared memory region: '${bad}'`,
    );
  }
  for (const [offset, byte_size] of [
    [0, 65],
    [1, 64],
    [64, 1],
    [65, 0],
  ]) {
    await refused(register('/region/a', { key, offset, byte_size }), 400, `${failed}: invalid args`);
  }
  const huge = `{"key":"${key}","offset":18446744073709551615,"byte_size":18446744073709551615}`;
  await refused(register('/region/a', huge), 400, `${failed}: invalid args`);
  await refused(register('/region/a', { key, byte_size: 0 }), 400, /at least one byte/);
  assert.equal((await register('/region/a', { key, byte_size: 64 })).status, 200);
  await refused(register('/region/a', { key, byte_size: 64 }), 400, "shared memory region 'a' already in manager");
});

test('inputs come from regions and outputs go there, over both protocols', { skip }, async (t) => {
  const { post, call } = await serveAllowed(t);
  const memory = sharedMemory(t, Buffer.concat([Buffer.alloc(8), IDS, Buffer.alloc(88)]));
  await post('/v2/systemsharedmemory/region/m/register', { key: memory.key, byte_size: 124, offset: 4 });
  const body = { inputs: [{ name: 'INPUT_IDS', shape: [2, 2], datatype: 'INT64', data: [1, 2, 3, 4] }] };
  const [{ data }] = (await (await post('/v2/models/embed/infer', body)).json()).outputs;
  const expected = Buffer.from(Float32Array.from(data as number[]).buffer);

  const reply = await post('/v2/models/embed/infer', inferBody(place('m', 32, 4), place('m', 40, 36)));
  assert.deepEqual((await reply.json()).outputs, [{ name: 'EMBEDDING', datatype: 'FP32', shape: [2, 4] }]);
  assert.deepEqual(readFileSync(memory.file).subarray(40, 72), expected);

  const text = (value: string): object => ({ parameterChoice: { case: 'stringParam', value } });
  const int = (value: bigint): object => ({ parameterChoice: { case: 'int64Param', value } });
  const region = (bytes: bigint, offset: bigint): Record<string, object> => ({
    shared_memory_region: text('m'),
    shared_memory_byte_size: int(bytes),
    shared_memory_offset: int(offset),
  });
  const infer = (input: object, output: object, raw: Uint8Array[] = []): Promise<ModelInferResponse> =>
    call(GRPCInferenceService, 'ModelInfer', {
      modelName: 'embed',
      inputs: [{ name: 'INPUT_IDS', datatype: 'INT64', shape: [2n, 2n], parameters: input }],
      outputs: [{ name: 'EMBEDDING', parameters: output }],
      rawInputContents: raw,
    });
  const response = await infer(region(32n, 4n), region(32n, 84n));
  assert.deepEqual(
    response.rawOutputContents.map(({ length }) => length),
    [0],
  );
  assert.deepEqual(readFileSync(memory.file).subarray(88, 120), expected);
  // The other way round: an input in the message, the output in the region.
  await infer({}, region(32n, 0n), [new Uint8Array(IDS)]);
  assert.deepEqual(readFileSync(memory.file).subarray(4, 36), expected);

  await assert.rejects(infer(region(32n, -4n), {}), {
    code: 3,
    details: "Invalid offset for shared memory region: 'm'",
  });
  await assert.rejects(infer({ shared_memory_region: text('m') }, {}), {
    code: 3,
    details: /'shared_memory_byte_size' must be specified/,
  });
  await assert.rejects(infer({ shared_memory_offset: int(0n) }, {}), {
    code: 3,
    details: /can not be specified without 'shared_memory_region'/,
  });
  await assert.rejects(infer({ shared_memory_region: int(0n) }, {}), { code: 3, details: /expected string_param/ });
  await assert.rejects(infer(region(32n, 4n), {}, [new Uint8Array(IDS)]), {
    code: 3,
    details: /expected 0 raw input contents/,
  });
  await assert.rejects(infer(region(32n, 4n), { ...region(32n, 84n), classification: int(1n) }), {
    code: 3,
    details: /can't set both/,
  });
  assert.deepEqual(readFileSync(memory.file).subarray(4, 36), expected);
});

test('what does not lie in its region is refused, and nothing is read or written', { skip }, async (t) => {
  const { post, hub } = await serveAllowed(t);
  const memory = sharedMemory(t, Buffer.concat([IDS, Buffer.alloc(32)]));
  await post('/v2/systemsharedmemory/region/m/register', { key: memory.key, byte_size: 64 });
  const infer = (input: object, output?: object): Promise<Response> =>
    post('/v2/models/embed/infer', inferBody(input, output)) as Promise<unknown> as Promise<Response>;
  const range = "Invalid offset + byte size for shared memory region: 'm'";
  await refused(infer(place('n', 32)), 404, "Unable to find shared memory region: 'n'");
  await refused(infer(place('m', 32, 64)), 400, "Invalid offset for shared memory region: 'm'");
  await refused(infer(place('m', 32, 33)), 400, range);
  await refused(infer(place('m', 32), place('m', 65)), 400, range);
  await refused(
    infer(place('m', 64)),
    400,
    /input byte size mismatch for input 'INPUT_IDS' for model 'embed'. Expected 32, got 64/,
  );
  await refused(infer(place('m', -1)), 500, /Unable to parse 'shared_memory_byte_size'/);
  await refused(infer(place('m', '32')), 500, /Unable to parse 'shared_memory_byte_size'/);
  await refused(
    infer(place('m', 32), { ...place('m', 32, 32), binary_data: true }),
    400,
    /can't set both 'shared_memory_region' and 'binary_data'/,
  );
  await refused(
    infer(place('m', 32), { ...place('m', 32, 32), classification: 1 }),
    400,
    /can't set both 'shared_memory_region' and 'classification'/,
  );
  const overflow = JSON.stringify(inferBody(place('m', 32), place('m', 0, 32))).replace(
    'byte_size":0',
    `byte_size":${2n ** 64n - 32n}`,
  );
  await refused(
    post('/v2/models/embed/infer', overflow) as Promise<unknown> as Promise<Response>,
    400,
    `Integer overflow detected: byte_size (${2n ** 64n - 32n}) + offset (32) exceeds maximum value (${2n ** 64n - 1n}) for region 'm'`,
  );
  assert.equal(hub.seen.embed, undefined);
  await refused(
    infer(place('m', 32), place('m', 31, 32)),
    500,
    "shared memory size specified with the request for output 'EMBEDDING' (31 bytes) should be at least 32 bytes to hold the results",
  );
  // A client that takes its memory away gets an error, and the server goes on.
  truncateSync(memory.file, 40);
  await refused(infer(place('m', 32), place('m', 32, 32)), 400, range);
  truncateSync(memory.file, 16);
  await refused(infer(place('m', 32)), 400, range);
  assert.equal(readFileSync(memory.file).length, 16);
});

test('a region that is forgotten while a request uses it stays until the request has ended', { skip }, async (t) => {
  const { get, post, hub } = await serveAllowed(t);
  const word = Buffer.concat([Buffer.from([5, 0, 0, 0]), Buffer.from('!hang')]);
  const { key } = sharedMemory(t, word);
  const status = async (): Promise<unknown[]> => (await get('/v2/systemsharedmemory/status')).json();
  await post('/v2/systemsharedmemory/region/m/register', { key, byte_size: 9 });
  const leave = new AbortController();
  const body = { inputs: [{ name: 'TEXT', shape: [1, 1], datatype: 'BYTES', parameters: place('m', 9) }] };
  const reply = post('/v2/models/embed/infer', body, { signal: leave.signal });
  reply.catch(() => {});
  await until(() => hub.active > 0, 'the request reaches the engine');
  await post('/v2/systemsharedmemory/unregister', '');
  assert.equal((await status()).length, 1);
  await refused(
    post('/v2/systemsharedmemory/region/m/register', { key, byte_size: 9 }) as Promise<unknown> as Promise<Response>,
    400,
    "shared memory region 'm' already in manager",
  );
  leave.abort();
  await until(() => hub.active === 0, 'the engine forgets the request');
  while ((await status()).length > 0) await new Promise((resolve) => setTimeout(resolve, 5));
});

test('memory of a GPU needs a handle of the right size, and a GPU', async (t) => {
  const { get, post, call } = await serveAllowed(t);
  const register = (raw_handle: unknown): Promise<Response> =>
    post('/v2/cudasharedmemory/region/g/register', {
      raw_handle,
      byte_size: 64,
      device_id: 999,
    }) as Promise<unknown> as Promise<Response>;
  await refused(register(undefined), 400, "Shared memory register request has no 'raw_handle' field");
  await refused(register({ b64: 'AAAA' }), 400, /'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t/);
  const handle = Buffer.alloc(64);
  // Where there is a GPU there is none of this number.
  const why = /^failed to register CUDA shared memory region: 'g', (GPUs not supported|there is no GPU 999)/;
  await refused(register({ b64: handle.toString('base64') }), 400, why);
  const request = { name: 'g', rawHandle: handle, deviceId: 999n, byteSize: 64n };
  await assert.rejects(call(GRPCInferenceService, 'CudaSharedMemoryRegister', request), { code: 3, details: why });
  assert.deepEqual(await (await get('/v2/cudasharedmemory/status')).json(), []);
});
