import { text as readAll } from 'node:stream/consumers';
import { Command } from 'commander';
import type { GenerateRequest, ServedModel } from '@rose/engine';
import { CommandError, ExitCode } from '../errors.ts';
import { withModel } from '../models.ts';
import {
  addDeviceOptions,
  addSamplingOptions,
  samplingRequest,
  type DeviceOptions,
  type SamplingOptions,
} from '../options.ts';
import { dim, print, say } from '../output.ts';

type Options = DeviceOptions & SamplingOptions & { model: string };

/** `rose generate PROMPT`: go on with a text as it stands, without a chat template. */
export function generateCommand(): Command {
  const command = new Command('generate')
    .description('go on with a text; the answer streams to stdout')
    .argument('[prompt]', 'the text to go on with (default: what comes on stdin)')
    .option('-m, --model <model>', 'a model that generates text', 'tiny-chat');
  addSamplingOptions(command);
  return addDeviceOptions(command)
    .addHelpText('after', '\nExample:\n  rose generate "The bear looked for the key" --max-tokens 80 --temperature 0')
    .action(generate);
}

async function generate(argument: string | undefined, options: Options): Promise<void> {
  const prompt = argument ?? (process.stdin.isTTY ? '' : await readAll(process.stdin));
  if (prompt === '') throw new CommandError(ExitCode.usage, 'there is no prompt: give one as an argument or on stdin.');
  await withModel(options.model, 'generate', options, async (model, signal) => {
    const request = { ...samplingRequest(options), prompt: { kind: 'text', text: prompt }, signal } as const;
    await streamAnswer(model, request);
  });
}

/** Prints an answer as it comes and a line end after it; tells people how long it took. Returns the answer. */
export async function streamAnswer(model: ServedModel, request: GenerateRequest): Promise<string> {
  let answer = '';
  let tokens = 0;
  let firstAt = 0;
  try {
    for await (const event of model.generate(request)) {
      if (event.kind !== 'delta') continue;
      firstAt ||= performance.now();
      tokens += event.tokens.length;
      answer += event.text;
      await print(event.text);
    }
  } catch (error) {
    if (request.signal?.aborted !== true) throw error;
  } finally {
    if (!answer.endsWith('\n')) await print('\n');
  }
  const seconds = (performance.now() - firstAt) / 1000;
  if (process.stderr.isTTY && tokens > 1)
    say(dim(`[${tokens} tokens, ${((tokens - 1) / seconds).toFixed(0)} a second]`));
  return answer;
}
