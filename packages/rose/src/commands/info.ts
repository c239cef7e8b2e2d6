import { Command } from 'commander';
import { locate } from '../models.ts';
import { print } from '../output.ts';
import { CommandError, ExitCode, roseCode } from '../errors.ts';

/** `rose info MODEL`: what a checkpoint is and what it will need, without loading its weights. */
export function infoCommand(): Command {
  return new Command('info')
    .description('say what a model is and how much memory it needs')
    .argument('<model>', 'a directory, a bundled model or a name on the hub')
    .option('--json', 'print the specification as JSON')
    .addHelpText(
      'after',
      '\nThe checkpoint is checked in full, but no weight is read.\n\nExample:\n  rose info tiny-chat',
    )
    .action(info);
}

async function info(name: string, options: { json?: boolean }): Promise<void> {
  const { directory } = await locate(name);
  const { describe, openCheckpoint } = await import('@rose/engine');
  try {
    const checkpoint = await openCheckpoint(directory);
    try {
      const text = options.json
        ? JSON.stringify(checkpoint.spec, undefined, 2)
        : [...describe(checkpoint.spec), ...checkpoint.notes.map((note) => `note          ${note}`)].join('\n');
      await print(`${text}\n`);
    } finally {
      await checkpoint.close();
    }
  } catch (error) {
    if (roseCode(error) === undefined || roseCode(error) === 'internal') throw error;
    throw new CommandError(ExitCode.model, (error as Error).message, { cause: error });
  }
}
