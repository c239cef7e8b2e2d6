import { createInterface } from 'node:readline';
import { CommandError, ExitCode } from './errors.ts';

/** The texts to work on: the arguments, else the lines of stdin that are not empty. */
export async function textsOf(argument: readonly string[]): Promise<string[]> {
  const texts = [...argument];
  if (texts.length === 0 && !process.stdin.isTTY) {
    for await (const line of createInterface({ input: process.stdin })) {
      if (line.trim() !== '') texts.push(line);
    }
  }
  if (texts.length > 0) return texts;
  throw new CommandError(ExitCode.usage, 'there is no text: give texts as arguments, or one a line on stdin.');
}
