import { stripTypeScriptTypes } from 'node:module';
import { parse } from 'acorn';
import { DIRECTIVE, mayHaveKernels } from './directive.ts';
import { expression } from './expressions.ts';
import { rewriteFunction } from './functions.ts';
import { statement } from './statements.ts';
import { childrenOf, isFunction, isMarked, TransformError, type AnyNode } from './syntax.ts';
import { OUTSIDE, Unit, type Context } from './unit.ts';

export interface TransformOptions {
  /** What the transformed file imports the tracing runtime from: a package specifier or a URL. */
  readonly runtime: string;
  /** Whether the code is TypeScript; by default what the file's name says. */
  readonly typescript?: boolean;
}

/**
 * Rewrites the functions of a file that are marked `'use gpu'`, so that running them records a kernel: operators,
 * control flow and variables that are assigned again go through the tracing runtime. Lines stay where they are. Returns
 * JavaScript, or undefined where no function is marked.
 *
 * @throws TransformError with file, line and what to write instead, for syntax that a kernel may not contain.
 */
export function transform(code: string, file: string, options: TransformOptions): string | undefined {
  if (!mayHaveKernels(code)) return undefined;
  const typescript = options.typescript ?? /\.[cm]?tsx?$/.test(file);
  const source = typescript ? strip(code, file) : code;
  const program = parseSource(source, file);
  const unit = new Unit(source, file, prefixFor(source), rewrite);
  let found = 0;
  const outside = (node: AnyNode): string => {
    if (isMarked(node)) {
      found++;
      unit.bindings.analyse(node);
      return unit.rewrite(node, OUTSIDE);
    }
    refuseMisplaced(unit, node);
    let out = '';
    let at = node.start;
    for (const child of childrenOf(node)) {
      out += unit.text(at, child.start) + outside(child);
      at = child.end;
    }
    return out + unit.text(at, node.end);
  };
  const body = outside(program);
  if (found === 0) return undefined;
  const { prefix } = unit;
  const head = `import { traceRuntime as ${prefix}make } from ${JSON.stringify(options.runtime)}; const ${prefix} = ${prefix}make(import.meta.url); `;
  const out = source.slice(0, program.start) + body + source.slice(program.end);
  const written = out.startsWith('#!') ? out.replace('\n', `\n${head}`) : head + out;
  if (written.split('\n').length !== source.split('\n').length) {
    throw new TransformError('the transform moved lines: please report this file', file, 1, 1);
  }
  return written;
}

function rewrite(unit: Unit, node: AnyNode, context: Context): string | undefined {
  if (isFunction(node)) return rewriteFunction(unit, node, context);
  return statement(unit, node, context) ?? expression(unit, node, context);
}

function strip(code: string, file: string): string {
  try {
    return stripTypeScriptTypes(code, { mode: 'strip' });
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    // Node.js tells the line only in the first line of the stack, and the column by an arrow below it.
    const line = Number(/^.*:(\d+)\n/.exec(error.stack ?? '')?.[1] ?? 1);
    const column = /\n([ \t]*)\^+\n/.exec(error.stack ?? '')?.[1].length ?? 0;
    throw new TransformError(error.message, file, line, column + 1);
  }
}

function parseSource(source: string, file: string): AnyNode {
  try {
    return parse(source, { ecmaVersion: 'latest', sourceType: 'module', locations: true, allowHashBang: true });
  } catch (error) {
    if (!(error instanceof SyntaxError) || !('loc' in error)) throw error;
    const { line, column } = error.loc as { line: number; column: number };
    throw new TransformError(error.message.replace(/ \(\d+:\d+\)$/, ''), file, line, column + 1);
  }
}

/** `$`, unless the file uses names that begin so. */
function prefixFor(source: string): string {
  let prefix = '$';
  while (source.includes(`${prefix}make`) || new RegExp(`(^|[^\\w$.'"\`}])\\${prefix}(?!\\{)`, 'm').test(source))
    prefix += '_';
  return prefix;
}

/** `'use gpu'` means something at the start of a function that has braces, and nowhere else. */
function refuseMisplaced(unit: Unit, node: AnyNode): void {
  const statements =
    node.type === 'Program' || node.type === 'BlockStatement' || node.type === 'StaticBlock' ? node.body : [];
  for (const statement of statements) {
    if (statement.type !== 'ExpressionStatement' || statement.expression.type !== 'Literal') continue;
    if (statement.expression.value !== DIRECTIVE) continue;
    const { line, column } = unit.place(statement);
    throw new TransformError(
      `'${DIRECTIVE}' marks nothing here: put it first in the body of the function that runs on the device`,
      unit.file,
      line,
      column + 1,
    );
  }
}
