import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KernelIR } from '../src/ir/ir.ts';
import { emitPtx } from '../src/ptx/emit.ts';
import { bulkAdd } from './fixtures/bulk-add.ts';
import { clusterExchange, clusterMulticast } from './fixtures/cluster-exchange.ts';
import { clusterSum } from './fixtures/cluster-sum.ts';
import { dependentFirst, dependentSecond } from './fixtures/dependent-pair.ts';
import { mmaTile } from './fixtures/mma-tile.ts';
import { pingPong } from './fixtures/ping-pong.ts';
import { ringProduct } from './fixtures/ring-product.ts';
import { blockReductions } from './fixtures/reductions.ts';
import { tcgen05Tile } from './fixtures/tcgen05-tile.ts';
import { tmaDouble } from './fixtures/tma-store.ts';
import { transposeTile } from './fixtures/transpose.ts';
import { wgmmaTile } from './fixtures/wgmma-tile.ts';
import { prepare } from './prepare.ts';
import { assemble, WITHOUT_PTXAS } from './ptxas.ts';

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
];

for (const [make, arch, isa] of KERNELS) {
  const kernel = prepare(make());
  test(`${kernel.name} for ${arch}: the lowest version, no spills`, { skip: WITHOUT_PTXAS }, () => {
    const ptx = emitPtx(kernel, { arch });
    assert.equal(ptx.isa, isa);
    const { errors, info } = assemble(ptx.text, arch);
    assert.equal(errors, '');
    assert.match(info, /0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/);
    // What ptxas says where it cannot let wgmma run beside the threads.
    assert.doesNotMatch(info, /serialized|setmaxnreg/);
  });
}
