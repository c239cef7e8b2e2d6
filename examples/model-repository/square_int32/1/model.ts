import { setTimeout } from 'node:timers/promises';
import { tensor, type InferenceRequest, type Model, type ModelContext } from '@rose/server/backend';

/**
 * A request with IN = N has N responses of OUT = N. The last CUSTOM_EMPTY_COUNT are empty; before them
 * CUSTOM_FAIL_COUNT fail, of which the first ends the request, since an error always does. CUSTOM_INFER_DELAY_NS and
 * CUSTOM_OUTPUT_DELAY_NS pass before each response (no output for empty ones), CUSTOM_CANCEL_DELAY_NS after a cancellation.
 */
export default class SquareInt32 implements Model {
  #parameters: Readonly<Record<string, string>> = {};

  initialize({ parameters }: ModelContext): void {
    this.#parameters = parameters;
  }

  async execute(requests: readonly InferenceRequest[]): Promise<void> {
    await Promise.all(requests.map((request) => this.#answer(request)));
  }

  async #answer(request: InferenceRequest): Promise<void> {
    const { sender, signal } = request;
    const [count] = request.input('IN', 'INT32').data;
    const empty = count - this.#number('CUSTOM_EMPTY_COUNT');
    const failing = empty - this.#number('CUSTOM_FAIL_COUNT');
    for (let i = 0; i < count; i++) {
      if (signal.aborted) return this.#pause('CUSTOM_CANCEL_DELAY_NS');
      await this.#pause('CUSTOM_INFER_DELAY_NS');
      if (i < empty) await this.#pause('CUSTOM_OUTPUT_DELAY_NS');
      if (i >= empty) await sender.send({ outputs: {} });
      else if (i < failing) await sender.send({ outputs: { OUT: tensor('INT32', [1], Int32Array.of(count)) } });
      else return sender.send(new Error(`response ${i} of ${count} was to fail`));
    }
    sender.end();
  }

  #number(name: string): number {
    return Number(this.#parameters[name] ?? 0);
  }

  /** Resolves at once where there is nothing to wait for. */
  async #pause(name: string): Promise<void> {
    const milliseconds = this.#number(name) / 1e6;
    if (milliseconds > 0) await setTimeout(milliseconds);
  }
}
