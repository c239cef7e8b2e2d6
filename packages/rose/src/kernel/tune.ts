import { setImmediate } from 'node:timers/promises';
import {
  combinations,
  keyText,
  specialise,
  tunableNames,
  type Choice,
  type Chosen,
  type KernelCase,
  type KernelModule,
  type Space,
  type Specialisation,
  type TunedEntry,
} from '@rose/kernels';

/**
 * The search for a case's fastest tuning. It looks at what the kernel chooses and at what was fastest for sizes near it, changes
 * one name of the fastest at a time, keeps what is faster, and ends when no change is. Then the best few and the chosen one are timed again in turns. Only what changes no
 * bits is tried, and whether it does not is looked at.
 */

/** Where tunings are tried: a GPU, or a test's. */
export interface TuningBench {
  /** Makes the arguments of a case. */
  open(module: KernelModule, s: Specialisation): TuningPlace;
}

export interface TuningPlace extends Disposable {
  /** Compiles several tunings at once, where it can; what is wrong with one is told by `prepare`. */
  ahead(list: readonly Specialisation[]): Promise<void>;
  /** Compiles a tuning of the case and runs it once. Throws TuningExcluded where it cannot be used. */
  prepare(s: Specialisation): TuningCandidate;
}

export interface TuningCandidate {
  /** What its first run wrote. */
  readonly outputs: readonly Uint8Array[];
  /** Median microseconds of a launch over so many replays. */
  readonly time: (repeats: number) => number;
}

/** A tuning that cannot be used here; the message says why. */
export class TuningExcluded extends Error {
  override readonly name = 'TuningExcluded';
}

export interface Excluded {
  readonly tuning: Chosen<Space>;
  readonly why: string;
}

export interface TunedCase {
  readonly s: Specialisation;
  /** What the kernel chooses, and what is fastest: the same unless another is faster by more than noise. */
  readonly chosen: Chosen<Space>;
  readonly tuning: Chosen<Space>;
  readonly chosenMicroseconds: number;
  readonly microseconds: number;
  /** Tunings that were timed, the chosen one included. */
  readonly tried: number;
  readonly excluded: readonly Excluded[];
}

export interface TuneOptions {
  /** Every combination instead of the search. */
  readonly all?: boolean;
  /** What was measured of this kernel before: the tunings of sizes near the case's are tried first. */
  readonly known?: readonly TunedEntry[];
  /** Asked between tunings. `enough`: decide by what was tried. `stop`: forget this case. */
  readonly signal?: () => 'go' | 'enough' | 'stop';
  /** Told of each tuning that was tried, with the fastest time so far. */
  readonly onTry?: (tried: number, best: number) => void;
}

/** Replays of a tuning in the search, and in each round of the end. */
const QUICK = 5;
const CAREFUL = 7;
const ROUNDS = 3;
/** Tunings of the search that are timed again. */
const FINALISTS = 3;
/** Another tuning than the chosen one must take less than this part of its time. */
const BETTER = 0.99;

/** Tunings of sizes nearby that are tried first. */
const NEARBY = 6;

/** Combinations that are compiled before they are timed. */
const AT_ONCE = 16;

/** Outputs are not kept: they may be large, and tunings many. */
interface Timed {
  readonly tuning: Chosen<Space>;
  readonly us: number;
  readonly time: (repeats: number) => number;
}

/**
 * The fastest tuning of a case. Undefined where it was stopped. Throws TuningExcluded where what the kernel chooses cannot
 * be used itself, RangeError for a case that the kernel refuses.
 */
export async function tuneCase(
  module: KernelModule,
  wanted: KernelCase,
  bench: TuningBench,
  options: TuneOptions = {},
): Promise<TunedCase | undefined> {
  const { all = false, known = [], signal = () => 'go', onTry = () => {} } = options;
  const s = specialise(module, { dims: wanted.dims, ...(wanted.options ? { options: wanted.options } : {}) });
  using place = bench.open(module, s);
  const search = new Search(module, s, place);
  const { chosen } = search;
  let state = signal();
  for (const tunings of all ? everything(module, s) : search.walk(known)) {
    const fresh = search.unseen(tunings);
    if (fresh.length === 0) continue;
    await place.ahead(fresh.map((tuning) => ({ ...s, tuning })));
    for (const tuning of fresh) {
      // Lets signals of the process through.
      await setImmediate();
      state = signal();
      if (state !== 'go') break;
      search.attempt(tuning);
      onTry(search.timed.length, search.best.us);
    }
    if (state !== 'go') break;
  }
  if (state === 'stop') return undefined;
  const finalists = search.timed
    .filter((one) => one !== chosen)
    .toSorted((a, b) => a.us - b.us)
    .slice(0, FINALISTS);
  const [first, ...others] = inTurns([chosen, ...finalists]);
  const fastest = others.toSorted((a, b) => a.us - b.us)[0];
  const best = fastest && fastest.us < BETTER * first.us ? fastest : first;
  return {
    ...{ s, chosen: s.tuning, tuning: best.tuning, chosenMicroseconds: first.us, microseconds: best.us },
    ...{ tried: search.timed.length, excluded: search.excluded },
  };
}

/** The entry of a table for a case. */
export function entryOf(module: KernelModule, { s, tuning, microseconds, chosenMicroseconds }: TunedCase): TunedEntry {
  const names = tunableNames(module);
  return {
    key: module.tables.key(s.dims, s.options),
    tuning: Object.fromEntries(names.map((name) => [name, tuning[name]])),
    microseconds: rounded(microseconds),
    chosenMicroseconds: rounded(chosenMicroseconds),
    dims: s.dims,
  };
}

