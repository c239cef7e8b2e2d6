import { writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { Command } from 'commander';
import { CommandError, ExitCode } from '../errors.ts';
import { print } from '../output.ts';

type Algebra = (typeof import('@rose/cute'))['layout'];

/** Answers are handed on in pieces of this many characters. */
const PIECE = 65_536;

/** `rose layout EXPR`: CuTe's layout algebra, computed and printed. */
export function layoutCommand(): Command {
  return new Command('layout')
    .description("compute an expression of CuTe's layout algebra")
    .argument('<expression>', 'an expression, or - for one expression a line from standard input')
    .option('--svg <file>', 'draw the result: a layout, or the (tile, thread-value layout) of make_layout_tv')
    .option('--table', 'print the indices of the result as a table')
    .addHelpText(
      'after',
      `
Leaves are whole numbers, ? (dynamic) or ?{div=4} (dynamic, a multiple of 4); _ keeps a mode.

Examples:
  rose layout 'composition((8,8):(1,8), (4,2):(2,1))'
  rose layout 'zipped_divide((8,16):(16,1), <4:1, 8:2>)'
  rose layout '(S<3,4,3> o 0 o (8,64):(64,1))(3, 17)'
  rose layout 'make_layout_tv((4,8):(8,1), (2,2):(2,1))' --svg tv.svg`,
    )
    .action(layout);
}

async function layout(expression: string, options: { svg?: string; table?: boolean }): Promise<void> {
  const { layout: cute } = await import('@rose/cute');
  if (expression === '-') {
    if (options.svg !== undefined || options.table) {
      throw new CommandError(
        ExitCode.usage,
        '--svg and --table draw one result; give the expression itself instead of -.',
      );
    }
    return answerLines(cute);
  }
  try {
    const value = cute.evaluate(expression);
    if (options.svg !== undefined) await save(options.svg, cute.drawValue(value));
    await print(options.table ? cute.tableOfValue(value) : `${cute.formatValue(value)}\n`);
  } catch (error) {
    if (!(error instanceof cute.LayoutError)) throw error;
    throw new CommandError(ExitCode.usage, error.message, { cause: error });
  }
}

async function save(file: string, picture: string): Promise<void> {
  try {
    await writeFile(file, picture);
  } catch (error) {
    throw new CommandError(ExitCode.usage, `the picture cannot be written: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** One line of answer for each line of standard input; an empty line is answered by an empty line. */
async function answerLines(cute: Algebra): Promise<void> {
  let answers = '';
  for await (const line of createInterface({ input: process.stdin })) {
    answers += `${answer(cute, line)}\n`;
    if (answers.length < PIECE) continue;
    await print(answers);
    answers = '';
  }
  await print(answers);
}

function answer(cute: Algebra, line: string): string {
  if (line.trim() === '') return '';
  try {
    return cute.evaluateText(line);
  } catch (error) {
    if (error instanceof cute.LayoutError) return `error: ${error.message.replaceAll('\n', ' ')}`;
    throw error;
  }
}
