import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

/** What a process loads before it knows its device. */
const ENTRIES = ['../src/index.ts', '../src/engine/host.ts', '../src/engine/llm.ts', '../src/device/cpu/device.ts'];

/** Prints the files of Rose's packages that importing a module loads. */
const LIST = `
import { registerHooks } from 'node:module';
registerHooks({
  load(url, context, next) {
    const own = /packages[/]((kernels|cute|cuda)[/].*)/.exec(url);
    if (own) console.log(own[1]);
    return next(url, context);
  },
});
await import(process.argv[1]);
process.exit();`;

for (const entry of ENTRIES) {
  test(`${entry} loads no kernels and no driver: the CPU starts without them`, () => {
    const file = fileURLToPath(new URL(entry, import.meta.url));
    const flags = ['--disable-warning=ExperimentalWarning', '--conditions=development', '--input-type=module'];
    const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, '-e', LIST, file], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    const leaves = ['cute/src/types/numeric.ts', 'kernels/src/weight.ts'];
    assert.deepEqual(
      stdout.split('\n').filter((name) => name !== '' && !leaves.includes(name)),
      [],
    );
  });
}
