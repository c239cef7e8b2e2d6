import { setTimeout } from 'node:timers/promises';
import { tensor, type InferenceRequest, type InferenceResponse, type Model } from '@rose/server/backend';

/**
 * TEXT is PROMPT: once, or with STREAM as often as the parameter REPETITION says. DELAY (seconds) passes before each,
 * FAIL_LAST has an error follow the last, OUTPUT_0_DIM makes them empty.
 */
export default class MockLlm implements Model {
  execute(requests: readonly InferenceRequest[]): void {
    for (const request of requests) void answer(request).catch((error: Error) => request.sender.send(error));
  }
}

async function answer(request: InferenceRequest): Promise<void> {
  const { sender, signal, parameters } = request;
  const prompt = request.input('PROMPT', 'BYTES').data;
  const stream = request.input('STREAM', 'BOOL').data[0] === 1;
  const empty = parameters.OUTPUT_0_DIM === true;
  const response: InferenceResponse = {
    outputs: { TEXT: empty ? tensor('BYTES', [1, 0], []) : tensor('BYTES', [1, prompt.length], prompt) },
  };
  const count = stream ? Number(parameters.REPETITION ?? 1) : 1;
  for (let i = 0; i < count; i++) {
    const delayMs = 1000 * Number(parameters.DELAY ?? 0);
    if (delayMs > 0) await setTimeout(delayMs, undefined, { signal });
    await sender.send(response);
  }
  if (parameters.FAIL_LAST === true) await sender.send(new Error('An Error Occurred'));
  else sender.end();
}
