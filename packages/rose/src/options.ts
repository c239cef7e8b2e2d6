import { InvalidArgumentError, Option, type Command } from 'commander';
import type { GenerateRequest, OpenOptions, SamplingParams } from '@rose/engine';
import { CommandError, ExitCode } from './errors.ts';

/** A whole number from `low` to `high`, both included. */
export function integer(low: number, high: number = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^[+-]?\d+$/.test(text) && value >= low && value <= high) return value;
    const range = high === Number.MAX_SAFE_INTEGER ? `of at least ${low}` : `from ${low} to ${high}`;
    throw new InvalidArgumentError(`Give a whole number ${range}.`);
  };
}

/** A number from `low` to `high`, both included. */
export function decimal(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && value >= low && value <= high) return value;
    throw new InvalidArgumentError(
      high === Infinity ? `Give a number of at least ${low}.` : `Give a number from ${low} to ${high}.`,
    );
  };
}

export const collect = (text: string, before: string[] | undefined): string[] => [...(before ?? []), text];

function device(text: string): string {
  if (/^(cpu|cuda|cuda:\d+|auto)$/.test(text)) return text;
  throw new InvalidArgumentError('Give cpu, cuda, cuda:N or auto.');
}

/** Where and how a model is loaded. */
export type DeviceOptions = Pick<
  OpenOptions,
  | 'device'
  | 'threads'
  | 'quantize'
  | 'dtype'
  | 'cacheDtype'
  | 'memoryShare'
  | 'kvCacheMib'
  | 'maxSequences'
  | 'maxRows'
  | 'queueLimit'
  | 'queueTimeoutMs'
  | 'stepMs'
  | 'loop'
>;

export function addDeviceOptions(command: Command): Command {
  return command
    .hook('preAction', (_, action) => {
      const { device, threads } = action.opts<DeviceOptions>();
      if (device?.startsWith('cuda') !== true || threads === undefined) return;
      const message = `--threads says how many CPU threads compute, and ${device} computes on a GPU: leave it out.`;
      throw new CommandError(ExitCode.usage, message);
    })
    .addOption(
      new Option('--device <device>', 'where to run: cpu, cuda, cuda:N, or auto: a GPU where there is one')
        .argParser(device)
        .env('ROSE_DEVICE')
        .default('cpu'),
    )
    .option('--threads <n>', 'CPU threads that compute (default: all cores, 16 at most)', integer(1, 256))
    .addOption(
      new Option(
        '--dtype <dtype>',
        'what weights are held in (default: auto, as the checkpoint has them; bf16 and f16: GPUs)',
      ).choices(['auto', 'bf16', 'f16', 'f32']),
    )
    .addOption(
      new Option('--quantize <format>', 'hold weights in fewer bits (int8, int4: CPU; fp8: GPUs)').choices([
        'int8',
        'int4',
        'fp8',
      ]),
    )
    .addOption(
      new Option(
        '--cache-dtype <dtype>',
        'how keys and values of the context are held (default: f32; on a GPU as the weights)',
      ).choices(['f32', 'bf16', 'f16', 'fp8']),
    )
    .option(
      '--memory-share <s>',
      'share of the memory of the machine or GPU for each model (default: CPU, pages of 1 GiB at most; GPU, what is free)',
      decimal(0.001, 1),
    )
    .option(
      '--kv-cache-mib <n>',
      'MiB for keys and values of each model (default: CPU, 1024, or one full context; GPU, what the share leaves)',
      decimal(0.001, 1e9),
    );
}

export function deviceOptions(options: DeviceOptions): DeviceOptions {
  const { device, threads, quantize, dtype, cacheDtype, memoryShare, kvCacheMib, maxSequences } = options;
  const { maxRows, queueLimit, queueTimeoutMs, stepMs, loop } = options;
  return {
    ...(device !== undefined && { device }),
    ...(threads !== undefined && { threads }),
    ...(quantize !== undefined && { quantize }),
    ...(dtype !== undefined && { dtype }),
    ...(cacheDtype !== undefined && { cacheDtype }),
    ...(memoryShare !== undefined && { memoryShare }),
    ...(kvCacheMib !== undefined && { kvCacheMib }),
    ...(maxSequences !== undefined && { maxSequences }),
    ...(maxRows !== undefined && { maxRows }),
    ...(queueLimit !== undefined && { queueLimit }),
    ...(queueTimeoutMs !== undefined && { queueTimeoutMs }),
    ...(stepMs !== undefined && { stepMs }),
    ...(loop !== undefined && { loop }),
  };
}

/** How an answer is drawn and when it ends. */
export interface SamplingOptions {
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  seed?: number;
  maxTokens?: number;
  stop?: string[];
  ignoreEos?: boolean;
}

export function addSamplingOptions(command: Command): Command {
  return command
    .option('--max-tokens <n>', 'length of the answer at most (default: what fits the context)', integer(1))
    .option('--temperature <t>', '0 takes the most likely token each time', decimal(0, 100))
    .option('--top-k <k>', 'draw from the k most likely tokens', integer(0))
    .option('--top-p <p>', 'draw from the most likely tokens that make up this share', decimal(0, 1))
    .option('--min-p <p>', 'draw from tokens with this share of the most likely one', decimal(0, 1))
    .option('--repetition-penalty <r>', 'divide the logits of tokens seen before', decimal(0.01, 100))
    .option('--presence-penalty <p>', 'subtract once for tokens in the answer', decimal(-2, 2))
    .option('--frequency-penalty <p>', 'subtract for each time a token is in the answer', decimal(-2, 2))
    .option('--seed <n>', 'the same seed and request give the same answer', integer(0))
    .option('--stop <text>', 'end before this text (may be given several times)', collect)
    .option('--ignore-eos', "go on past the model's end tokens");
}

/** The part of a request that these options decide; what is not given is left to the checkpoint. */
export function samplingRequest(options: SamplingOptions): Omit<GenerateRequest, 'prompt'> {
  const { maxTokens, stop, ignoreEos, ...rest } = options;
  const sampling: { -readonly [K in keyof SamplingParams]?: SamplingParams[K] } = {};
  for (const name of [
    'temperature',
    'topK',
    'topP',
    'minP',
    'repetitionPenalty',
    'presencePenalty',
    'frequencyPenalty',
    'seed',
  ] as const) {
    const value = rest[name];
    if (value !== undefined) sampling[name] = value;
  }
  return {
    sampling,
    ...(maxTokens !== undefined && { maxTokens }),
    ...(stop !== undefined && { stop }),
    ...(ignoreEos !== undefined && { ignoreEos }),
  };
}
