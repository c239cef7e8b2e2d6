/** onnxruntime-node at its best on a CPU: every graph optimization, all threads inside each operation. */
import { answerCalls } from '../measure/child.ts';
import type { EncoderOpen, EncoderResult, EncoderRun } from './encoder.ts';

/** The part of onnxruntime-node's API that is used; the package is not part of the main install. */
interface Library {
  readonly InferenceSession: { create(path: string, options: object): Promise<Session> };
  readonly Tensor: new (type: 'int64', data: BigInt64Array, shape: readonly number[]) => Tensor;
}

interface Tensor {
  readonly data: Float32Array;
}

interface Session {
  readonly inputNames: readonly string[];
  run(inputs: Record<string, Tensor>): Promise<Record<string, Tensor>>;
}

let library: Library;
let session: Session;

answerCalls({
  async open({ path, threads }: EncoderOpen): Promise<string> {
    const name: string = 'onnxruntime-node';
    library = (await import(name)) as Library;
    session = await library.InferenceSession.create(path, {
      executionProviders: ['cpu'],
      graphOptimizationLevel: 'all',
      executionMode: 'sequential',
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
    });
    return `inputs ${session.inputNames.join(', ')}`;
  },

  async run({ inputs }: EncoderRun): Promise<EncoderResult> {
    const start = performance.now();
    const shape = [inputs.length, inputs[0].length];
    const ids = BigInt64Array.from(inputs.flat(), BigInt);
    const { embeddings } = await session.run({
      input_ids: new library.Tensor('int64', ids, shape),
      attention_mask: new library.Tensor('int64', new BigInt64Array(ids.length).fill(1n), shape),
    });
    const milliseconds = performance.now() - start;
    const width = embeddings.data.length / inputs.length;
    return { milliseconds, embeddings: inputs.map((_, i) => embeddings.data.slice(i * width, (i + 1) * width)) };
  },
});
