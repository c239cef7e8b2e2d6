import type { TestContext } from 'node:test';
import {
  credentials,
  makeGenericClientConstructor,
  Metadata,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ServiceError,
} from '@grpc/grpc-js';
import { create, type DescMethod, type DescService, type MessageInitShape } from '@bufbuild/protobuf';
import { serviceDefinition } from '../src/grpc/definition.ts';
import {
  ModelInferRequestSchema,
  type ModelInferRequest,
  type ModelInferResponse,
  type ModelStreamInferResponse,
} from '../src/grpc/proto/inference_pb.js';
import type { ServerOptions } from '@rose/server';
import { serve, type Serving } from './serving.ts';

// What a server answers is what tests are about: they look into it without a type.
// oxlint-disable-next-line typescript/no-explicit-any
type Answer = any;

export interface GrpcServing extends Serving {
  readonly address: string;
  /** One call of a unary method; rejects with a ServiceError. */
  readonly call: (
    service: DescService,
    name: string,
    request?: Record<string, unknown>,
    options?: CallOptions,
  ) => Promise<Answer>;
  /** An open stream of a method that answers with one. */
  readonly open: (
    service: DescService,
    name: string,
    request?: Record<string, unknown>,
  ) => ClientReadableStream<Answer>;
  readonly stream: (metadata?: Record<string, string>) => InferStream;
}

export interface CallOptions {
  readonly deadlineMs?: number;
  readonly metadata?: Record<string, string>;
  readonly signal?: AbortSignal;
}

/** A ModelStreamInfer call, with what came so far. */
export interface InferStream {
  readonly call: ClientDuplexStream<ModelInferRequest, ModelStreamInferResponse>;
  readonly responses: ModelStreamInferResponse[];
  send(request: MessageInitShape<typeof ModelInferRequestSchema>): void;
  /** Says that nothing follows, and waits for the end; rejects with a ServiceError. */
  end(): Promise<ModelStreamInferResponse[]>;
}

/** A server over the fake hub with gRPC, and a client of it, for the time of one test. */
export async function serveGrpc(
  t: TestContext,
  service: DescService,
  options: Partial<ServerOptions> = {},
): Promise<GrpcServing> {
  const serving = await serve(t, { grpc: { port: 0 }, ...options });
  const address = `127.0.0.1:${serving.server.grpcPort}`;
  const client = (of: DescService): Record<string, (...values: unknown[]) => unknown> => {
    const made = new (makeGenericClientConstructor(serviceDefinition(of), of.typeName))(
      address,
      credentials.createInsecure(),
      { 'grpc.max_receive_message_length': -1 },
    );
    t.after(() => made.close());
    return made as never;
  };
  const inference = client(service);
  return {
    ...serving,
    address,
    call: (of, name, request = {}, options = {}) =>
      new Promise((resolve, reject) => {
        const done = (error: ServiceError | null, response: unknown): void =>
          error ? reject(error) : resolve(response);
        const { deadlineMs, metadata = {}, signal } = options;
        const call = client(of)[name](
          create(methodOf(of, name).input, request),
          metadataOf(metadata),
          deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs },
          done,
        ) as { cancel(): void };
        signal?.addEventListener('abort', () => call.cancel());
      }),
    open: (of, name, request = {}) =>
      client(of)[name](create(methodOf(of, name).input, request)) as ClientReadableStream<Answer>,
    stream: (metadata = {}) => {
      const call = inference.ModelStreamInfer(metadataOf(metadata)) as InferStream['call'];
      const responses: ModelStreamInferResponse[] = [];
      const ended = new Promise<ModelStreamInferResponse[]>((resolve, reject) => {
        call.on('data', (response: ModelStreamInferResponse) => responses.push(response));
        call.on('error', reject);
        call.on('end', () => resolve(responses));
      });
      ended.catch(() => {});
      return {
        call,
        responses,
        send: (request) => void call.write(create(ModelInferRequestSchema, request)),
        end: () => {
          call.end();
          return ended;
        },
      };
    },
  };
}

/** Texts of a BYTES output in a response. */
export function textsOf(response: ModelInferResponse | undefined, name: string): string[] {
  const at = response?.outputs.findIndex((output) => output.name === name) ?? -1;
  if (response === undefined || at < 0) throw new Error(`the response has no output ${name}`);
  const bytes = Buffer.from(response.rawOutputContents[at]);
  const texts: string[] = [];
  for (let from = 0; from < bytes.length;) {
    const end = from + 4 + bytes.readUInt32LE(from);
    texts.push(bytes.toString('utf8', from + 4, end));
    from = end;
  }
  return texts;
}

/** A BYTES tensor as raw contents. */
export function rawTexts(...texts: string[]): Uint8Array<ArrayBuffer> {
  return Buffer.concat(
    texts.flatMap((text) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(Buffer.byteLength(text));
      return [length, Buffer.from(text)];
    }),
  );
}

function methodOf(service: DescService, name: string): DescMethod {
  const method = service.methods.find((candidate) => candidate.name === name);
  if (method === undefined) throw new Error(`${service.typeName} has no method ${name}`);
  return method;
}

function metadataOf(values: Record<string, string>): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(values)) metadata.set(name, value);
  return metadata;
}
