import { Command } from 'commander';
import { CommandError, ExitCode } from '../errors.ts';
import { withModel } from '../models.ts';
import { addDeviceOptions, integer, type DeviceOptions } from '../options.ts';
import { print } from '../output.ts';
import { textsOf } from '../texts.ts';

type Options = DeviceOptions & { model: string; topN?: number; truncate?: boolean; json?: boolean };

/** `rose rerank QUERY TEXT...`: texts by how well they answer the query, best first. */
export function rerankCommand(): Command {
  const command = new Command('rerank')
    .description('order texts by how well they answer a query, best first')
    .argument('<query>', 'the question')
    .argument('[texts...]', 'the texts (default: the lines of stdin)')
    .option('-m, --model <model>', 'a reranker: a classifier over pairs with one label', 'tiny-rerank')
    .option('--top-n <n>', 'print the best n alone', integer(1))
    .option('--truncate', 'shorten texts that are too long instead of refusing them')
    .option('--json', 'print JSON lines with index, relevance_score and text');
  return addDeviceOptions(command)
    .addHelpText(
      'after',
      '\nA score is the sigmoid of the label, from 0 to 1.\n\n' +
        'Example:\n  rose rerank "where do bears sleep" "Bears sleep in dens." "The boat is red."',
    )
    .action(rerank);
}

async function rerank(query: string, argument: string[], options: Options): Promise<void> {
  const texts = await textsOf(argument);
  await withModel(options.model, 'score', options, async (model, signal) => {
    const { head } = model.spec;
    if (head.kind === 'classifier' && head.labels.length !== 1) {
      throw new CommandError(
        ExitCode.usage,
        `${options.model} has ${head.labels.length} labels (${head.labels.join(', ')}): a reranker has one.`,
      );
    }
    const { logits } = await model.score({
      inputs: texts.map((text) => ({ query, text })),
      ...(options.truncate !== undefined && { truncate: options.truncate }),
      signal,
    });
    const results = logits
      .map((row, index) => ({ index, relevance_score: 1 / (1 + Math.exp(-row[0])), text: texts[index] }))
      .sort((a, b) => b.relevance_score - a.relevance_score)
      .slice(0, options.topN);
    for (const result of results) {
      const { relevance_score: score, text } = result;
      await print(options.json ? `${JSON.stringify(result)}\n` : `${score.toFixed(4)}  ${text}\n`);
    }
  });
}
