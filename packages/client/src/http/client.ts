import { call, limitOf } from '../attempts.ts';
import type { InferenceClient, Version } from '../client.ts';
import type {
  CudaRegion,
  LoadOverride,
  LogSettings,
  ModelConfig,
  ModelMetadata,
  ModelStatistics,
  RepositoryEntry,
  ServerMetadata,
  SystemRegion,
  TraceSettings,
} from '../description.ts';
import { InferenceError } from '../errors.ts';
import type { CallOptions, ClientOptions, InferRequest } from '../request.ts';
import type { InferResponse } from '../response.ts';
import { base64 } from './base64.ts';
import { compressed, readAligned } from './body.ts';
import { eventData } from './events.ts';
import { inferBody } from './infer-request.ts';
import { readInferResponse } from './infer-response.ts';
import { printJson, type Json } from './json.ts';

export interface HttpClientOptions extends ClientOptions {
  /** Compress the bodies of inference requests. Default: no. */
  readonly requestCompression?: 'gzip' | 'deflate';
  /** What the server may compress answers with. Browsers decide that themselves. Default: nothing. */
  readonly responseCompression?: 'gzip' | 'deflate';
  /** What makes requests; default: the platform's `fetch`. */
  readonly fetch?: typeof fetch;
}

/** The flat JSON of `/generate`: inputs and parameters of the request, outputs of the answer. */
export type GenerateFields = Readonly<Record<string, Json | undefined>>;

interface Call {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body?: Uint8Array<ArrayBuffer> | string;
  readonly headers?: Readonly<Record<string, string>>;
}

const HEADER_LENGTH = 'inference-header-content-length';

/** A client of the HTTP protocol, for browsers and Node.js. */
export class HttpClient implements InferenceClient {
  readonly #url: string;
  readonly #options: HttpClientOptions;

  /** @param url where the server is, such as `http://127.0.0.1:8000` */
  constructor(url: string, options: HttpClientOptions = {}) {
    this.#url = url.replace(/\/+$/, '');
    this.#options = options;
  }

  isLive(options: CallOptions = {}): Promise<boolean> {
    return this.#health('/v2/health/live', options);
  }

  isReady(options: CallOptions = {}): Promise<boolean> {
    return this.#health('/v2/health/ready', options);
  }

  isModelReady(model: string, version?: Version, options: CallOptions = {}): Promise<boolean> {
    return this.#health(`${modelPath(model, version)}/ready`, options);
  }

  serverMetadata(options: CallOptions = {}): Promise<ServerMetadata> {
    return this.#read('/v2', options);
  }

  modelMetadata(model: string, version?: Version, options: CallOptions = {}): Promise<ModelMetadata> {
    return this.#read(modelPath(model, version), options);
  }

  modelConfig(model: string, version?: Version, options: CallOptions = {}): Promise<ModelConfig> {
    return this.#read(`${modelPath(model, version)}/config`, options);
  }

