import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test, type TestContext } from 'node:test';
import {
  credentials,
  makeGenericClientConstructor,
  status,
  type ChannelOptions,
  type ClientDuplexStream,
} from '@grpc/grpc-js';
import { create, fromBinary, type DescService } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { serviceDefinition } from '../src/grpc/definition.ts';
import {
  GRPCInferenceService,
  ModelInferRequestSchema,
  type ModelInferResponse,
} from '../src/grpc/proto/inference_pb.js';
import {
  ServerReflection,
  ServerReflectionRequestSchema,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
} from '../src/grpc/proto/reflection_pb.js';
import {
  ServerReflection as AlphaReflection,
  ServerReflectionRequestSchema as AlphaRequestSchema,
} from '../src/grpc/proto/reflection_v1alpha_pb.js';
import { serveGrpc } from './grpc-client.ts';
import { config, IDENTITY, makeRepository } from './repository-kit.ts';
import { until } from './serving.ts';

const SERVICE = GRPCInferenceService;
type Asked = ServerReflectionRequest['messageRequest'];
type Told = ServerReflectionResponse['messageResponse'];
type Methods = Record<string, (...values: unknown[]) => unknown>;

function clientOf(t: TestContext, of: DescService, address: string, options: ChannelOptions = {}): Methods {
  const client = new (makeGenericClientConstructor(serviceDefinition(of), of.typeName))(
    address,
    credentials.createInsecure(),
    { 'grpc.max_receive_message_length': -1, ...options },
  );
  t.after(() => client.close());
  return client as unknown as Methods;
}

for (const [name, service, schema] of [
  ['v1', ServerReflection, ServerReflectionRequestSchema],
  ['v1alpha', AlphaReflection, AlphaRequestSchema],
] as const) {
  test(`reflection ${name} tells of services and of the files that define them`, async (t) => {
    const { address } = await serveGrpc(t, SERVICE);
    const client = clientOf(t, service, address);
    const call = client.ServerReflectionInfo() as ClientDuplexStream<object, ServerReflectionResponse>;
    const ask = async (messageRequest: Asked): Promise<Told> => {
      call.write(create(schema as typeof ServerReflectionRequestSchema, { host: 'h', messageRequest }));
      const [response] = (await once(call, 'data')) as [ServerReflectionResponse];
      assert.deepEqual([response.validHost, response.originalRequest?.messageRequest.case], ['h', messageRequest.case]);
      return response.messageResponse;
    };
    const files = (told: Told): string[] => {
      assert.equal(told.case, 'fileDescriptorResponse');
      const { fileDescriptorProto } = told.value as { fileDescriptorProto: Uint8Array[] };
      return fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name);
    };
    const list = await ask({ case: 'listServices', value: '' });
    assert.deepEqual(
      (list.value as { service: { name: string }[] }).service.map((one) => one.name),
      [
        'grpc.health.v1.Health',
        'grpc.reflection.v1.ServerReflection',
        'grpc.reflection.v1alpha.ServerReflection',
        'inference.GRPCInferenceService',
      ],
    );
    const inference = ['inference.proto', 'model_config.proto'];
    for (const value of [
      'inference.GRPCInferenceService',
      'inference.GRPCInferenceService.ModelInfer',
      'inference.ModelInferRequest.InferInputTensor',
      'inference.ModelInferRequest.InferInputTensor.datatype',
    ]) {
      assert.deepEqual(files(await ask({ case: 'fileContainingSymbol', value })), inference, value);
    }
    assert.deepEqual(
      files(await ask({ case: 'fileContainingSymbol', value: 'inference.TYPE_FP32' })),
      inference.slice(1),
    );
    assert.deepEqual(files(await ask({ case: 'fileByFilename', value: 'health.proto' })), ['health.proto']);
    const extensions = await ask({ case: 'allExtensionNumbersOfType', value: 'inference.ModelConfig' });
    assert.deepEqual((extensions.value as { extensionNumber: number[] }).extensionNumber, []);
    for (const asked of [
      { case: 'fileByFilename', value: '../secret.proto' },
      { case: 'fileContainingSymbol', value: 'nobody.knows' },
      { case: 'allExtensionNumbersOfType', value: 'nobody.knows' },
    ] as Asked[]) {
      const told = await ask(asked);
      assert.equal((told.value as { errorCode: number }).errorCode, status.NOT_FOUND);
    }
    call.end();
    await once(call, 'end');
  });
}

interface Sent {
  readonly response: ModelInferResponse;
}

async function identity(t: TestContext, maxMessageBytes?: number): Promise<{ address: string; send: Send }> {
  const files = { 'm/config.pbtxt': config('TYPE_UINT8'), 'm/1/model.ts': IDENTITY };
  const { address } = await serveGrpc(t, SERVICE, {
    repository: { directories: [makeRepository(t, files)] },
    grpc: { port: 0, ...(maxMessageBytes !== undefined && { maxMessageBytes }) },
  });
  const send: Send = (bytes, options) =>
    new Promise((resolve, reject) => {
      const request = create(ModelInferRequestSchema, {
        modelName: 'm',
        inputs: [{ name: 'IN', datatype: 'UINT8', shape: [BigInt(bytes.length)] }],
        rawInputContents: [bytes],
      });
      clientOf(t, SERVICE, address, options).ModelInfer(request, (error: unknown, response: ModelInferResponse) =>
        error === null ? resolve({ response }) : reject(error),
      );
    });
  return { address, send };
}
type Send = (bytes: Buffer<ArrayBuffer>, options?: ChannelOptions) => Promise<Sent>;

