import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CudaUnavailableError, listDevices, loadDriver } from '@rose/cuda';
import { KERNELS } from '@rose/kernels';

/**
 * Kernels under NVIDIA's compute-sanitizer (`ROSE_COMPUTE_SANITIZER` or in PATH), on a Hopper GPU. Each tool first has to
 * find a fault that was put there.
 */

const sanitizer = process.env['ROSE_COMPUTE_SANITIZER'] ?? 'compute-sanitizer';
const skip = whyNot();
const child = fileURLToPath(new URL('sanitizer.child.ts', import.meta.url));
const NODE = ['--disable-warning=ExperimentalWarning', '--conditions=development', '--import', '@rose/cute/register'];
/** The code that compute-sanitizer ends with where it found something. */
const FOUND = 97;

/** Every way a kernel of ours reaches memory: plain, cp.async, TMA, wgmma, mma.sync, clusters, warps with roles. */
const REPRESENTATIVE = [
  'linear',
  'linear_small',
  'linear_mma',
  'linear_grouped',
  'linear_grouped_small',
  'linear_grouped_mma',
  'attention_decode',
  'attention_combine',
  'attention_prefill',
  'attention_prefill_wgmma',
  'attention_rows',
  'rmsnorm',
  'softmax',
  'topk',
  'moe_sort',
  'moe_combine',
  'argmax',
  'transpose',
  'qk_rope_cache',
];

const TOOLS = [
  { tool: 'memcheck', fault: 'out-of-bounds', finds: /Invalid __global__ read of size 4/ },
  { tool: 'racecheck', fault: 'race', finds: /hazard|race reported/i },
  { tool: 'initcheck', fault: 'uninitialised', finds: /Uninitialized __global__ memory read/ },
  { tool: 'synccheck', fault: undefined, finds: undefined },
] as const;

function whyNot(): string | false {
  try {
    if (listDevices(loadDriver())[0]?.capability !== 90) return 'no Hopper GPU (compute capability 9.0)';
  } catch (error) {
    if (error instanceof CudaUnavailableError) return error.message;
    throw error;
  }
  const { error } = spawnSync(sanitizer, ['--version']);
  return error ? `${sanitizer} does not start: ${error.message}` : false;
}

function sanitize(tool: string, ...args: string[]): { status: number | null; text: string } {
  const flags = ['--tool', tool, '--error-exitcode', String(FOUND), '--print-limit', '5'];
  const { status, stdout, stderr, error } = spawnSync(
    sanitizer,
    [...flags, process.execPath, ...NODE, child, ...args],
    { encoding: 'utf8', maxBuffer: 2 ** 26 },
  );
  if (error) throw error;
  return { status, text: `${stdout}${stderr}` };
}

for (const { tool, fault, finds } of TOOLS) {
  if (fault !== undefined) {
    test(`${tool} finds ${fault}`, { skip }, () => {
      const { status, text } = sanitize(tool, 'fault', fault);
      assert.equal(status, FOUND, text);
      assert.match(text, finds);
    });
  }

  test(`${tool} finds nothing in Rose's kernels`, { skip }, (t) => {
    const { status, text } = sanitize(tool, 'kernels', ...REPRESENTATIVE);
    assert.equal(status, 0, text.slice(-8000));
    const launches = Number(/^(\d+) launches$/m.exec(text)?.[1]);
    const expected = KERNELS.filter(({ name }) => REPRESENTATIVE.includes(name)).flatMap(({ cases }) =>
      cases.filter(({ large }) => !large),
    );
    assert.equal(launches, expected.length);
    assert.match(text, /ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards/);
    t.diagnostic(`${launches} launches`);
  });
}
