import v8 from 'node:v8';
import type { Cpu, CpuOptions, TileFamily } from './api.ts';
import { CpuArena, matrixBytes, scratchBytes } from './arena.ts';
import { emitModule } from './kernels/module.ts';
import { Team } from './team/team.ts';
export type * from './api.ts';
export { PAGE_TOKENS } from './api.ts';

export async function createCpu(options: CpuOptions): Promise<Cpu> {
  v8.setFlagsFromString('--experimental-wasm-revectorize');
  const family: TileFamily = options.family ?? 'wide';
  const module = new WebAssembly.Module(emitModule(family));
  const team = await Team.start(options.threads);
  return {
    threads: options.threads,
    family,
    description: `cpu (${options.threads} threads, ${family} tiles)`,
    createArena: async (bytes) => new CpuArena(team, module, family, bytes, () => undefined),
    matrixBytes,
    scratchBytes: (need) => scratchBytes(need, options.threads),
    close: () => team.close(),
  };
}
