import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { compileKernel, simulate, type KernelIR } from '@rose/cute';
import { checkKernel, formatReport, makeCase, simulatorArguments, type Executor } from '../src/check.ts';
import { specialise, type KernelCase, type KernelModule } from '../src/spec.ts';

/** The simulator; what it finds fails the test. */
export const SIMULATOR: Executor<KernelIR> = {
  name: 'the simulator',
  run(kernel, args, grid) {
    const { findings } = simulate(kernel, { grid, args: simulatorArguments(args) });
    assert.deepEqual(
      findings.map(({ message }) => message),
      [],
    );
  },
};

/** Multiprocessors that grids are for: few, so that walks over rows take several turns. */
export const MULTIPROCESSORS = 2;

const PTXAS = process.env.ROSE_PTXAS ?? 'ptxas';
/** Why nothing can be assembled here; false where it can. */
export const missingPtxas: string | false =
  spawnSync(PTXAS, ['--version']).status === 0 ? false : 'no ptxas (ROSE_PTXAS or PATH)';

/** Runs a case; tensors that `given` names have its bytes. Gives the bytes of all tensors afterwards. */
export async function runCase(
  module: KernelModule,
  wanted: KernelCase,
  given: Readonly<Record<string, Uint8Array>> = {},
): Promise<Record<string, Uint8Array>> {
  const s = specialise(module, wanted);
  const { args } = makeCase(module, s);
  const tensors: Record<string, Uint8Array> = {};
  for (const [name, argument] of Object.entries(args)) {
    if (typeof argument === 'number') continue;
    tensors[name] = argument.bytes.subarray(argument.offset, argument.offset + argument.length);
    if (given[name]) tensors[name].set(given[name]);
  }
  await SIMULATOR.run(module.trace(s), args, module.grid(s, { multiprocessors: MULTIPROCESSORS }));
  return tensors;
}

/** Every small case of a kernel, and more, in the simulator within its bounds; all cases assemble without spills. */
export function testKernel(module: KernelModule, more: readonly KernelCase[] = []): void {
  const cases = [...module.cases.filter(({ large }) => !large), ...more];
  for (const wanted of cases) {
    test(`${module.name} ${text(wanted)}`, async () => {
      const s = specialise(module, wanted);
      const report = await checkKernel(module, s, SIMULATOR, module.trace(s), { multiprocessors: MULTIPROCESSORS });
      assert.ok(report.passed, formatReport(report));
    });
  }
  test(`${module.name} assembles without spills`, { skip: missingPtxas }, () => {
    for (const wanted of [...module.cases, ...more]) {
      for (const arch of module.arch ? [module.arch] : ['sm_90a', 'sm_100a']) {
        const { registers, spills } = assembled(module, wanted, arch);
        assert.equal(spills, 0, `${text(wanted)} for ${arch} takes ${registers} registers and spills`);
      }
    }
  });
}

/** What a case takes when it is assembled. */
export function assembled(
  module: KernelModule,
  wanted: KernelCase,
  arch: string,
): { registers: number; spills: number } {
  const { program } = compileKernel(module.trace(specialise(module, wanted)), { arch });
  const folder = mkdtempSync(join(tmpdir(), 'rose-kernels-'));
  try {
    const file = join(folder, 'kernel.ptx');
    writeFileSync(file, program.ptx);
    const { stderr, stdout, status } = spawnSync(PTXAS, ['-v', `-arch=${arch}`, file, '-o', '/dev/null'], {
      encoding: 'utf8',
    });
    assert.equal(status, 0, stderr);
    const log = stdout + stderr;
    // What ptxas says where it cannot let wgmma run beside the threads.
    assert.doesNotMatch(log, /serialized|setmaxnreg/);
    return {
      registers: Number(/Used (\d+) registers/.exec(log)?.[1]),
      spills: Number(/(\d+) bytes spill stores/.exec(log)?.[1] ?? 0),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function text({ dims, options, tuning }: KernelCase): string {
  return [dims, options, tuning]
    .map((part) =>
      Object.entries(part ?? {})
        .map(([name, value]) => `${name}=${String(value)}`)
        .join(' '),
    )
    .filter((part) => part !== '')
    .join(', ');
}

/**
 * A row's bits depend on that row alone: those of a case of many rows are those of the same rows one at a time. `perRow`
 * names the tensors that have a row for each of `rows`; `tuningAlone` is how one row is tuned where that differs.
 */
export function testRowsAlone(
  module: KernelModule,
  wanted: KernelCase,
  perRow: readonly string[],
  tuningAlone: KernelCase['tuning'] = {},
): void {
  test(`${module.name} ${text(wanted)}: a row's bits do not depend on the others`, async () => {
    const together = await bytesOfRun(module, wanted);
    const rows = wanted.dims.rows;
    const alone = { ...wanted, dims: { ...wanted.dims, rows: 1 }, tuning: { ...wanted.tuning, ...tuningAlone } };
    for (const row of [0, rows - 1]) {
      const one = await bytesOfRun(module, alone, (name, own) => {
        if (!perRow.includes(name)) return together[name].before;
        return together[name].before.subarray(row * own, (row + 1) * own);
      });
      for (const name of perRow) {
        const length = one[name].after.length;
        const expected = together[name].after.subarray(row * length, (row + 1) * length);
        assert.deepEqual(one[name].after, expected, `${name} of row ${row}`);
      }
    }
  });
}

/** Runs a case; inputs are those of `given`, or the case's own. */
async function bytesOfRun(
  module: KernelModule,
  wanted: KernelCase,
  given?: (name: string, length: number) => Uint8Array,
): Promise<Record<string, { before: Uint8Array; after: Uint8Array }>> {
  const s = specialise(module, wanted);
  const { args } = makeCase(module, s);
  const tensors = Object.entries(args).flatMap(([name, argument]) => {
    if (typeof argument === 'number') return [];
    return [{ name, bytes: argument.bytes.subarray(argument.offset, argument.offset + argument.length) }];
  });
  if (given) for (const { name, bytes } of tensors) bytes.set(given(name, bytes.length));
  const before = new Map(tensors.map(({ name, bytes }) => [name, bytes.slice()]));
  await SIMULATOR.run(module.trace(s), args, module.grid(s, { multiprocessors: MULTIPROCESSORS }));
  return Object.fromEntries(tensors.map(({ name, bytes }) => [name, { before: before.get(name)!, after: bytes }]));
}
