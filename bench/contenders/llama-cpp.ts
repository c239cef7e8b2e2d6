/**
 * llama.cpp through node-llama-cpp, at its best on a CPU: the build for this CPU that its own loader picks, all threads
 * for every evaluation, the weights mapped, a batch that takes the whole prompt. One context with flash attention and
 * one without, since which is faster depends on the format and the phase.
 */
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

/** The part of node-llama-cpp's API that is used; the package is not part of the main install. */
interface Library {
  readonly getLlama: (options: object) => Promise<{
    readonly systemInfo: string;
    loadModel(options: object): Promise<{ createContext(options: object): Promise<Context> }>;
  }>;
  readonly LlamaLogLevel: { readonly error: string };
}

interface Context {
  getSequence(): Sequence;
}

interface Sequence {
  clearHistory(): Promise<void>;
  evaluate(tokens: readonly number[], options: object): AsyncIterable<number>;
  controlledEvaluate(
    input: readonly (number | [number, object])[],
  ): Promise<readonly ({ next: { probabilities: Map<number, number> } } | undefined)[]>;
}

const CONTEXT = 1024;
const BATCH = 512;

/** Tokens of a sequence where several run together. */
const STREAM_CONTEXT = 256;

let sequences: { readonly flash: Sequence; readonly plain: Sequence };
let streams: { readonly flash: readonly Sequence[]; readonly plain: readonly Sequence[] };

answerCalls({
  async open({ path, threads, streams: count = 1 }: DecoderOpen): Promise<string> {
    const name: string = 'node-llama-cpp';
    const { getLlama, LlamaLogLevel } = (await import(name)) as Library;
    const llama = await getLlama({
      gpu: false,
      build: 'never',
      skipDownload: true,
      maxThreads: threads,
      logLevel: LlamaLogLevel.error,
    });
    const model = await llama.loadModel({ modelPath: path, useMmap: true });
    const open = async (flashAttention: boolean, contextSize: number, number: number): Promise<Sequence[]> => {
      const context = await model.createContext({
        contextSize,
        batchSize: BATCH,
        threads: { ideal: threads, min: threads },
        flashAttention,
        sequences: number,
      });
      return Array.from({ length: number }, () => context.getSequence());
    };
    // One sequence has a context of its own: it is to be no slower for the others that might run.
    sequences = { flash: (await open(true, CONTEXT, 1))[0], plain: (await open(false, CONTEXT, 1))[0] };
    const many = count > 1 ? count : 0;
    streams = {
      flash: many ? await open(true, STREAM_CONTEXT, many) : [],
      plain: many ? await open(false, STREAM_CONTEXT, many) : [],
    };
    return llama.systemInfo.trim();
  },

  async run({ tokens, generate, flashAttention }: DecoderRun): Promise<DecoderTimes> {
    const sequence = flashAttention ? sequences.flash : sequences.plain;
    await sequence.clearHistory();
    const output: number[] = [];
    const start = performance.now();
    let first = start;
    let last = start;
    for await (const token of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
      last = performance.now();
      if (output.length === 0) first = last;
      output.push(token);
      if (output.length === generate) break;
    }
    return { firstMs: first - start, restMs: last - first, tokens: output };
  },

  async together({ prompts, generate, flashAttention }: StreamsRun): Promise<StreamsTimes> {
    const { flash, plain } = prompts.length === 1 ? { flash: [sequences.flash], plain: [sequences.plain] } : streams;
    const used = (flashAttention ? flash : plain).slice(0, prompts.length);
    if (used.length < prompts.length) throw new Error(`opened for ${used.length} streams, not ${prompts.length}`);
    for (const sequence of used) await sequence.clearHistory();
    const start = performance.now();
    const stream = async (sequence: Sequence, tokens: readonly number[]): Promise<number[]> => {
      const times: number[] = [];
      for await (const _ of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
        times.push(performance.now() - start);
        if (times.length === generate) break;
      }
      return times;
    };
    return await Promise.all(used.map((sequence, i) => stream(sequence, prompts[i])));
  },

  async top(tokens: readonly number[]): Promise<TopLogprobs> {
    const { flash } = sequences;
    await flash.clearHistory();
    const last = tokens.length - 1;
    const input = [
      ...tokens.slice(0, last),
      [tokens[last], { generateNext: { probabilities: true } }] as [number, object],
    ];
    const probabilities = (await flash.controlledEvaluate(input))[last]?.next.probabilities;
    if (!probabilities) throw new Error('llama.cpp returned no probabilities');
    return [...probabilities]
      .sort(([, a], [, b]) => b - a)
      .slice(0, TOP)
      .map(([token, probability]) => ({ token, logprob: Math.log(probability) }));
  },
});
