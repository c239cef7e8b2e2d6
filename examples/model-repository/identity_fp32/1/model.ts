import { setTimeout } from 'node:timers/promises';
import type { InferenceRequest, InferenceResponse, Model, ModelContext } from '@rose/server/backend';

/** OUTPUT0 is INPUT0, with parameters of every type beside it. `execute_delay_ms` is how long a batch takes. */
export default class IdentityFp32 implements Model {
  #delayMs = 0;

  initialize({ parameters }: ModelContext): void {
    this.#delayMs = Number(parameters.execute_delay_ms ?? 0);
  }

  async execute(requests: readonly InferenceRequest[]): Promise<InferenceResponse[]> {
    if (this.#delayMs > 0) await setTimeout(this.#delayMs);
    return requests.map((request) => ({
      outputs: { OUTPUT0: request.input('INPUT0') },
      parameters: { param0: 'an example string parameter', param1: 42, param2: false, param3: 123.123 },
    }));
  }
}
