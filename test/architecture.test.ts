import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** What each package may import, from the bottom of the house to its top. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  cute: [],
  cuda: ['cute'],
  kernels: ['cute'],
  cpu: [],
  client: [],
  engine: ['cpu', 'cuda', 'cute', 'kernels'],
  server: ['cuda', 'engine'],
  rose: ['cpu', 'cuda', 'cute', 'engine', 'kernels', 'server'],
};

const LONGEST_FILE = 500;
/** Written by a program from what is short. */
const GENERATED = /_pb\.(js|d\.ts)$/;

/** Directories of one machine, which no other file may name. */
const MACHINE_PATH = /(^|[\s'"`(=:])\/(home|Users|root|work|private\/var)\/\w/;

/** Files that git knows or would add, by their path from the root. */
function filesOf(pattern: RegExp): string[] {
  const list = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '-z'], { cwd: root });
  return [...new Set(list.toString().split('\0'))].filter((file) => pattern.test(file));
}

function read(file: string): string {
  return readFileSync(join(root, file), 'utf8');
}

/** Module specifiers of static and dynamic imports and of re-exports. */
function importsOf(source: string): string[] {
  const pattern = /(?:\bfrom\s*|\bimport\s*\(?\s*)(['"])([^'"\n]+)\1/g;
  return [...source.matchAll(pattern)].map((match) => match[2]);
}

/** What a package lets others import: `.`, `./register`. */
function entriesOf(name: string): string[] {
  const manifest = JSON.parse(read(`packages/${name}/package.json`)) as { exports: Record<string, unknown> };
  return Object.keys(manifest.exports);
}

test('the reader of imports sees every form', () => {
  const source = `import 'a'; import b from "b"; import type { c } from 'c'; export * from 'd'; await import('e');
    import {
      f,
    } from 'f';`;
  assert.deepEqual(importsOf(source), ['a', 'b', 'c', 'd', 'e', 'f']);
});

test('every package has its place in the house', () => {
  const packages = filesOf(/^packages\/[^/]+\/package\.json$/).map((file) => file.split('/')[1]);
  assert.deepEqual(packages.sort(), Object.keys(MAY_IMPORT).sort());
});

test('imports never point up, and never into the inside of another package', () => {
  const wrong: string[] = [];
  for (const file of filesOf(/^packages\/[^/]+\/src\/.*\.ts$/)) {
    const own = file.split('/')[1];
    for (const specifier of importsOf(read(file))) {
      const [, other, inside] = /^@rose\/([^/]+)(\/.*)?$/.exec(specifier) ?? [];
      const hidden = inside !== undefined && !entriesOf(other).includes(`.${inside}`);
      if (other && (hidden || !MAY_IMPORT[own].includes(other))) wrong.push(`${file} imports ${specifier}`);
      const depth = file.split('/').length - 3;
      const up = specifier.split('/').filter((part) => part === '..').length;
      if (specifier.startsWith('.') && up >= depth) wrong.push(`${file} leaves its package for ${specifier}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test('dependencies never point up', () => {
  const wrong: string[] = [];
  for (const [name, allowed] of Object.entries(MAY_IMPORT)) {
    const manifest = JSON.parse(read(`packages/${name}/package.json`)) as Record<string, Record<string, string>>;
    const dependencies = { ...manifest.dependencies, ...manifest.peerDependencies, ...manifest.optionalDependencies };
    for (const dependency of Object.keys(dependencies)) {
      const other = /^@rose\/(.+)$/.exec(dependency)?.[1];
      if (other && !allowed.includes(other)) wrong.push(`packages/${name} depends on ${dependency}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test(`no file has more than ${LONGEST_FILE} lines`, () => {
  const long = filesOf(/^(packages|scripts|test|bench)\/.*\.(ts|cjs|js|mjs|html)$/)
    .filter((file) => !GENERATED.test(file))
    .map((file) => ({ file, lines: read(file).split('\n').length - 1 }))
    .filter(({ lines }) => lines > LONGEST_FILE);
  assert.deepEqual(long, []);
});

test('no file knows the paths of one machine or the addresses of a registry', () => {
  const text = filesOf(/\.(ts|cjs|js|mjs|json|md|css|html|sh|yml|yaml|py|tsv)$|^\.[^/]+$|^\.ci\//);
  const wrong = text.filter((file) => {
    if (file === 'test/architecture.test.ts') return false;
    const content = read(file);
    return MACHINE_PATH.test(content) || (file === 'package-lock.json' && /"resolved": "https?:/.test(content));
  });
  assert.deepEqual(wrong, []);
});