class Search {
  readonly chosen: Timed;
  readonly timed: Timed[];
  readonly excluded: Excluded[] = [];
  best: Timed;
  readonly #module: KernelModule;
  readonly #s: Specialisation;
  readonly #place: TuningPlace;
  readonly #outputs: readonly Uint8Array[];
  readonly #seen: Set<string>;

  constructor(module: KernelModule, s: Specialisation, place: TuningPlace) {
    this.#module = module;
    this.#s = s;
    this.#place = place;
    const candidate = place.prepare(s);
    this.#outputs = candidate.outputs;
    this.chosen = timed(s.tuning, candidate);
    this.#seen = new Set([keyText(s.tuning)]);
    this.timed = [this.chosen];
    this.best = this.chosen;
  }

  /** Those that were not tried yet; they count as tried from now on. */
  unseen(tunings: Iterable<Chosen<Space>>): Chosen<Space>[] {
    return [...tunings].filter((tuning) => {
      const text = keyText(tuning);
      const fresh = !this.#seen.has(text);
      this.#seen.add(text);
      return fresh;
    });
  }

  /** Times a tuning. */
  attempt(tuning: Chosen<Space>): void {
    try {
      const candidate = this.#place.prepare({ ...this.#s, tuning });
      if (candidate.outputs.some((bytes, i) => Buffer.compare(bytes, this.#outputs[i]) !== 0)) {
        throw new TuningExcluded('its output has other bits than that of the chosen tuning');
      }
      const one = timed(tuning, candidate);
      this.timed.push(one);
      if (one.us < this.best.us) this.best = one;
    } catch (error) {
      if (!(error instanceof TuningExcluded)) throw error;
      this.excluded.push({ tuning, why: error.message });
    }
  }

  /** What was known nearby; then neighbours of the best, name by name, around and around until a round finds nothing better. */
  *walk(known: readonly TunedEntry[]): Generator<Iterable<Chosen<Space>>> {
    yield nearby(this.#module, this.#s, known);
    for (let before: Timed | undefined; before !== this.best;) {
      before = this.best;
      for (const name of tunableNames(this.#module)) yield this.#neighbours(this.best.tuning, name);
    }
  }

  /** With other values of a name; where the kernel refuses one, with each that another name must have beside it. */
  *#neighbours(from: Chosen<Space>, name: string): Generator<Chosen<Space>> {
    for (const value of this.#module.tuning[name]) {
      const changed = { ...from, [name]: value };
      if (accepts(this.#module, this.#s, changed)) {
        yield changed;
        continue;
      }
      for (const other of tunableNames(this.#module)) {
        if (other === name) continue;
        for (const beside of this.#module.tuning[other]) {
          const both = { ...changed, [other]: beside };
          if (accepts(this.#module, this.#s, both)) yield both;
        }
      }
    }
  }
}

/** Different tunings of the sizes that are nearest, by the sum of how often sizes double between them. */
function nearby(module: KernelModule, s: Specialisation, known: readonly TunedEntry[]): Chosen<Space>[] {
  const names = tunableNames(module);
  const distance = ({ dims }: TunedEntry): number => {
    return Object.entries(s.dims).reduce(
      (sum, [name, size]) => sum + Math.abs(Math.log2(size / (dims[name] ?? size))),
      0,
    );
  };
  const found = new Map<string, Chosen<Space>>();
  for (const { tuning } of known.toSorted((a, b) => distance(a) - distance(b))) {
    // A value that is not had here, such as room for fewer rows, is as chosen for this case.
    const whole = { ...s.tuning, ...Object.fromEntries(names.map((name) => [name, tuning[name] ?? s.tuning[name]])) };
    const fitting = [whole, ...names.map((name) => ({ ...whole, [name]: s.tuning[name] }))];
    const taken = fitting.find((one) => has(module, one) && accepts(module, s, one));
    if (taken !== undefined) found.set(keyText(taken), taken);
    if (found.size === NEARBY) break;
  }
  return [...found.values()];
}

/** Whether all values are among those that the kernel has now. */
function has(module: KernelModule, tuning: Chosen<Space>): boolean {
  return tunableNames(module).every((name) => module.tuning[name].includes(tuning[name]));
}

/** Every combination of what a table may set, some at a time. */
function* everything(module: KernelModule, s: Specialisation): Generator<Chosen<Space>[]> {
  const space = Object.fromEntries(tunableNames(module).map((name) => [name, module.tuning[name]]));
  let some: Chosen<Space>[] = [];
  for (const tuning of combinations(space)) {
    const whole: Record<string, Choice> = { ...s.tuning, ...tuning };
    if (accepts(module, s, whole)) some.push(whole);
    if (some.length === AT_ONCE) {
      yield some;
      some = [];
    }
  }
  yield some;
}

function accepts(module: KernelModule, { dims, options }: Specialisation, tuning: Chosen<Space>): boolean {
  return module.refuse({ dims, options, tuning }) === undefined;
}

function timed(tuning: Chosen<Space>, { time }: TuningCandidate): Timed {
  return { tuning, us: time(QUICK), time };
}

/** All timed again, one after the other and around: what the clock does meanwhile falls on each alike. */
function inTurns(list: readonly Timed[]): Timed[] {
  const rounds = Array.from({ length: ROUNDS }, () => list.map(({ time }) => time(CAREFUL)));
  return list.map((one, i) => ({ ...one, us: median(rounds.map((round) => round[i])) }));
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
