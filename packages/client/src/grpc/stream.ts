import type { ClientDuplexStream } from '@grpc/grpc-js';
import type { Limit } from '../attempts.ts';
import { InferenceError } from '../errors.ts';
import type { InferRequest, ParameterValue } from '../request.ts';
import type { InferResponse } from '../response.ts';
import { fromMessage, toMessage } from './messages.ts';
import type { ModelInferRequest, ModelStreamInferResponse } from './proto/inference_pb.js';
import { asInferenceError } from './status.ts';

/** What came on a stream: a response, or why a request failed. */
export type StreamEvent =
  | { readonly id: string; readonly response: InferResponse; readonly error?: undefined }
  | { readonly id: string; readonly response?: undefined; readonly error: InferenceError };

/**
 * A stream of requests and of their responses, in the order in which the server has them: a decoupled model's requests
 * interleave. Leaving the loop over it cancels what is under way.
 */
export class InferStream implements AsyncIterable<StreamEvent> {
  readonly #call: ClientDuplexStream<ModelInferRequest, ModelStreamInferResponse>;
  readonly #limit: Limit;
  readonly #address: string;

  /** @internal */
  constructor(call: ClientDuplexStream<ModelInferRequest, ModelStreamInferResponse>, limit: Limit, address: string) {
    this.#call = call;
    this.#limit = limit;
    this.#address = address;
    // An error is for whoever reads; nobody may be reading yet.
    call.on('error', () => {});
    const { signal } = limit;
    if (signal?.aborted === true) call.cancel();
    const cancel = (): void => call.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    call.on('close', () => signal?.removeEventListener('abort', cancel));
  }

  /**
   * Send a request. Resolves when the stream takes the next one: awaiting it keeps memory bounded.
   * @param parameters further ones of the protocol's own, such as `triton_enable_empty_final_response`
   */
  async send(
    model: string,
    request: InferRequest,
    parameters: Readonly<Record<string, ParameterValue>> = {},
  ): Promise<void> {
    if (this.#call.write(toMessage(model, request, parameters)) || this.#call.destroyed) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        for (const event of ['drain', 'close', 'error']) this.#call.off(event, done);
        resolve();
      };
      for (const event of ['drain', 'close', 'error']) this.#call.on(event, done);
    });
  }

  /** No request follows; responses still come. */
  end(): void {
    this.#call.end();
  }

  /** End everything at once. */
  cancel(): void {
    this.#call.cancel();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<StreamEvent> {
    try {
      for await (const message of this.#call as AsyncIterable<ModelStreamInferResponse>) yield eventOf(message);
    } catch (error) {
      throw this.#limit.explain(asInferenceError(error, this.#address));
    } finally {
      this.#call.cancel();
    }
  }
}

function eventOf({ errorMessage, inferResponse }: ModelStreamInferResponse): StreamEvent {
  if (errorMessage !== '') {
    return { id: inferResponse?.id ?? '', error: new InferenceError('refused', errorMessage) };
  }
  if (inferResponse === undefined) throw new InferenceError('protocol', 'a message of the stream is empty');
  return { id: inferResponse.id, response: fromMessage(inferResponse) };
}