  async statistics(model?: string, version?: Version, options: CallOptions = {}): Promise<readonly ModelStatistics[]> {
    const path = model === undefined ? '/v2/models/stats' : `${modelPath(model, version)}/stats`;
    return (await this.#read<{ model_stats: ModelStatistics[] }>(path, options)).model_stats;
  }

  async infer(model: string, request: InferRequest, options: CallOptions = {}): Promise<InferResponse> {
    const { bytes, headerLength } = inferBody(request);
    const { requestCompression: format } = this.#options;
    const body = format === undefined ? bytes : await compressed(bytes, format);
    const headers = {
      'content-type': 'application/octet-stream',
      [HEADER_LENGTH]: String(headerLength),
      ...(format !== undefined && { 'content-encoding': format }),
    };
    const path = `${modelPath(model, request.version)}/infer`;
    return this.#call({ method: 'POST', path, body, headers }, options, false, async (response) => {
      const length = response.headers.get(HEADER_LENGTH);
      const start = length === null ? undefined : Number(length);
      return readInferResponse(await readAligned(response, start ?? 0), start);
    });
  }

  /** One answer of a model over `/generate`, as flat JSON. */
  generate<Fields extends GenerateFields = GenerateFields>(
    model: string,
    fields: GenerateFields,
    options: CallOptions & { readonly version?: Version } = {},
  ): Promise<Fields> {
    const path = `${modelPath(model, options.version)}/generate`;
    return this.#call({ method: 'POST', path, body: printJson(fields) }, options, false, jsonOf<Fields>);
  }

  /**
   * A model's answers over `/generate_stream`, as they come. Leaving the loop ends the request on the server, too.
   * `timeoutMs` is the time for all of them.
   */
  async *generateStream<Fields extends GenerateFields = GenerateFields>(
    model: string,
    fields: GenerateFields,
    options: CallOptions & { readonly version?: Version } = {},
  ): AsyncGenerator<Fields> {
    const limit = limitOf(this.#options, options);
    const path = `${modelPath(model, options.version)}/generate_stream`;
    try {
      const response = await this.#fetch({ method: 'POST', path, body: printJson(fields) }, options, limit.signal);
      if (response.body === null) return;
      for await (const data of eventData(response.body)) {
        const event = parsed<Fields & { readonly error?: string }>(data);
        if (typeof event.error === 'string' && Object.keys(event).length === 1) {
          throw new InferenceError('refused', event.error);
        }
        yield event;
      }
    } catch (error) {
      throw limit.explain(asNetworkError(error, this.#url));
    }
  }

  repositoryIndex(
    { ready = false }: { readonly ready?: boolean } = {},
    options: CallOptions = {},
  ): Promise<readonly RepositoryEntry[]> {
    const post: Call = { method: 'POST', path: '/v2/repository/index', body: printJson({ ready }) };
    return this.#call(post, options, true, jsonOf<RepositoryEntry[]>);
  }

  async loadModel(model: string, override: LoadOverride = {}, options: CallOptions = {}): Promise<void> {
    const { config, files = {} } = override;
    const parameters = {
      ...(config !== undefined && { config: typeof config === 'string' ? config : JSON.stringify(config) }),
      ...Object.fromEntries(Object.entries(files).map(([path, content]) => [`file:${path}`, base64(content)])),
    };
    await this.#post(`/v2/repository/models/${encodeURIComponent(model)}/load`, { parameters }, options);
  }

  async unloadModel(
    model: string,
    { dependents = false }: { readonly dependents?: boolean } = {},
    options: CallOptions = {},
  ): Promise<void> {
    const parameters = { unload_dependents: dependents };
    await this.#post(`/v2/repository/models/${encodeURIComponent(model)}/unload`, { parameters }, options);
  }

  systemSharedMemory(name?: string, options: CallOptions = {}): Promise<readonly SystemRegion[]> {
    return this.#read(`/v2/systemsharedmemory${regionPath(name)}/status`, options);
  }

  async registerSystemSharedMemory(
    name: string,
    region: { readonly key: string; readonly byteSize: number; readonly offset?: number },
    options: CallOptions = {},
  ): Promise<void> {
    const { key, byteSize, offset = 0 } = region;
    const body = { key, offset, byte_size: byteSize };
    await this.#post(`/v2/systemsharedmemory${regionPath(name)}/register`, body, options);
  }

  async unregisterSystemSharedMemory(name?: string, options: CallOptions = {}): Promise<void> {
    await this.#post(`/v2/systemsharedmemory${regionPath(name)}/unregister`, undefined, options);
  }

  cudaSharedMemory(name?: string, options: CallOptions = {}): Promise<readonly CudaRegion[]> {
    return this.#read(`/v2/cudasharedmemory${regionPath(name)}/status`, options);
  }

  async registerCudaSharedMemory(
    name: string,
    region: { readonly rawHandle: Uint8Array; readonly deviceId: number; readonly byteSize: number },
    options: CallOptions = {},
  ): Promise<void> {
    const { rawHandle, deviceId, byteSize } = region;
    const body = { raw_handle: { b64: base64(rawHandle) }, device_id: deviceId, byte_size: byteSize };
    await this.#post(`/v2/cudasharedmemory${regionPath(name)}/register`, body, options);
  }

  async unregisterCudaSharedMemory(name?: string, options: CallOptions = {}): Promise<void> {
    await this.#post(`/v2/cudasharedmemory${regionPath(name)}/unregister`, undefined, options);
  }

  traceSettings(model?: string, options: CallOptions = {}): Promise<TraceSettings> {
    return this.#read(tracePath(model), options);
  }

  updateTraceSettings(settings: TraceSettings, model?: string, options: CallOptions = {}): Promise<TraceSettings> {
    const post: Call = { method: 'POST', path: tracePath(model), body: printJson(settings) };
    return this.#call(post, options, false, jsonOf<TraceSettings>);
  }

  logSettings(options: CallOptions = {}): Promise<LogSettings> {
    return this.#read('/v2/logging', options);
  }

  updateLogSettings(settings: LogSettings, options: CallOptions = {}): Promise<LogSettings> {
    const post: Call = { method: 'POST', path: '/v2/logging', body: printJson(settings) };
    return this.#call(post, options, false, jsonOf<LogSettings>);
  }

  /** An error status, or no answer at all, is a "no". */
  async #health(path: string, options: CallOptions): Promise<boolean> {
    try {
      await this.#call({ method: 'GET', path }, { retries: 0, ...options }, true, drained);
      return true;
    } catch (error) {
      if (error instanceof InferenceError) return false;
      throw error;
    }
  }

  #read<T>(path: string, options: CallOptions): Promise<T> {
    return this.#call({ method: 'GET', path }, options, true, jsonOf<T>);
  }

  #post(path: string, body: Json | undefined, options: CallOptions): Promise<void> {
    const text = body === undefined ? '' : printJson(body);
    return this.#call({ method: 'POST', path, body: text }, options, false, drained);
  }

  #call<T>(what: Call, options: CallOptions, reads: boolean, use: (response: Response) => Promise<T>): Promise<T> {
    return call(this.#options, options, reads, async (signal) => {
      try {
        return await use(await this.#fetch(what, options, signal));
      } catch (error) {
        throw asNetworkError(error, this.#url);
      }
    });
  }

  /** The response, if its status is good. */
  async #fetch(what: Call, options: CallOptions, signal: AbortSignal | undefined): Promise<Response> {
    const { fetch: send = fetch, headers, responseCompression = 'identity' } = this.#options;
    const response = await send(this.#url + what.path, {
      method: what.method,
      headers: {
        ...(what.body !== undefined && { 'content-type': 'application/json' }),
        'accept-encoding': responseCompression,
        ...headers,
        ...options.headers,
        ...what.headers,
      },
      ...(what.body !== undefined && { body: what.body }),
      ...(signal && { signal }),
    });
    if (response.ok) return response;
    const text = await response.text();
    const retryAfter = Number(response.headers.get('retry-after') ?? Number.NaN);
    throw new InferenceError('refused', messageOf(text) ?? `${response.status} ${response.statusText}`.trim(), {
      status: response.status,
      retryAfterSeconds: Number.isFinite(retryAfter) ? retryAfter : undefined,
    });
  }
}

