import { readFile } from 'node:fs/promises';
import type { ModelConfig } from '../grpc/proto/model_config_pb.js';
import { invalid } from '../triton/errors.ts';
import { fileWithin } from './layout.ts';
import { whyUnreadable } from './unreadable.ts';

/** The labels of a model's outputs: a line each in the file that `label_filename` names in the model's directory. */
export async function readLabels(config: ModelConfig, directory: string): Promise<ReadonlyMap<string, string[]>> {
  const named = config.output.filter(({ labelFilename }) => labelFilename !== '');
  return new Map(
    await Promise.all(
      named.map(async ({ name, labelFilename }): Promise<[string, string[]]> => {
        try {
          const text = await readFile(await fileWithin(directory, labelFilename), 'utf8');
          return [name, text.replace(/\r?\n$/, '').split(/\r?\n/)];
        } catch (error) {
          const which = `label_filename '${labelFilename}' of output '${name}' of ${config.name}`;
          throw invalid(`cannot read ${which}: ${whyUnreadable(error)}`);
        }
      }),
    ),
  );
}
