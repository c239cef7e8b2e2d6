import { Command } from 'commander';
import { locate } from '../models.ts';
import { print } from '../output.ts';
import { exitCodeOfSignal, onStop } from '../signals.ts';

/** `rose pull ORG/NAME`: fetch a model into the hub's cache. */
export function pullCommand(): Command {
  return new Command('pull')
    .description('fetch a model from the hub into its cache and print where it lies')
    .argument('<model>', 'ORG/NAME, or ORG/NAME@REVISION')
    .addHelpText(
      'after',
      '\nA download that was interrupted goes on where it stopped. The cache is the one that other tools use too\n' +
        '(HF_HOME); HF_TOKEN opens gated models, HF_ENDPOINT names another hub.\n\nExample:\n  rose pull Qwen/Qwen3-0.6B',
    )
    .action(pull);
}

async function pull(name: string): Promise<void> {
  const controller = new AbortController();
  const offStop = onStop((signal) => {
    process.exitCode = exitCodeOfSignal(signal);
    controller.abort();
  });
  try {
    const { directory } = await locate(name, { signal: controller.signal, update: true });
    await print(`${directory}\n`);
  } finally {
    offStop();
  }
}
