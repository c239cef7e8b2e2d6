import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { getCompileCacheDir } from 'node:module';
import { join } from 'node:path';

/** This transform's own files, and what it needs: what they make of a file is no longer right once one of them changed. */
const OWN = new URL('.', import.meta.url);
const PACKAGE = new URL('../../package.json', import.meta.url);

let own: string | undefined;

function ownHash(): string {
  if (own !== undefined) return own;
  const names = readdirSync(OWN, { withFileTypes: true }).flatMap((entry) => (entry.isFile() ? [entry.name] : []));
  const parts = [PACKAGE, ...names.sort().map((name) => new URL(name, OWN))];
  own = hashOf(parts.map((part) => readFileSync(part, 'utf8')));
  return own;
}

function hashOf(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/**
 * What `make` gives for a file, kept beside what Node.js keeps of compiled code (its compile cache, where that is on):
 * transforming all of Rose's kernels takes most of a second, in each process and thread.
 *
 * @param parts all that the result depends on, besides the transform itself
 */
export function kept(parts: readonly string[], make: () => string | undefined): string | undefined {
  const cache = getCompileCacheDir();
  if (cache === undefined) return make();
  const directory = join(cache, 'rose-kernels');
  const place = join(directory, `${hashOf([ownHash(), ...parts])}.js`);
  const found = read(place);
  if (found !== undefined) return found;
  const made = make();
  if (made !== undefined) keep(directory, place, made);
  return made;
}

/** Behind the text stands its hash: what is damaged is not there. */
const MARK = '\n//# ';

function read(place: string): string | undefined {
  let text: string;
  try {
    text = readFileSync(place, 'utf8');
  } catch {
    return undefined;
  }
  const end = text.lastIndexOf(MARK);
  const body = text.slice(0, Math.max(0, end));
  return text.slice(end + MARK.length) === hashOf([body]) ? body : undefined;
}

/** Whole or not at all, as others may read it. Where nothing can be written nothing is kept, as Node.js has it. */
function keep(directory: string, place: string, text: string): void {
  const beside = `${place}.${randomUUID()}`;
  try {
    mkdirSync(directory, { recursive: true });
    writeFileSync(beside, `${text}${MARK}${hashOf([text])}`);
    renameSync(beside, place);
  } catch {
    try {
      rmSync(beside, { force: true });
    } catch {
      // Nor was it written.
    }
  }
}
