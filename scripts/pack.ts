/**
 * `node scripts/pack.ts [DIRECTORY]`: builds all packages and packs them into tarballs as they are published, without
 * what only a checkout can use. Default directory: `dist`.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { build, main, packages, root } from './build.ts';

interface Manifest {
  files: string[];
  exports: Record<string, Record<string, string>>;
  scripts?: unknown;
  devDependencies?: unknown;
}

/** A package as it is published, and its tarball. */
export interface Packed {
  readonly directory: string;
  readonly tarball: string;
}

/** Bundled models go with the `rose` package; how their answers were checked stays here. */
const MODELS_IN = 'rose';
const NOT_PUBLISHED = new Set(['golden.json', 'training']);

/** Builds, and packs into `target`; the packages' directories stay in `target/packages`. */
export function pack(target: string): Packed[] {
  build();
  mkdirSync(target, { recursive: true });
  return packages().map((name) => {
    const directory = join(target, 'packages', name);
    stage(name, directory);
    const npm = spawnSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', target, directory], {
      encoding: 'utf8',
      shell: process.platform === 'win32',
    });
    if (npm.status !== 0) throw new Error(`npm pack failed for ${name}: ${npm.error?.message ?? npm.stderr}`);
    const [{ filename }] = JSON.parse(npm.stdout) as [{ filename: string }];
    return { directory, tarball: join(target, filename) };
  });
}

function stage(name: string, directory: string): void {
  const home = join(root, 'packages', name);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });

  const manifest = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')) as Manifest;
  delete manifest.scripts;
  delete manifest.devDependencies;
  // Sources are not published, and Node.js refuses TypeScript under node_modules.
  for (const conditions of Object.values(manifest.exports)) delete conditions.development;
  if (name === MODELS_IN) manifest.files.push('models');
  writeFileSync(join(directory, 'package.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);

  cpSync(join(root, 'LICENSE'), join(directory, 'LICENSE'));
  if (existsSync(join(root, 'README.md'))) cpSync(join(root, 'README.md'), join(directory, 'README.md'));
  for (const folder of ['bin', 'dist']) {
    if (existsSync(join(home, folder))) cpSync(join(home, folder), join(directory, folder), { recursive: true });
  }
  if (name !== MODELS_IN) return;
  for (const model of readdirSync(join(root, 'models'))) {
    if (NOT_PUBLISHED.has(model)) continue;
    cpSync(join(root, 'models', model), join(directory, 'models', model), {
      recursive: true,
      filter: (file) => !NOT_PUBLISHED.has(basename(file)),
    });
  }
}

if (import.meta.main) {
  main(() => {
    for (const { tarball } of pack(resolve(process.argv[2] ?? join(root, 'dist')))) console.log(tarball);
  });
}
