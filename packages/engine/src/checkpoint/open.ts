import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { RoseError } from '../errors.ts';
import { parametersOf } from '../model/parameters.ts';
import type { ModelSpec } from '../model/spec.ts';
import type { Architecture, ArchitectureReading } from './architectures/architecture.ts';
import { architectures } from './architectures/index.ts';
import type { Checkpoint, GenerationDefaults } from './checkpoint.ts';
import { fp8SchemeOf, type Fp8Scheme } from './fp8-scheme.ts';
import { readGenerationDefaults } from './generation.ts';
import { readJson } from './json.ts';
import { matchTensors } from './tensors.ts';
import { openWeights } from './weights.ts';

const configSchema = z.looseObject({
  architectures: z.array(z.string()).nullish(),
  quantization_config: z.unknown().optional(),
});

/**
 * Open a Hugging Face model directory: config.json, generation_config.json, safetensors weights, and the files of
 * sentence-transformers where there are any. Everything is checked before it returns and no weight is read. Throws a
 * RoseError (`not_found`, `unsupported` or `invalid`) that names file, field or tensor; no file stays open then.
 */
export async function openCheckpoint(directory: string): Promise<Checkpoint> {
  const { spec, names, notes, defaults, fp8 } = await readModel(directory);
  const weights = await openWeights(directory);
  try {
    const { tensors, cacheScales } = matchTensors(directory, parametersOf(spec), names, weights, fp8);
    return { directory, spec, defaults, notes, tensors, cacheScales, close: () => weights.close() };
  } catch (error) {
    await weights.close();
    throw error;
  }
}

/** Everything but the weights: whether Rose can run a model is known from its small files. Throws as `openCheckpoint`. */
export async function readModel(
  directory: string,
): Promise<ArchitectureReading & { readonly defaults: GenerationDefaults; readonly fp8: Fp8Scheme | undefined }> {
  const config = await readConfig(directory);
  const reading = await architectureOf(config, directory).read(config, directory);
  const { quantization_config: quantised } = config;
  const fp8 =
    quantised === undefined || quantised === null ? undefined : fp8SchemeOf(quantised, join(directory, 'config.json'));
  const defaults = await readGenerationDefaults(directory, config, join(directory, 'config.json'));
  checkEndTokens(defaults.endTokens, reading.spec, directory);
  return { ...reading, spec: freeze(reading.spec), defaults, fp8 };
}

async function readConfig(directory: string): Promise<z.output<typeof configSchema>> {
  const found = await stat(directory).catch(() => undefined);
  if (found === undefined) throw new RoseError('not_found', `${directory}: no such model directory`);
  if (!found.isDirectory()) {
    const hint = directory.endsWith('.gguf') ? ' GGUF files are not read.' : '';
    throw new RoseError(
      'invalid',
      `${directory}: not a directory. A model is a directory with config.json and safetensors files.${hint}`,
    );
  }
  const config = await readJson(directory, 'config.json', configSchema);
  if (config !== undefined) return config;
  throw new RoseError(
    'not_found',
    `${directory}: there is no config.json. A model is a directory in Hugging Face's layout: config.json, tokenizer.json and model.safetensors.`,
  );
}

function architectureOf(config: z.output<typeof configSchema>, directory: string): Architecture {
  const path = join(directory, 'config.json');
  const supported = architectures.map(({ name }) => name).join(', ');
  const [name] = config.architectures ?? [];
  if (name === undefined) {
    throw new RoseError('invalid', `${path}: "architectures" is missing; Rose needs it to be one of ${supported}`);
  }
  const architecture = architectures.find((candidate) => candidate.name === name);
  if (architecture === undefined) {
    throw new RoseError('unsupported', `${path}: Rose does not run ${name}. It runs ${supported}.`);
  }
  return architecture;
}

function checkEndTokens(tokens: readonly number[], spec: ModelSpec, directory: string): void {
  const outside = tokens.find((token) => token >= spec.vocabSize);
  if (outside !== undefined) {
    throw new RoseError(
      'invalid',
      `${directory}: "eos_token_id": ${outside} is not in the vocabulary of ${spec.vocabSize} tokens`,
    );
  }
}

/** A spec is shared by everything after it: freeze it to the leaves. */
function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(freeze);
  }
  return value;
}
