/** A client of Triton's and KServe's HTTP protocol. It needs nothing but the platform: browsers and Node.js run it. */
export { HttpClient, type GenerateFields, type HttpClientOptions } from './http/client.ts';
export type { Json } from './http/json.ts';
export type { InferenceClient, Version } from './client.ts';
export type * from './description.ts';
export { InferenceError, type ErrorKind } from './errors.ts';
export type { ArrayOf, DataType, NumericType } from './datatype.ts';
export { tensor, texts, type ElementsOf, type Tensor } from './tensor.ts';
export type {
  CallOptions,
  ClientOptions,
  InferRequest,
  ParameterValue,
  Parameters,
  RequestedOutput,
  SharedInput,
  SharedMemory,
} from './request.ts';
export { InferResponse, type OutputTensor } from './response.ts';
