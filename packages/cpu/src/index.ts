import v8 from 'node:v8';
import type { Cpu, CpuOptions } from './api.ts';
import { CpuArena, matrixBytes, scratchBytes } from './arena.ts';
import { chooseFamily, revectorizes, type Choice } from './calibrate.ts';
import { openHugePages, type HugePages } from './huge-pages.ts';
import { emitModule } from './kernels/module.ts';
import { nibbleSumsOfMachine } from './nibble-sums.ts';
import { Team } from './team/team.ts';
export type * from './api.ts';
export { PAGE_TOKENS } from './api.ts';

const MOST_THREADS = 256;
/**
 * Bytes of baseline code that V8 lets a function run before it compiles the function anew and well. A few calls of any
 * kernel: the default would spend milliseconds of slow code on each one. Code is shared by a module's instances, so one
 * thread's calls serve all.
 */
const TIERING_BUDGET = 100_000;

/**
 * Start a thread team with kernels for this machine. Sets process-wide flags of V8's WebAssembly compiler: see
 * `ROSE_NO_REVECTORIZE` in the environment.
 * @throws RangeError for options out of range; Error if this machine's WebAssembly gives wrong results
 */
export async function createCpu(options: CpuOptions): Promise<Cpu> {
  const { threads } = options;
  if (!(Number.isInteger(threads) && threads >= 1 && threads <= MOST_THREADS)) {
    throw new RangeError(`threads must be a whole number from 1 to ${MOST_THREADS}, not ${threads}`);
  }
  if (options.family !== undefined && options.family !== 'wide' && options.family !== 'plain') {
    throw new RangeError(`family must be 'wide' or 'plain', not '${String(options.family)}'`);
  }
  // Before the first kernel is compiled.
  if (revectorizes()) v8.setFlagsFromString('--experimental-wasm-revectorize');
  v8.setFlagsFromString(`--wasm-tiering-budget=${TIERING_BUDGET}`);

  // Workers load beside the calibration.
  const starting = Team.start(threads);
  let module: WebAssembly.Module;
  let choice: Choice;
  let hugePages: HugePages | undefined;
  try {
    if (options.hugePages !== false) hugePages = await openHugePages();
    choice = chooseFamily(options.family);
    module = new WebAssembly.Module(emitModule(choice.family, nibbleSumsOfMachine()));
  } catch (error) {
    await starting.then((team) => team.close());
    throw error;
  }
  const team = await starting;
  const { family, reason } = choice;
  const pages = hugePages?.available === true ? 'huge pages' : 'small pages';
  return {
    threads,
    family,
    description: `cpu: ${threads} ${threads === 1 ? 'thread' : 'threads'}, ${family} tiles (${reason}), ${pages}`,
    createArena: async (bytes) => new CpuArena(team, module, family, bytes, (memory) => hugePages?.advise(memory)),
    matrixBytes,
    scratchBytes: (need) => scratchBytes(need, threads),
    close: () => team.close(),
  };
}
