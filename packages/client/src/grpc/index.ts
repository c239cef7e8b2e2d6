/** A client of Triton's and KServe's gRPC protocol, for Node.js; the rest of the client's face is `@rose/client`. */
export { GrpcClient, type GrpcClientOptions } from './client.ts';
export type { InferStream, StreamEvent } from './stream.ts';
