import { loadavg } from 'node:os';

/** Samples by case, then by contender: one a round. */
export type Samples = Record<string, Record<string, number[]>>;

export interface RoundsResult {
  readonly samples: Samples;
  /** The machine's one-minute load average before each round. */
  readonly load: readonly number[];
}

/**
 * Alternate the contenders: in every round each case is run by one after the other, so that what is compared was
 * measured seconds apart. One round before the first is thrown away (compilation, page cache, clock frequency).
 * @param before is awaited before each round
 */
export async function alternate(
  rounds: number,
  cases: readonly string[],
  contenders: readonly string[],
  before: () => Promise<void>,
  run: (contender: string, name: string, round: number) => Promise<number>,
): Promise<RoundsResult> {
  const samples: Samples = {};
  for (const name of cases) samples[name] = Object.fromEntries(contenders.map((contender) => [contender, []]));
  const load: number[] = [];
  for (let round = -1; round < rounds; round++) {
    if (round >= 0) load.push(loadavg()[0]);
    await before();
    for (const name of cases) {
      for (const contender of contenders) {
        const value = await run(contender, name, round);
        if (round >= 0) samples[name][contender].push(value);
      }
    }
    process.stderr.write(round < 0 ? 'warm ' : `${round + 1} `);
  }
  process.stderr.write('\n');
  return { samples, load };
}
