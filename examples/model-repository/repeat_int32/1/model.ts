import { setTimeout } from 'node:timers/promises';
import { ModelError, tensor, type InferenceRequest, type Model } from '@rose/server/backend';

/** The i-th response, DELAY[i] ms after the one before it: OUT = IN[i], IDX = i. */
export default class RepeatInt32 implements Model {
  async execute(requests: readonly InferenceRequest[]): Promise<void> {
    for (const request of requests) {
      void repeat(request);
      await setTimeout(request.input('WAIT', 'UINT32').data[0], undefined, { signal: request.signal }).catch(() => {});
    }
  }
}

async function repeat(request: InferenceRequest): Promise<void> {
  const { sender, signal } = request;
  try {
    const values = request.input('IN', 'INT32');
    const delays = request.input('DELAY', 'UINT32');
    if (values.data.length !== delays.data.length) {
      const shapes = `[${values.shape[0]}] and [${delays.shape[0]}]`;
      throw new ModelError(`expected IN and DELAY shape to match, got ${shapes}`, 'INVALID_ARG');
    }
    for (const [i, value] of values.data.entries()) {
      await setTimeout(delays.data[i], undefined, { signal });
      await sender.send({
        outputs: { OUT: tensor('INT32', [1], Int32Array.of(value)), IDX: tensor('UINT32', [1], Uint32Array.of(i)) },
      });
    }
    sender.end();
  } catch (error) {
    // A cancelled request has nobody who would hear it.
    await sender.send(error instanceof Error ? error : new Error(String(error)));
  }
}
