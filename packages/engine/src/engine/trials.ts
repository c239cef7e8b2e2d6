import type { Sequence } from './sequence.ts';

/** Steps that failed with a sequence in them, and nobody was found to blame; one more, and it fails. */
const MOST_UNEXPLAINED = 2;

/** A sequence that was in a step that failed, and how many of its tokens have to be computed to show that it can be. */
export type Suspect = readonly [sequence: Sequence, goal: number];

/**
 * Finds the sequence that makes steps fail. Those of a step that failed are tried apart from all others, in two halves, one
 * after the other; where a half fails, its halves are. One that fails alone there is to blame. A half is cleared when each
 * of its sequences has been computed as far as in the step that failed.
 *
 * A step carries parts of a group and nobody else, so each failure leaves groups of at most half of its sequences: of n,
 * one is found within log2(n) failures. Where all halves go well there was no reason, or one that they have together;
 * `MOST_UNEXPLAINED` sees to an end.
 */
export class Trials {
  /** Groups that are still to be tried, the next one last. */
  readonly #groups: Set<Sequence>[] = [];
  readonly #goals = new Map<Sequence, number>();
  /** Everybody that was in the failed step that began this, while nobody is found to blame. */
  #accused: readonly Sequence[] = [];

  /** The group that has the device to itself; undefined: there is no trial. Those that are cleared have left it. */
  get group(): ReadonlySet<Sequence> | undefined {
    return this.#groups.at(-1);
  }

  /** A step failed. @returns those that are to blame */
  accuse(suspects: readonly Suspect[]): readonly Sequence[] {
    const sequences = suspects.map(([sequence]) => sequence);
    if (this.#groups.length === 0) {
      this.#accused = sequences;
      const often = sequences.filter((sequence) => ++sequence.unexplained > MOST_UNEXPLAINED);
      if (often.length > 0) return often;
    }
    const group = this.#groups.pop();
    // Once may be chance.
    const guilty = group !== undefined && sequences.length === 1;
    if (guilty) {
      for (const sequence of this.#accused) sequence.unexplained--;
      this.#accused = [];
    }
    for (const [sequence, goal] of suspects) {
      group?.delete(sequence);
      this.#goals.set(sequence, Math.max(goal, this.#goals.get(sequence) ?? 0));
    }
    if (group !== undefined) this.#add([...group]);
    if (guilty) return sequences;
    const middle = Math.ceil(sequences.length / 2);
    this.#add(sequences.slice(middle));
    this.#add(sequences.slice(0, middle));
    return [];
  }

  /** Let go of those that are cleared or have ended. @returns whether the group is done, and the next one's turn comes */
  settle(): boolean {
    const group = this.#groups.at(-1);
    if (group === undefined) return false;
    for (const sequence of group) {
      if (sequence.ended || sequence.computed >= this.#goals.get(sequence)!) group.delete(sequence);
    }
    if (group.size > 0) return false;
    this.#groups.pop();
    if (this.#groups.length === 0) this.end();
    return true;
  }

  /** There is nothing to find out, or nobody to find it out with. */
  end(): void {
    this.#groups.length = 0;
    this.#goals.clear();
    this.#accused = [];
  }

  #add(sequences: readonly Sequence[]): void {
    if (sequences.length > 0) this.#groups.push(new Set(sequences));
  }
}
