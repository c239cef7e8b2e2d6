import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { RoseError } from '../errors.ts';
import type { TensorEntry } from './header.ts';
import { readJson, shorten } from './json.ts';
import { openSafetensors, type SafetensorsFile } from './safetensors.ts';

/** The safetensors files of a model directory as one set of tensors. */
export interface Weights {
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  close(): Promise<void>;
}

export interface StoredTensor {
  readonly entry: TensorEntry;
  readonly file: SafetensorsFile;
}

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

/**
 * Open `model.safetensors`, or else the shards that `model.safetensors.index.json` names. Throws a RoseError naming
 * file and tensor, with every file closed again.
 */
export async function openWeights(directory: string): Promise<Weights> {
  const present = new Set(await readdir(directory));
  if (present.has(SINGLE)) return openFiles(directory, [SINGLE], undefined);
  if (!present.has(INDEX)) throw noWeights(directory, present);
  const { map, files } = await shardsOf(directory);
  const absent = files.filter((shard) => !present.has(shard));
  if (absent.length > 0) {
    throw new RoseError(
      'not_found',
      `${directory}: ${absent.length} of ${files.length} weight files are missing: ${shorten(absent)}. Download them again.`,
    );
  }
  return openFiles(directory, files, map);
}

/** What `model.safetensors.index.json` says: the file of each tensor, and the files. Throws a RoseError naming it. */
export async function shardsOf(
  directory: string,
): Promise<{ readonly map: ReadonlyMap<string, string>; readonly files: readonly string[] }> {
  const path = join(directory, INDEX);
  const index = await readJson(directory, INDEX, indexSchema);
  if (index === undefined) throw new RoseError('not_found', `${path}: no such file`);
  const map = new Map(Object.entries(index.weight_map));
  const files = [...new Set(map.values())].sort();
  if (files.length === 0) throw new RoseError('invalid', `${path}: it names no tensor`);
  const outside = files.find((file) => !/^[\w.-]+\.safetensors$/.test(file));
  if (outside !== undefined) {
    throw new RoseError(
      'invalid',
      `${path}: ${JSON.stringify(outside)} is not the name of a safetensors file in this directory`,
    );
  }
  return { map, files };
}

/** `map`: from tensor to the file that should hold it; undefined for a single file, which says so itself. */
async function openFiles(
  directory: string,
  names: readonly string[],
  map: ReadonlyMap<string, string> | undefined,
): Promise<Weights> {
  const files: SafetensorsFile[] = [];
  const close = async (): Promise<void> => void (await Promise.all(files.map((file) => file.close())));
  try {
    for (const name of names) files.push(await openSafetensors(join(directory, name)));
    const tensors = new Map<string, StoredTensor>();
    for (const file of files) {
      for (const entry of file.tensors) {
        const other = tensors.get(entry.name);
        if (other !== undefined) {
          throw new RoseError('invalid', `tensor "${entry.name}" is in both ${other.file.path} and ${file.path}`);
        }
        tensors.set(entry.name, { entry, file });
      }
    }
    if (map !== undefined) checkIndex(directory, map, tensors);
    return { tensors, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function checkIndex(
  directory: string,
  map: ReadonlyMap<string, string>,
  tensors: ReadonlyMap<string, StoredTensor>,
): void {
  const path = join(directory, INDEX);
  for (const [name, shard] of map) {
    const file = tensors.get(name)?.file.path;
    if (file !== join(directory, shard)) {
      const where = file === undefined ? 'and is in no file' : `but is in ${file}`;
      throw new RoseError('invalid', `${path}: tensor "${name}" should be in ${shard}, ${where}`);
    }
  }
}

/** What else there is decides what to advise. */
function noWeights(directory: string, present: ReadonlySet<string>): RoseError {
  const names = [...present].sort();
  const gguf = names.find((name) => name.endsWith('.gguf'));
  if (gguf !== undefined) {
    return new RoseError(
      'unsupported',
      `${directory}: ${gguf} is a GGUF file, which Rose does not read. Use the original safetensors checkpoint of this model.`,
    );
  }
  const pickle = names.find((name) => /\.(bin|pt|pth|ckpt)$/.test(name));
  if (pickle !== undefined) {
    return new RoseError(
      'unsupported',
      `${directory}: ${pickle} is a PyTorch pickle, which can run code and is not read. Convert it: load the model with transformers and save_pretrained() it, which writes safetensors.`,
    );
  }
  const other = names.find((name) => name.endsWith('.safetensors'));
  const hint = other === undefined ? '' : ` (there is ${other}; Rose does not guess which file is meant)`;
  return new RoseError('not_found', `${directory}: neither ${SINGLE} nor ${INDEX} is there${hint}`);
}
