import { Command } from 'commander';
import { benchCommand } from './commands/bench.ts';
import { chatCommand } from './commands/chat.ts';
import { devicesCommand } from './commands/devices.ts';
import { embedCommand } from './commands/embed.ts';
import { generateCommand } from './commands/generate.ts';
import { infoCommand } from './commands/info.ts';
import { kernelCommand } from './commands/kernel.ts';
import { layoutCommand } from './commands/layout.ts';
import { pullCommand } from './commands/pull.ts';
import { rerankCommand } from './commands/rerank.ts';
import { serveCommand } from './commands/serve.ts';
import { tuneCommand } from './commands/tune.ts';
import { ExitCode, exitCodeOf, explain } from './errors.ts';
import { endWhenReaderLeaves, say } from './output.ts';
import { version } from './version.ts';

const HELP = `
A MODEL is a directory with a Hugging Face checkpoint, a name on the hub (ORG/NAME, fetched and cached), or one of the
bundled models: tiny-chat, tiny-embed, tiny-rerank.

Examples:
  rose serve                                    the bundled models on http://127.0.0.1:8000
  rose serve ./my-model Qwen/Qwen3-0.6B --port 9000
  rose chat
  rose generate "Once upon a time" --max-tokens 60
  rose embed "A bear sleeps in a cave." "The bear is in its den." --similarity
  rose rerank "where do bears sleep" "Bears sleep in dens." "The boat is red."
  rose layout 'composition((8,8):(1,8), (4,2):(2,1))'
  rose kernel sim rmsnorm
  rose tune linear_small

Exit codes:
  0  done                          4  the address is taken, or not ours,
  1  a fault of Rose               5  the device is unavailable
  2  wrong usage or request      130  interrupted (143: terminated)
  3  no such model, or an invalid one

Environment:
  HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE   as for other users of the Hugging Face hub
  ROSE_DEVICE               the device where --device does not name one
  ROSE_TUNE_TABLE           a table of rose tune to use instead of the cache's; none: no table
  ROSE_DEBUG=1              show where an error comes from
  ROSE_NO_REVECTORIZE=1     do not let V8 fuse WebAssembly operations into 256-bit ones`;

const program = new Command('rose')
  .description('Rose serves transformers: language models, embeddings and rerankers, from Node.js.')
  .version(version, '-V, --version')
  .addHelpText('after', HELP)
  // Options belong to the command they stand behind: `--json` of `bench` and of `bench serve` differ.
  .enablePositionalOptions()
  .exitOverride()
  .configureOutput({
    outputError: (text, write) => write(text.replace(/^error: /, 'rose: ')),
  })
  .showHelpAfterError('(--help says what there is)');

for (const command of [
  serveCommand(),
  chatCommand(),
  generateCommand(),
  embedCommand(),
  rerankCommand(),
  pullCommand(),
  infoCommand(),
  devicesCommand(),
  benchCommand(),
  layoutCommand(),
  kernelCommand(),
  tuneCommand(),
]) {
  program.addCommand(command);
  inherit(command, program);
}

/** What holds for `rose` holds for its commands, and for theirs. */
function inherit(command: Command, parent: Command): void {
  command.copyInheritedSettings(parent);
  for (const inner of command.commands) inherit(inner, command);
}

/** Commander has told the user already; `exitCode` 0 is help or the version. */
function isUsageExit(error: unknown): error is Error & { exitCode: number } {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('commander.');
}

function end(error: unknown): never {
  if (isUsageExit(error)) process.exit(error.exitCode === 0 ? ExitCode.ok : ExitCode.usage);
  // The status line or an answer may be on the terminal's last line.
  if (exitCodeOf(error) !== ExitCode.interrupted) say(`rose: ${explain(error)}`);
  process.exit(process.exitCode ?? exitCodeOf(error));
}

endWhenReaderLeaves();
process.on('uncaughtException', end);
process.on('unhandledRejection', end);
try {
  await program.parseAsync();
} catch (error) {
  end(error);
}
