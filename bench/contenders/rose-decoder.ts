/** Rose through its library, as any program would use it. */
import { openModels, type ModelHub } from '@rose/engine';
import { answerCalls } from '../measure/child.ts';
import {
  TOP,
  type DecoderOpen,
  type DecoderRun,
  type DecoderTimes,
  type StreamsRun,
  type StreamsTimes,
  type TopLogprobs,
} from './decoder.ts';

const NAME = 'llama';

let hub: ModelHub;

answerCalls({
  async open({ path, threads, quantize }: DecoderOpen): Promise<string> {
    hub = await openModels({
      models: [{ name: NAME, directory: path }],
      threads,
      ...(quantize ? { quantize } : {}),
    });
    return hub.stats.device;
  },

  async run({ tokens, generate }: DecoderRun): Promise<DecoderTimes> {
    const output: number[] = [];
    const start = performance.now();
    let first = start;
    let last = start;
    const events = hub.get(NAME).generate({
      prompt: { kind: 'tokens', tokens },
      maxTokens: generate,
      ignoreEos: true,
      sampling: { temperature: 0 },
    });
    for await (const event of events) {
      if (event.kind !== 'delta') continue;
      last = performance.now();
      if (output.length === 0) first = last;
      for (const { token } of event.tokens) output.push(token);
    }
    return { firstMs: first - start, restMs: last - first, tokens: output };
  },

  async together({ prompts, generate }: StreamsRun): Promise<StreamsTimes> {
    const start = performance.now();
    const stream = async (tokens: readonly number[]): Promise<number[]> => {
      const times: number[] = [];
      const events = hub.get(NAME).generate({
        prompt: { kind: 'tokens', tokens },
        maxTokens: generate,
        ignoreEos: true,
        sampling: { temperature: 0 },
      });
      for await (const event of events) {
        if (event.kind !== 'delta') continue;
        const now = performance.now() - start;
        for (const _ of event.tokens) times.push(now);
      }
      return times;
    };
    return await Promise.all(prompts.map(stream));
  },

  async top(tokens: readonly number[]): Promise<TopLogprobs> {
    const events = hub.get(NAME).generate({
      prompt: { kind: 'tokens', tokens },
      maxTokens: 1,
      ignoreEos: true,
      sampling: { temperature: 0 },
      logprobs: TOP,
    });
    for await (const event of events) {
      if (event.kind === 'delta' && event.tokens.length > 0) return event.tokens[0].top ?? [];
    }
    throw new Error('Rose generated no token');
  },
});
