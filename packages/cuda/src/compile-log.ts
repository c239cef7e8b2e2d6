/** What the assembler of PTX says, read: errors with their place in the kernel's source, and what kernels take. */

/** A place in a source file, from the `.loc` that covers a line of PTX. Lines and columns start at 1. */
export interface SourcePlace {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

export interface Diagnostic {
  readonly severity: 'error' | 'warning';
  readonly message: string;
  /** Line of the PTX, from 1. */
  readonly ptxLine?: number;
  readonly ptxText?: string;
  readonly place?: SourcePlace;
}

/** What a kernel takes, as the assembler reports it. Bytes are per thread. */
export interface KernelResources {
  readonly name: string;
  readonly registers: number;
  readonly stackBytes: number;
  readonly spillStoreBytes: number;
  readonly spillLoadBytes: number;
}

/** PTX that does not compile. The message has a line for every error. */
export class CompileError extends Error {
  /** What does not compile: `kernel linear`. */
  readonly what: string;
  readonly diagnostics: readonly Diagnostic[];
  /** The assembler's own words. */
  readonly log: string;

  constructor(what: string, ptx: string, log: string) {
    const diagnostics = readDiagnostics(ptx, log);
    const errors = diagnostics.filter(({ severity }) => severity === 'error');
    const lines = errors.length > 0 ? errors.map(formatDiagnostic) : [log.trim() || 'the assembler gives no reason'];
    super(`${what} does not compile:\n${lines.map((line) => `  ${line}`).join('\n')}`);
    this.name = 'CompileError';
    this.what = what;
    this.diagnostics = diagnostics;
    this.log = log;
  }
}

/** `file:line:column: error: message (PTX line n: text)`. */
export function formatDiagnostic({ severity, message, place, ptxLine, ptxText }: Diagnostic): string {
  const where = place ? `${place.file}:${place.line}:${place.column}: ` : '';
  const behind = ptxLine === undefined ? '' : ` (PTX line ${ptxLine}: ${ptxText ?? ''})`;
  return `${where}${severity}: ${message}${behind}`;
}

/** The errors and warnings of a log of ptxas or of the driver, in its order. */
export function readDiagnostics(ptx: string, log: string): Diagnostic[] {
  const lines = ptx.split('\n');
  const found: Diagnostic[] = [];
  for (const entry of log.split('\n')) {
    const match = /^ptxas .*?(?:, line (\d+);\s*)?\b(error|fatal|warning)\s*:\s*(.*)$/.exec(entry.trim());
    if (!match) continue;
    const [, number, word, message] = match;
    const severity = word === 'warning' ? 'warning' : 'error';
    // The last line of a failed run only says that there were errors.
    if (word === 'fatal' && found.some((other) => other.severity === 'error')) continue;
    if (number === undefined) {
      found.push({ severity, message });
      continue;
    }
    const ptxLine = Number(number);
    const place = placeOf(lines, ptxLine);
    found.push({ severity, message, ptxLine, ptxText: (lines[ptxLine - 1] ?? '').trim(), ...(place ? { place } : {}) });
  }
  return found;
}

/** The `.loc` that covers a line of PTX: the last one before it in the same function. */
function placeOf(lines: readonly string[], ptxLine: number): SourcePlace | undefined {
  let last: RegExpExecArray | undefined;
  for (const line of lines.slice(0, ptxLine)) {
    if (/^\s*(\.visible\s+|\.weak\s+)*\.(entry|func)\b/.test(line)) last = undefined;
    last = /^\s*\.loc\s+(\d+)\s+(\d+)\s+(\d+)/.exec(line) ?? last;
  }
  if (!last) return undefined;
  const [, index, line, column] = last;
  const named = new RegExp(`^\\s*\\.file\\s+${index}\\s+"([^"]*)"`);
  const file = lines.map((text) => named.exec(text)?.[1]).find((name) => name !== undefined);
  return { file: file ?? `file ${index}`, line: Number(line), column: Number(column) };
}

/** What the verbose log says about each kernel, in its order. */
export function readResources(log: string): KernelResources[] {
  const kernels: KernelResources[] = [];
  let name = '';
  let stack = [0, 0, 0];
  for (const line of log.split('\n')) {
    const entry = /Compiling entry function '([^']+)'/.exec(line);
    if (entry) {
      name = entry[1];
      stack = [0, 0, 0];
    }
    const frame = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (frame) stack = frame.slice(1).map(Number);
    const used = /Used (\d+) registers/.exec(line);
    if (used && name !== '') {
      const [stackBytes, spillStoreBytes, spillLoadBytes] = stack;
      kernels.push({ name, registers: Number(used[1]), stackBytes, spillStoreBytes, spillLoadBytes });
      name = '';
    }
  }
  return kernels;
}
