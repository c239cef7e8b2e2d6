/** Rose through its library, as any program would use it. */
import { openModels, type ModelHub } from '@rose/engine';
import { answerCalls } from '../measure/child.ts';
import type { EncoderOpen, EncoderResult, EncoderRun } from './encoder.ts';

const NAME = 'bert';

let hub: ModelHub;

answerCalls({
  async open({ path, threads }: EncoderOpen): Promise<string> {
    hub = await openModels({ models: [{ name: NAME, directory: path }], threads });
    return hub.stats.device;
  },

  async run({ inputs }: EncoderRun): Promise<EncoderResult> {
    const start = performance.now();
    const { embeddings } = await hub.get(NAME).embed({ inputs });
    return { milliseconds: performance.now() - start, embeddings };
  },
});
