import { Batch, type BatchCapacity } from './batch.ts';
import { StepWork } from './cost.ts';
import type { Sequence } from './sequence.ts';
import type { Suspect } from './trials.ts';

/** One step on its way through the device: the batch, and whose rows and outputs are in it. */
export class Step {
  readonly batch: Batch;
  /**
   * Sequence of each row group, and how many of its tokens are computed when the step is done. The lists are as long as
   * they ever were: an array cut short would be made anew in every step.
   */
  readonly members: Sequence[] = [];
  readonly ends: Int32Array;
  /** Targets of member s: [targetStart[s], targetStart[s + 1]) of the batch's. */
  readonly targetStart: Int32Array;
  memberCount = 0;
  /** Sequence of each output. */
  readonly outputs: Sequence[] = [];
  outputCount = 0;
  /** Which of its runs each was composed for: a sequence that has yielded since takes nothing from this step. */
  readonly #memberRuns: Int32Array;
  readonly #outputRuns: Int32Array;
  readonly work: StepWork = new StepWork();

  constructor(capacity: BatchCapacity) {
    this.batch = new Batch(capacity);
    this.ends = new Int32Array(capacity.sequences);
    this.targetStart = new Int32Array(capacity.sequences + 1);
    this.#memberRuns = new Int32Array(capacity.sequences);
    this.#outputRuns = new Int32Array(capacity.outputs);
  }

  clear(): void {
    this.batch.clear();
    this.memberCount = 0;
    this.outputCount = 0;
    this.work.clear();
  }

  /** The batch's last rows are this sequence's, up to its token `end`, and the targets among them are in the batch. */
  addMember(sequence: Sequence, end: number): void {
    this.members[this.memberCount] = sequence;
    this.ends[this.memberCount] = end;
    this.#memberRuns[this.memberCount++] = sequence.run;
    this.targetStart[this.memberCount] = this.batch.targets;
    this.work.logits += this.batch.targets - this.targetStart[this.memberCount - 1];
  }

  /** Ask for a token behind the last row. */
  addOutput(sequence: Sequence): void {
    sequence.addOutput(this.batch, this.batch.rows - 1);
    this.work.logits++;
    this.outputs[this.outputCount] = sequence;
    this.#outputRuns[this.outputCount++] = sequence.run;
  }

  /** Whether there is anything for the device to do: copies of pages must be made even where no row follows. */
  get empty(): boolean {
    return this.batch.rows === 0 && this.batch.copies === 0;
  }

  /** Whether the sequence of row group `s` still runs as it did when this step was composed. */
  memberIsCurrent(s: number): boolean {
    return !this.members[s].ended && this.members[s].run === this.#memberRuns[s];
  }

  /** Whose rows and outputs are in it and still count, each with how many of its tokens are computed when it is done. */
  suspects(): Suspect[] {
    const found = new Map<Sequence, number>();
    for (let o = 0; o < this.outputCount; o++) {
      if (this.outputIsCurrent(o)) found.set(this.outputs[o], this.outputs[o].length);
    }
    for (let s = 0; s < this.memberCount; s++) if (this.memberIsCurrent(s)) found.set(this.members[s], this.ends[s]);
    return [...found];
  }

  /** Whether the sequence of output `o` does. */
  outputIsCurrent(o: number): boolean {
    return !this.outputs[o].ended && this.outputs[o].run === this.#outputRuns[o];
  }
}
