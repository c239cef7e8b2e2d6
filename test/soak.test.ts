import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const soak = fileURLToPath(new URL('../bench/soak.ts', import.meta.url));

// The ten-minute run, which looks at memory too, is in bench/results.
test('ten seconds of mixed traffic leave nothing behind and nothing wrong', async () => {
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', soak, '--seconds', '10', '--clients', '8'],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let said = '';
  child.stdout.on('data', (data) => (said += data));
  child.stderr.on('data', (data) => (said += data));
  const code = await new Promise((resolve) => child.on('close', resolve));
  assert.equal(code, 0, said);
  assert.match(said, /0 findings/);
});
