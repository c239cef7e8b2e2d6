import { Command } from 'commander';
import { withModel } from '../models.ts';
import { addDeviceOptions, integer, type DeviceOptions } from '../options.ts';
import { print } from '../output.ts';
import { textsOf } from '../texts.ts';

type Options = DeviceOptions & { model: string; similarity?: boolean; dimensions?: number; truncate?: boolean };

/** `rose embed TEXT...`: one JSON line a text, or the cosine of each pair. */
export function embedCommand(): Command {
  const command = new Command('embed')
    .description('turn texts into vectors: one JSON line a text')
    .argument('[texts...]', 'the texts (default: the lines of stdin)')
    .option('-m, --model <model>', 'an embedding model', 'tiny-embed')
    .option('--similarity', 'print the cosine similarity of each pair instead of the vectors')
    .option('--dimensions <n>', 'keep the first n elements and normalise again', integer(1))
    .option('--truncate', 'shorten texts that are too long instead of refusing them');
  return addDeviceOptions(command)
    .addHelpText(
      'after',
      '\nExample:\n  rose embed "A bear sleeps in a cave." "The bear is in its den." "The boat is red." --similarity',
    )
    .action(embed);
}

async function embed(argument: string[], options: Options): Promise<void> {
  const texts = await textsOf(argument);
  await withModel(options.model, 'embed', options, async (model, signal) => {
    const { embeddings } = await model.embed({
      inputs: texts,
      ...(options.dimensions !== undefined && { dimensions: options.dimensions }),
      ...(options.truncate !== undefined && { truncate: options.truncate }),
      signal,
    });
    if (options.similarity) {
      await print(similarityTable(embeddings));
      return;
    }
    for (const [i, embedding] of embeddings.entries()) {
      await print(`${JSON.stringify({ text: texts[i], embedding: Array.from(embedding, shorten) })}\n`);
    }
  });
}

/** The same float32 in fewer digits than the double that it becomes would print. */
function shorten(value: number): number {
  return Number(value.toPrecision(9));
}

/** Cosine of each pair, a row and a column a text, in the order of the texts. */
function similarityTable(vectors: readonly Float32Array[]): string {
  return vectors.map((a) => `${vectors.map((b) => cosine(a, b).toFixed(4).padStart(7)).join(' ')}\n`).join('');
}

function cosine(a: Float32Array, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}
