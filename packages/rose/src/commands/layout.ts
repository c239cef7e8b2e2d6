import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { CommandError, ExitCode } from '../errors.ts';
import { print } from '../output.ts';

type Algebra = (typeof import('@rose/cute'))['layout'];

/** `rose layout EXPR`: CuTe's layout algebra, computed and printed. */
export function layoutCommand(): Command {
  return (
    new Command('layout')
      .description("compute an expression of CuTe's layout algebra")
      .argument('<expression>', 'an expression, or - for one expression a line from standard input')
      .option('--svg <file>', 'draw the result: a layout, or the (tile, thread-value layout) of make_layout_tv')
      .option('--table', 'print the indices of the result as a table')
      // An expression may begin with a negative number.
      .allowUnknownOption()
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
      .action(layout)
  );
}

async function layout(expression: string, options: { svg?: string; table?: boolean }): Promise<void> {
  if (/^-[-a-z]/i.test(expression)) throw new CommandError(ExitCode.usage, `there is no option ${expression}.`);
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

/**
 * One line of answer for each line of standard input; an empty line is answered by an empty line. All lines that have come
 * are answered at once, so that a peer may wait for each answer, and a file takes few writes.
 */
async function answerLines(cute: Algebra): Promise<void> {
  let begun = '';
  for await (const text of process.stdin.setEncoding('utf8') as AsyncIterable<string>) {
    const end = text.lastIndexOf('\n');
    if (end < 0) {
      begun += text;
      continue;
    }
    const lines = (begun + text.slice(0, end)).split('\n');
    begun = text.slice(end + 1);
    await print(lines.map((line) => `${answer(cute, line)}\n`).join(''));
  }
  if (begun !== '') await print(`${answer(cute, begun)}\n`);
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
