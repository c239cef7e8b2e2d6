import { readFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import { Command, Option } from 'commander';
import type { GenerateRequest, Schema, ServedModel, Structure } from '@rose/engine';
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

interface StructureOptions {
  jsonSchema?: string;
  regex?: string;
  grammar?: string;
}

type Options = DeviceOptions & SamplingOptions & StructureOptions & { model: string };

/** `rose generate PROMPT`: go on with a text as it stands, without a chat template. */
export function generateCommand(): Command {
  const command = new Command('generate')
    .description('go on with a text; the answer streams to stdout')
    .argument('[prompt]', 'the text to go on with (default: what comes on stdin)')
    .option('-m, --model <model>', 'a model that generates text', 'tiny-chat');
  addSamplingOptions(command)
    .option('--json-schema <file>', 'write JSON that this schema allows')
    .addOption(
      new Option('--regex <pattern>', 'write what this regular expression matches').conflicts([
        'jsonSchema',
        'grammar',
      ]),
    )
    .addOption(
      new Option('--grammar <file>', 'write what this EBNF grammar derives').conflicts(['jsonSchema', 'regex']),
    );
  return addDeviceOptions(command)
    .addHelpText('after', '\nExample:\n  rose generate "The bear looked for the key" --max-tokens 80 --temperature 0')
    .action(generate);
}

async function generate(argument: string | undefined, options: Options): Promise<void> {
  const prompt = argument ?? (process.stdin.isTTY ? '' : await readAll(process.stdin));
  if (prompt === '') throw new CommandError(ExitCode.usage, 'there is no prompt: give one as an argument or on stdin.');
  const structure = await structureOf(options);
  await withModel(options.model, 'generate', options, async (model, signal) => {
    const own = { ...samplingRequest(options), ...(structure && { structure }) };
    const request = { ...own, prompt: { kind: 'text', text: prompt }, signal } as const;
    await streamAnswer(model, request);
  });
}

async function structureOf({ jsonSchema, regex, grammar }: StructureOptions): Promise<Structure | undefined> {
  if (regex !== undefined) return { form: { kind: 'regex', pattern: regex }, param: '--regex' };
  if (grammar !== undefined) return { form: { kind: 'grammar', ebnf: await read(grammar) }, param: '--grammar' };
  if (jsonSchema === undefined) return undefined;
  const source = await read(jsonSchema);
  try {
    return { form: { kind: 'json', schema: JSON.parse(source) as Schema }, param: '--json-schema' };
  } catch (error) {
    throw new CommandError(ExitCode.usage, `${jsonSchema} is not JSON: ${(error as Error).message}`);
  }
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new CommandError(ExitCode.usage, `${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
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
