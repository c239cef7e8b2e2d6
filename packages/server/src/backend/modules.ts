import { spawnSync } from 'node:child_process';
import { registerHooks, stripTypeScriptTypes } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { ModelError } from './api.ts';

/** The module that was read last, and so the one whose text is wrong if one is. */
let latest: { readonly url: string; readonly text: string } | undefined;

/** Models find the authors' module by its name wherever they lie, and TypeScript is what it looks like. */
export function provideApi(): void {
  const api = new URL(import.meta.url.endsWith('.ts') ? './api.ts' : './api.js', import.meta.url).href;
  registerHooks({
    resolve(specifier, context, next) {
      if (specifier === '@rose/server/backend') return { url: api, shortCircuit: true };
      const resolved = next(specifier, context);
      const typescript =
        resolved.format === undefined || resolved.format === null ? resolved.url.endsWith('.ts') : false;
      return typescript ? { ...resolved, format: 'module-typescript' } : resolved;
    },
    load(url, context, next) {
      const loaded = next(url, context);
      latest = loaded.source === undefined || loaded.source === null ? undefined : { url, text: textOf(loaded.source) };
      return loaded;
    },
  });
}

/**
 * What a file of a model exports.
 * @throws ModelError with file, line and column where the text of it, or of one that it imports, cannot be read
 */
export async function importFile(file: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    return (await import(pathToFileURL(file).href)) as Record<string, unknown>;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const place = placeIn(error.stack ?? '') ?? checkLatest();
    throw place === undefined ? error : new ModelError(`${place}: ${error.message}`, 'INVALID_ARG');
  }
}

/**
 * `FILE:LINE:COLUMN` as Node tells it: the file and its line, some lines of the text, and carets below the wrong part.
 * Undefined: it tells no place.
 */
function placeIn(told: string): string | undefined {
  const [head, ...rest] = told.split('\n');
  const [, file, line] = /^(.+):(\d+)$/.exec(head) ?? [];
  const carets = rest.find((text) => /^ *\^+ *$/.test(text));
  if (file === undefined || carets === undefined) return undefined;
  return `${file.startsWith('file:') ? fileURLToPath(file) : file}:${line}:${carets.indexOf('^') + 1}`;
}

/** What V8 refuses after types are gone comes without a place, which only Node's own check of syntax tells. */
function checkLatest(): string | undefined {
  if (latest === undefined) return undefined;
  const { url, text } = latest;
  const input = /\.[mc]?ts$/.test(url) ? withoutTypes(text) : text;
  const { stderr } = spawnSync(process.execPath, ['--check', '--input-type=module', '-'], { input, encoding: 'utf8' });
  return placeIn(stderr)?.replace('[stdin]', () => fileURLToPath(url));
}

/** Types become spaces, so that places stay. */
function withoutTypes(text: string): string {
  const emitWarning = process.emitWarning.bind(process);
  // That this function is new to Node is nothing for the log.
  process.emitWarning = () => {};
  try {
    return stripTypeScriptTypes(text);
  } finally {
    process.emitWarning = emitWarning;
  }
}

function textOf(source: string | ArrayBuffer | NodeJS.TypedArray): string {
  return typeof source === 'string' ? source : new TextDecoder().decode(source);
}
