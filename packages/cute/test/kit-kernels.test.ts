import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '../src/compile.ts';
import type { KernelIR } from '../src/ir/ir.ts';
import { runPasses } from '../src/passes/passes.ts';
import type { SimulatorArgument, SimulatorOptions } from '../src/sim/api.ts';
import { simulate } from '../src/sim/simulate.ts';
import type { TensorMapElement } from '../src/types/tensor-map.ts';
import { bulkAdd } from './fixtures/bulk-add.ts';
import { CASES, type KernelCase, type Memory } from './fixtures/cases.ts';
import { clusterExchange, clusterMulticast } from './fixtures/cluster-exchange.ts';
import { clusterSum } from './fixtures/cluster-sum.ts';
import { dependentFirst, dependentSecond } from './fixtures/dependent-pair.ts';
import { mmaTile } from './fixtures/mma-tile.ts';
import { pingPong } from './fixtures/ping-pong.ts';
import { ringProduct } from './fixtures/ring-product.ts';
import { blockReductions } from './fixtures/reductions.ts';
import { tcgen05Product } from './fixtures/tcgen05-product.ts';
import { tcgen05Tile } from './fixtures/tcgen05-tile.ts';
import { tmaDouble } from './fixtures/tma-store.ts';
import { transposeTile } from './fixtures/transpose.ts';
import { wgmmaTile } from './fixtures/wgmma-tile.ts';
import { assemble, WITHOUT_PTXAS } from './ptxas.ts';

const BF16 = { kind: 'f16', d: 'f32', a: 'bf16', b: 'bf16', m: 128, n: 16 } as const;

const KERNELS: readonly (readonly [kernel: () => KernelIR, arch: string, isa: number])[] = [
  [wgmmaTile, 'sm_90a', 8],
  [mmaTile, 'sm_80', 7],
  [mmaTile, 'sm_90a', 8],
  [clusterSum, 'sm_90', 8],
  [tmaDouble, 'sm_90', 8],
  [tmaDouble, 'sm_100a', 8.6],
  [dependentFirst, 'sm_90', 7.8],
  [dependentSecond, 'sm_90', 7.8],
  [pingPong, 'sm_90a', 8],
  [clusterExchange, 'sm_90', 8.1],
  [clusterMulticast, 'sm_90a', 8],
  [bulkAdd, 'sm_90', 8],
  [transposeTile, 'sm_90', 7.8],
  [ringProduct, 'sm_90a', 8],
  [() => blockReductions(96), 'sm_80', 7],
  [() => blockReductions(1024), 'sm_90a', 8],
  [tcgen05Tile, 'sm_100a', 8.6],
  [() => tcgen05Product({ instruction: BF16 }), 'sm_100a', 8.6],
  [() => tcgen05Product({ instruction: { ...BF16, m: 256 }, group: 2, a: 'copy' }), 'sm_100a', 8.6],
  [() => tcgen05Product({ instruction: BF16, a: 'store' }), 'sm_100a', 8.6],
];

for (const [make, arch, isa] of KERNELS) {
  const kernel = make();
  test(`${kernel.name} for ${arch}: the lowest version, no spills`, { skip: WITHOUT_PTXAS }, () => {
    const compiled = compileKernel(kernel, { arch });
    assert.equal(compiled.isa, isa);
    const { errors, info } = assemble(compiled.program.ptx, arch);
    assert.equal(errors, '');
    assert.match(info, /0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/);
    // What ptxas says where it cannot let wgmma run beside the threads.
    assert.doesNotMatch(info, /serialized|setmaxnreg/);
  });
}

test('before sm_90 a kernel that overlaps the one before it is one that does not', () => {
  const { program } = compileKernel(dependentSecond(), { arch: 'sm_80' });
  assert.equal(program.overlapsPrevious, undefined);
  assert.doesNotMatch(program.ptx, /griddepcontrol/);
  assert.equal(compileKernel(dependentSecond(), { arch: 'sm_90' }).program.overlapsPrevious, true);
});

const SCHEDULES: readonly SimulatorOptions[] = [
  { schedule: 'round-robin' },
  { schedule: 'late' },
  { schedule: 'random', seed: 1 },
  { schedule: 'random', seed: 2 },
];

/** Runs a case on the CPU and gives what its buffers hold then. */
function run({ buffers, launches }: KernelCase, options: SimulatorOptions): Record<string, Memory> {
  const memory = Object.fromEntries(
    Object.entries(buffers).map(([name, { element, data }]) => [name, { element, data: data.slice() }]),
  );
  for (const { kernel, grid, args } of launches) {
    const named = args.map((argument, i): [string, SimulatorArgument] => {
      const { name } = kernel.params[i];
      if (typeof argument === 'number') return [name, argument];
      if (typeof argument === 'string') return [name, memory[argument].data];
      const { map, shape, box, swizzle } = argument;
      const element = memory[map].element as TensorMapElement;
      return [name, { map: { element, shape, box, swizzle }, tensor: memory[map].data }];
    });
    const result = simulate(runPasses(kernel), {
      grid,
      args: Object.fromEntries(named),
      options: { ...options, limits: { steps: 100_000 } },
    });
    assert.deepEqual(
      result.findings.map(({ message }) => message),
      [],
    );
  }
  return memory;
}

for (const make of CASES) {
  const kernelCase = make();
  test(`${kernelCase.name} in the simulator, in every schedule`, () => {
    for (const options of SCHEDULES) kernelCase.check(run(kernelCase, options));
  });
}
