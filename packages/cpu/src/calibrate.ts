import type { TileFamily } from './api.ts';
import { CpuArena } from './arena.ts';
import { checkTiles } from './check.ts';
import { emitTiles } from './kernels/module.ts';
import { Team } from './team/team.ts';

export interface Choice {
  readonly family: TileFamily;
  /** For people: why. */
  readonly reason: string;
}

/** As prompts are computed: in the family's largest tiles. */
const ROWS = 12;
/** The smaller tiles, which are to be optimised as well before the last check. */
const FEW_ROWS = [1, 2, 3, 4, 5] as const;
const OUTPUTS = 128;
const INPUTS = 256;
const FORMATS = ['f32', 'bf16'] as const;
const OPERATIONS = 2 * ROWS * OUTPUTS * INPUTS * FORMATS.length;
const ROUNDS = 40;
/** The optimising compiler works beside us; where cores are taken it may be late. */
const PATIENCE_MS = 50;
/** Optimised code is several times as fast as the baseline compiler's, whose speed the first round has. */
const OPTIMISED = 1.5;

/** A family that gives the right bits: ready to be timed. */
interface Candidate {
  readonly family: TileFamily;
  readonly arena: CpuArena;
  readonly run: () => void;
  readonly runFew: () => void;
  first: number;
  /** Milliseconds of the fastest round. */
  best: number;
}

/**
 * Check families against the scalar reference, then take the faster one. V8 compiles `wide` tiles to 256-bit vectors
 * where the processor has them and its revectorizer is on; elsewhere they lose.
 * @throws Error if no family is right
 */
export function chooseFamily(forced: TileFamily | undefined): Choice {
  const wrong: string[] = [];
  const candidates: Candidate[] = [];
  const attempt = (family: TileFamily, work: () => void): boolean => {
    try {
      work();
      return true;
    } catch (error) {
      wrong.push(`${family} tiles are not used: ${(error as Error).message}`);
      return false;
    }
  };
  for (const family of forced === undefined ? (['wide', 'plain'] as const) : [forced]) {
    attempt(family, () => candidates.push(prepare(family)));
  }
  if (forced === undefined) time(candidates);
  // Once more: meanwhile the optimising compiler has made other code of the tiles.
  const right = candidates.filter(({ family, arena }) => attempt(family, () => checkTiles(arena)));
  if (right.length === 0) throw new Error(`this machine's WebAssembly cannot be used: ${wrong.join('; ')}`);
  right.sort((a, b) => a.best - b.best);
  const [best, other] = right;
  const notes = [
    ...(best.family === 'wide' && revectorizes() ? ['revectorized'] : []),
    forced === undefined ? `${speedOf(best)} GFLOP/s a core` : 'asked for',
  ];
  if (other !== undefined) notes.push(`${other.family} ${speedOf(other)}`);
  return { family: best.family, reason: [notes.join(', '), ...wrong].join('; ') };
}

/** Whether V8 may be asked for 256-bit vectors. */
export function revectorizes(): boolean {
  return process.env['ROSE_NO_REVECTORIZE'] !== '1' && process.arch === 'x64';
}

function prepare(family: TileFamily): Candidate {
  const module = new WebAssembly.Module(emitTiles(family));
  const arena = new CpuArena(Team.solo(), module, family, 1 << 20, () => undefined);
  arena.reserve({ maxRows: ROWS, maxInputs: 0, maxContext: 1, maxHeadDim: 1, maxWidth: 1 });
  checkTiles(arena);
  const input = arena.alloc(4 * ROWS * INPUTS);
  const output = arena.alloc(4 * ROWS * OUTPUTS);
  const weights = FORMATS.map((format) => arena.matrix(OUTPUTS, INPUTS, format));
  const products = (...counts: readonly number[]): (() => void) => {
    const program = arena.program();
    for (const rows of counts) for (const weight of weights) program.linear({ input, weight, output, rows });
    return () => program.run();
  };
  return { family, arena, run: products(ROWS), runFew: products(...FEW_ROWS), first: 0, best: Infinity };
}

/** Time candidates by turns: others may disturb, so the fastest round counts. */
function time(candidates: readonly Candidate[]): void {
  const start = performance.now();
  const optimised = (): boolean => candidates.every(({ first, best }) => first > OPTIMISED * best);
  for (let round = 0; round < ROUNDS || !optimised(); round++) {
    for (const candidate of candidates) {
      candidate.runFew();
      const from = performance.now();
      candidate.run();
      const took = performance.now() - from;
      candidate.first ||= took;
      candidate.best = Math.min(candidate.best, took);
    }
    if (performance.now() - start > PATIENCE_MS) return;
  }
}

function speedOf({ best }: Candidate): string {
  return (OPERATIONS / best / 1e6).toFixed(0);
}
