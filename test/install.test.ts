import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { pack } from '../scripts/pack.ts';

const { platformNode } = createRequire(import.meta.url)('../packages/rose/bin/launch.cjs') as {
  platformNode: (from: string) => string | undefined;
};
const temporary = mkdtempSync(join(tmpdir(), 'rose-install-'));
after(() => rmSync(temporary, { recursive: true }));

/** The machine as a user has it: its own npm and Node.js, which may be older than the one that runs this test. */
const environment: NodeJS.ProcessEnv = {
  ...process.env,
  PATH: (process.env.PATH ?? '')
    .split(delimiter)
    .filter((directory) => !directory.includes('node_modules'))
    .join(delimiter),
};
for (const name of Object.keys(environment)) {
  if (name.startsWith('npm_') || name.startsWith('NODE_')) delete environment[name];
}

function command(file: string, args: readonly string[], cwd: string): string {
  const result = spawnSync(file, args, {
    cwd,
    env: environment,
    encoding: 'utf8',
    shell: process.platform === 'win32',
  });
  assert.equal(result.status, 0, `${file} ${args.join(' ')}: ${result.error?.message ?? ''}${result.stderr}`);
  return result.stdout;
}

test('the packed packages install into an empty project and run there', async (context) => {
  const packed = pack(join(temporary, 'tarballs'));
  await context.test('publint has nothing to say about them', async () => {
    for (const { directory } of packed) {
      const { messages, pkg } = await publint({ pkgDir: directory, strict: true });
      assert.deepEqual(
        messages.map((message) => formatMessage(message, pkg)),
        [],
        directory,
      );
    }
  });

  const project = join(temporary, 'project');
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "name": "project", "private": true, "type": "module" }');
  const tarballs = packed.map(({ tarball }) => tarball);
  command('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', ...tarballs], project);
  const rose = (...args: string[]): string => command(join('node_modules', '.bin', 'rose'), args, project);

  await context.test('no TypeScript is published but declarations', () => {
    const files = packed.flatMap(({ directory }) => readdirSync(directory, { recursive: true }) as string[]);
    const sources = files.filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'));
    assert.deepEqual(sources, []);
  });
  await context.test('rose --version', () => assert.match(rose('--version'), /^\d+\.\d+\.\d+\n$/));
  await context.test('rose info', () => assert.match(rose('info', 'tiny-chat'), /Qwen3ForCausalLM/));
  await context.test('rose generate', () => {
    const answer = rose('generate', 'Once upon a time', '--max-tokens', '8', '--temperature', '0');
    assert.match(answer, /\w+ \w+/);
  });
  await context.test('its declarations are found by a project in TypeScript', () => {
    writeFileSync(
      join(project, 'use.ts'),
      `import { RoseError, type ModelHub } from 'rose';
       export const name = (hub: ModelHub): string => hub.models[0].name;
       // @ts-expect-error: a code, not any
       export const code: number = new RoseError('invalid', 'message').code;`,
    );
    const tsc = fileURLToPath(new URL('../node_modules/typescript/bin/tsc', import.meta.url));
    const options = '--noEmit --strict --skipLibCheck --module nodenext --target esnext --types'.split(' ');
    const result = spawnSync(process.execPath, [tsc, ...options, '', 'use.ts'], { cwd: project, encoding: 'utf8' });
    assert.equal(result.stdout, '');
    assert.equal(result.status, 0);
  });
  await context.test('rose as a library, on the Node.js that came with it', () => {
    writeFileSync(
      join(project, 'use.js'),
      `import { openModels, startServer } from 'rose';
       console.log(typeof openModels, typeof startServer);`,
    );
    const node = platformNode(project) ?? process.execPath;
    assert.equal(command(node, ['use.js'], project), 'function function\n');
  });
  await context.test('published kernels are recorded without the hook', () => {
    writeFileSync(
      join(project, 'kernels.js'),
      `import { compileKernel } from '@rose/cute';
       import { KERNELS, shippedTables, specialise } from '@rose/kernels';
       for (const kernel of KERNELS) {
         const ir = kernel.trace(specialise(kernel, kernel.cases[0]));
         const { ptx } = compileKernel(ir, { arch: kernel.arch ?? 'sm_90a' }).program;
         if (!ptx.includes('.visible .entry')) throw new Error(kernel.name);
       }
       console.log(KERNELS.length > 0, shippedTables().length > 0);`,
    );
    const node = platformNode(project) ?? process.execPath;
    assert.equal(command(node, ['kernels.js'], project), 'true true\n');
  });
});
