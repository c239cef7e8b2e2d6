/** `node scripts/build.ts`: compiles every package to its `dist`, as it is published. A checkout itself needs no build. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transform } from '../packages/cute/src/transform/transform.ts';

export const root: string = fileURLToPath(new URL('..', import.meta.url));
const compiled = join(root, '.cache', 'build');

/** The package that transforms kernels; it has none itself, and files that speak about the directive. */
const TRANSFORMER = 'cute';

/** Directories under `packages`, every one of which is published. */
export function packages(): string[] {
  return readdirSync(join(root, 'packages')).filter((name) => existsSync(join(root, 'packages', name, 'package.json')));
}

/** Throws with the compiler's messages if there are errors. */
export function build(): void {
  rmSync(compiled, { recursive: true, force: true });
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const result = spawnSync(process.execPath, [tsc, '--project', 'tsconfig.build.json'], {
    cwd: root,
    encoding: 'utf8',
  });
  if (result.status !== 0) throw new Error(`the compiler refused:\n${result.stdout}${result.stderr}`);
  for (const name of packages()) {
    const home = join(root, 'packages', name);
    const dist = join(home, 'dist');
    rmSync(dist, { recursive: true, force: true });
    renameSync(join(compiled, name, 'src'), dist);
    if (name !== TRANSFORMER) transformKernels(dist);
    // What is not TypeScript is read at run time as it is: pages, templates, generated messages with their declarations.
    cpSync(join(home, 'src'), dist, {
      recursive: true,
      filter: (file) => extname(file) !== '.ts' || file.endsWith('.d.ts'),
    });
  }
}

/** Kernels are published as what records them, so that nobody who uses them needs the transform. */
function transformKernels(directory: string): void {
  for (const file of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.js')) continue;
    const path = join(directory, file);
    const out = transform(readFileSync(path, 'utf8'), path, { runtime: '@rose/cute/runtime', typescript: false });
    if (out !== undefined) writeFileSync(path, out);
  }
}

/** Runs what a script does and ends it with one line if that fails. */
export function main(work: () => void): void {
  try {
    work();
  } catch (error) {
    console.error((error as Error).message);
    process.exitCode = 1;
  }
}

if (import.meta.main) {
  main(() => {
    build();
    console.log(`built ${packages().join(', ')}`);
  });
}