const GZIP = { 'grpc.default_compression_algorithm': 2 };
const DEFLATE = { 'grpc.default_compression_algorithm': 1 };

test('messages beyond 4 MiB pass in both directions, compressed or not', async (t) => {
  const { send } = await identity(t);
  const bytes = Buffer.from(Uint8Array.from({ length: 6_000_000 }, (_, i) => (i >> 8) * 7));
  for (const options of [{}, GZIP, DEFLATE]) {
    const { response } = await send(bytes, options);
    assert.ok(bytes.equals(response.rawOutputContents[0]));
  }
});

test('a message above the limit is refused, also one that only grows when it is unpacked', async (t) => {
  const { send } = await identity(t, 100_000);
  assert.equal((await send(Buffer.alloc(90_000))).response.modelName, 'm');
  for (const options of [{}, GZIP, DEFLATE]) {
    await assert.rejects(send(Buffer.alloc(50_000_000), options), { code: status.RESOURCE_EXHAUSTED });
  }
  assert.equal((await send(Buffer.alloc(90_000), GZIP)).response.modelName, 'm');
});

test('a deadline ends the work of a stream', async (t) => {
  const { address, hub } = await serveGrpc(t, SERVICE);
  const call = clientOf(t, SERVICE, address).ModelStreamInfer({ deadline: Date.now() + 1000 }) as ClientDuplexStream<
    object,
    object
  >;
  const failed = once(call, 'error');
  call.write(
    create(ModelInferRequestSchema, {
      modelName: 'chat',
      inputs: [
        { name: 'text_input', datatype: 'BYTES', shape: [1n], contents: { bytesContents: [Buffer.from('!hang')] } },
      ],
    }),
  );
  await until(() => hub.active === 1, 'the request reaches the engine');
  assert.equal(((await failed) as [{ code: number }])[0].code, status.DEADLINE_EXCEEDED);
  await until(() => hub.active === 0, 'the engine forgets the request');
  assert.equal(hub.aborted, 1);
});

/** What every HTTP/2 client says first: the preface, and settings (RFC 9113, 3.4 and 6.5). */
const PREFACE = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
]);

test('a client that does not answer pings is cut off; one that does stays', async (t) => {
  const { address, call } = await serveGrpc(t, SERVICE, {
    grpc: { port: 0, keepaliveTimeMs: 100, keepaliveTimeoutMs: 300 },
  });
  const silent = connect(Number(address.split(':')[1]), '127.0.0.1', () => silent.write(PREFACE));
  silent.on('error', () => {});
  silent.resume();
  const client = clientOf(t, SERVICE, address);
  const live = (): Promise<void> =>
    new Promise((resolve, reject) => {
      client.ServerLive({}, (error: unknown) => (error === null ? resolve() : reject(error)));
    });
  await live();
  await once(silent, 'close');
  await live();
  assert.equal((await call(SERVICE, 'ServerLive')).live, true);
});

test('a connection without calls ends, whether or not it ever spoke; one with a call stays', async (t) => {
  const { address, hub, stream } = await serveGrpc(t, SERVICE, { grpc: { port: 0, maxConnectionIdleMs: 300 } });
  const inputs = [
    { name: 'text_input', datatype: 'BYTES', shape: [1n], contents: { bytesContents: [Buffer.from('!hang')] } },
  ];
  const busy = stream();
  busy.send({ modelName: 'chat', inputs });
  await until(() => hub.active === 1, 'the request reaches the engine');
  const port = Number(address.split(':')[1]);
  const mute = connect(port, '127.0.0.1')
    .on('error', () => {})
    .resume();
  const silent = connect(port, '127.0.0.1', () => silent.write(PREFACE))
    .on('error', () => {})
    .resume();
  await Promise.all([once(mute, 'close'), once(silent, 'close')]);
  assert.equal(hub.active, 1);
  busy.call.cancel();
  await until(() => hub.active === 0, 'the engine forgets the request');
});

test('a connection that is old enough ends, and the client goes on over another', async (t) => {
  const { address } = await serveGrpc(t, SERVICE, { grpc: { port: 0, maxConnectionAgeMs: 200 } });
  const old = connect(Number(address.split(':')[1]), '127.0.0.1', () => old.write(PREFACE));
  old.on('error', () => {});
  const begun = performance.now();
  const client = clientOf(t, SERVICE, address);

  old.resume();
  let calls = 0;
  while (!old.closed && performance.now() - begun < 20_000) {
    await new Promise<void>((resolve, reject) => {
      client.ServerLive({}, (error: unknown) => (error === null ? resolve() : reject(error)));
    });
    calls++;
  }
  assert.ok(old.closed);
  assert.ok(calls > 0);
});
