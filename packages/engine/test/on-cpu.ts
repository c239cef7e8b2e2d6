import { fileURLToPath } from 'node:url';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import type { Checkpoint } from '../src/checkpoint/checkpoint.ts';
import { CpuDevice } from '../src/device/cpu/device.ts';
import type { DeviceModel, LoadOptions } from '../src/device/device.ts';
import { Batch } from '../src/engine/batch.ts';
import { GREEDY } from '../src/engine/request.ts';
import { Sequence } from '../src/engine/sequence.ts';
import { generateRequest } from './fake-model.ts';

/** A bundled model's directory. */
export function bundled(name: string): string {
  return fileURLToPath(new URL(`../../../models/${name}`, import.meta.url));
}

export interface OpenedModel {
  readonly checkpoint: Checkpoint;
  readonly model: DeviceModel;
  readonly close: () => Promise<void>;
}

export const defaultLoad: LoadOptions = {
  quantize: undefined,
  cacheDtype: 'f32',
  maxSequences: 16,
  maxRows: 512,
};

/** A checkpoint on a device of its own; of one thread, as two would wait for each other beside another test. */
export async function openOnCpu(
  directory: string,
  options: Partial<LoadOptions> = {},
  threads = 1,
): Promise<OpenedModel> {
  const device = await CpuDevice.open(threads);
  try {
    const checkpoint = await openCheckpoint(directory);
    try {
      const model = await device.load(checkpoint, { ...defaultLoad, ...options });
      const close = async (): Promise<void> => {
        model.close();
        await device.close();
      };
      return { checkpoint, model, close };
    } finally {
      await checkpoint.close();
    }
  } catch (error) {
    await device.close();
    throw error;
  }
}

/** A sequence as tests step it by hand. Its pages start at `firstPage`. */
export interface Hand {
  readonly tokens: Int32Array;
  readonly pages: Int32Array;
}

export function hand(tokens: readonly number[], firstPage: number): Hand {
  const count = Math.ceil(tokens.length / 16);
  return { tokens: Int32Array.from(tokens), pages: Int32Array.from({ length: count }, (_, i) => firstPage + i) };
}

/**
 * One step over rows [from, to) of each sequence, with logits for its last row: a copy of each sequence's row.
 */
export async function stepLogits(
  model: DeviceModel,
  parts: readonly { readonly hand: Hand; readonly from: number; readonly to: number }[],
): Promise<Float32Array[]> {
  const batch = new Batch(model.capacity);
  batch.clear();
  for (const { hand: sequence, from, to } of parts) {
    // The same pages in every layer group: each group has a memory of its own.
    const tables = batch.pageTables.map(() => sequence.pages);
    batch.addSequence(sequence.tokens, undefined, from, to, tables, sequence.pages.length);
    const sampler = new Sequence(generateRequest(0, [0], { sampling: GREEDY }), greedy, 1, 8, 0);
    sampler.addOutput(batch, batch.rows - 1);
  }
  const { values, width } = await model.step(batch);
  return parts.map((_, i) => values.slice(i * width, (i + 1) * width));
}

const greedy = {
  kind: 'generate',
  tokens: Int32Array.of(0),
  sampling: GREEDY,
  maxTokens: 1,
  minTokens: 0,
  stopTokens: [],
  logprobs: -1,
  promptLogprobs: -1,
  salt: '',
} as const;

/** Greedy continuation through the device, one step at a time. */
export async function greedyTokens(model: DeviceModel, prompt: readonly number[], count: number): Promise<number[]> {
  const tokens = [...prompt];
  const full = hand([...prompt, ...new Array<number>(count).fill(0)], 0);
  full.tokens.set(prompt);
  let from = 0;
  for (let i = 0; i < count; i++) {
    const [logits] = await stepLogits(model, [{ hand: full, from, to: tokens.length }]);
    const next = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    from = tokens.length;
    if (tokens.length < full.tokens.length) full.tokens[tokens.length] = next;
    tokens.push(next);
  }
  return tokens.slice(prompt.length);
}

/** One encoder step over whole sequences: a copy of each one's result. */
export async function encode(
  model: DeviceModel,
  inputs: readonly { readonly tokens: readonly number[]; readonly types?: readonly number[] }[],
): Promise<Float32Array[]> {
  const batch = new Batch(model.capacity);
  batch.clear();
  for (const { tokens, types } of inputs) {
    const pages = Int32Array.from({ length: Math.ceil(tokens.length / 16) }, (_, i) => batch.pages + i);
    const ids = Int32Array.from(tokens);
    batch.addSequence(ids, types && Int32Array.from(types), 0, tokens.length, [pages], pages.length);
  }
  const { values, width } = await model.step(batch);
  return inputs.map((_, i) => values.slice(i * width, (i + 1) * width));
}

/** Whether two results agree in every bit. */
export function sameBits(a: Float32Array, b: Float32Array): boolean {
  const words = (values: Float32Array): Uint32Array => new Uint32Array(values.slice().buffer);
  const [x, y] = [words(a), words(b)];
  return x.length === y.length && x.every((word, i) => word === y[i]);
}
