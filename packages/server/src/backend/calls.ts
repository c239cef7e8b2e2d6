import { ModelError, type InferenceResponse, type ModelCall } from './api.ts';
import { responseOf } from './outcome.ts';
import type { FromInstance, ToInstance, WireOutcome } from './protocol.ts';
import { readOutcome } from './exchange.ts';
import { PacketReader, PacketWriter } from './packet.ts';

type Answer = Extract<ToInstance, { kind: 'answer' | 'answered' }>;

/** A call under way: answers that came and nobody has taken yet. */
interface OpenCall {
  readonly answers: WireOutcome[];
  ended: boolean;
  wake: () => void;
}

/** A model's requests to other models of the server, from its thread. */
export class Calls {
  readonly #post: (message: FromInstance) => void;
  readonly #open: Map<number, OpenCall> = new Map();
  #next = 0;

  constructor(post: (message: FromInstance) => void) {
    this.#post = post;
  }

  async infer(call: ModelCall): Promise<InferenceResponse> {
    let only: InferenceResponse | undefined;
    for await (const response of this.stream(call)) {
      if (only !== undefined) throw new ModelError(`model '${call.model}' answered more than once: use stream()`);
      only = response;
    }
    if (only === undefined) throw new ModelError(`model '${call.model}' did not answer: use stream()`);
    return only;
  }

  async *stream({
    model,
    version = '',
    inputs,
    outputs,
    parameters = {},
    signal,
  }: ModelCall): AsyncGenerator<InferenceResponse> {
    signal?.throwIfAborted();
    const call = this.#next++;
    const state: OpenCall = { answers: [], ended: false, wake: () => {} };
    this.#open.set(call, state);
    const writer = new PacketWriter();
    const names = Object.keys(inputs);
    writer.add(names.length);
    for (const name of names) writer.addTyped(name, inputs[name]);
    const abort = (): void => {
      state.answers.push({ error: { code: 'CANCELLED', message: 'the call was cancelled' } });
      state.wake();
    };
    signal?.addEventListener('abort', abort);
    this.#post({ kind: 'call', call, model, version: String(version), outputs, parameters, packet: writer.take() });
    try {
      for (;;) {
        const outcome = state.answers.shift();
        if (outcome !== undefined) yield responseOf(outcome);
        else if (state.ended) return;
        else await new Promise<void>((resolve) => (state.wake = resolve));
      }
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#open.delete(call);
      if (!state.ended) this.#post({ kind: 'cancelCall', call });
    }
  }

  receive(message: Answer): void {
    const state = this.#open.get(message.call);
    if (state === undefined) return;
    if (message.kind === 'answer') state.answers.push(readOutcome(new PacketReader(message.packet)));
    else state.ended = true;
    state.wake();
  }
}