function modelPath(model: string, version: Version): string {
  return `/v2/models/${encodeURIComponent(model)}${version === undefined ? '' : `/versions/${version}`}`;
}

function regionPath(name: string | undefined): string {
  return name === undefined ? '' : `/region/${encodeURIComponent(name)}`;
}

function tracePath(model: string | undefined): string {
  return model === undefined ? '/v2/trace/setting' : `/v2/models/${encodeURIComponent(model)}/trace/setting`;
}

/** The protocol's body of an error. */
function messageOf(text: string): string | undefined {
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    return typeof error === 'string' ? error : undefined;
  } catch {
    return undefined;
  }
}

async function jsonOf<T>(response: Response): Promise<T> {
  return parsed<T>(await response.text());
}

async function drained(response: Response): Promise<void> {
  await response.arrayBuffer();
}

function parsed<T>(text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (error) {
    throw new InferenceError('protocol', `the answer is not JSON: ${(error as Error).message}`, { cause: error });
  }
}

/** What `fetch` rejects with says little; its cause, in Node.js, says more. */
function asNetworkError(error: unknown, url: string): unknown {
  if (!(error instanceof TypeError)) return error;
  const { message, code } = (error.cause ?? error) as { message?: string; code?: string };
  return new InferenceError('network', `no answer from ${url}: ${message || code || error.message}`, { cause: error });
}
