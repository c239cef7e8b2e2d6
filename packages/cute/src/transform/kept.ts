import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { getCompileCacheDir } from 'node:module';
import { join } from 'node:path';

/** This transform's own files: what they make of a file is no longer right once one of them changed. */
const OWN = new URL('.', import.meta.url);

let own: string | undefined;

function ownHash(): string {
  if (own !== undefined) return own;
  const hash = createHash('sha256');
  for (const name of readdirSync(OWN).sort()) hash.update(name).update(readFileSync(new URL(name, OWN)));
  own = hash.digest('hex');
  return own;
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
  const hash = createHash('sha256').update(JSON.stringify([ownHash(), ...parts]));
  const directory = join(cache, 'rose-kernels');
  const place = join(directory, `${hash.digest('hex')}.js`);
  try {
    return readFileSync(place, 'utf8');
  } catch {
    // Not made yet.
  }
  const made = make();
  if (made !== undefined) keep(directory, place, made);
  return made;
}

/** Whole or not at all, as others may read it. Where nothing can be written nothing is kept, as Node.js has it. */
function keep(directory: string, place: string, text: string): void {
  const beside = `${place}.${randomUUID()}`;
  try {
    mkdirSync(directory, { recursive: true });
    writeFileSync(beside, text);
    renameSync(beside, place);
  } catch {
    rmSync(beside, { force: true });
  }
}
