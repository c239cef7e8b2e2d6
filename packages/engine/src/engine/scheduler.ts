import { assert } from '../errors.ts';
import type { DeviceModel } from '../device/device.ts';
import type { TokenMask } from '../grammar/grammars.ts';
import type { ModelSpec } from '../model/spec.ts';
import type { Batch } from './batch.ts';
import { contextOf } from './context.ts';
import { StepCost } from './cost.ts';
import { KvCache, type KvTables } from './kv-cache.ts';
import { WaitQueue, type QueueLimits } from './queue.ts';
import type { EngineEvent, EngineRequest } from './request.ts';
import { Sequence } from './sequence.ts';
import type { Step } from './step.ts';
import { Trials } from './trials.ts';
import { whoGivesWay } from './turns.ts';

export interface SchedulerLimits extends QueueLimits {
  /**
   * Milliseconds a step may take while answers are being written; undefined: what their rows alone would take, and a
   * share of that more.
   */
  readonly stepMs: number | undefined;
}

/** No prompt shall make a stream wait for its next token longer than so many times the usual gap. */
const BAR = 2;
/** Of the steps, how many may be longer than that though they would not be so by themselves. */
const LATE_SHARE = 0.02;
/**
 * Prompt rows lengthen a step of running answers by a share of it: as much as the machine's variation lets them, within
 * these bounds. The upper one leaves room for answers that grow; below the lower one prompts would take so much longer that
 * more tokens came late until they are done. The share is as many times more as there are more prompts than answers, so
 * that a burst of prompts does not trickle in behind one.
 */
const LEAST_SHARE = 1 / 3;
const MOST_SHARE = 0.6;
/** Prompt rows that a step beside answers may carry whatever was seen; beyond it, twice as many as the last such step. */
const FIRST_CHUNK = 16;

/** Steps between looks for a place to take over: looking takes time. */
const TURN_STEPS = 8;

type Emit = (event: EngineEvent) => void;

/**
 * Decides what each step carries: running answers first, one row each; then rows of prompts, as many as keep the next
 * token on time. It reads no clock: what steps took is told to `cost`.
 *
 * Sequences that run have an order, priority first and then arrival. Where pages run out, the last one yields: its pages
 * go back, and it waits in its old place to be computed anew from where the prefix tree still has it. So the first one
 * always gets on, and every request ends.
 */
export class Scheduler {
  readonly cost: StepCost = new StepCost();
  readonly cache: KvCache;
  readonly queue: WaitQueue<Sequence>;
  /** Who makes steps fail. */
  readonly trials: Trials = new Trials();
  /** In their order. */
  readonly running: Sequence[] = [];
  preemptions = 0;
  /** Sequences that gave their place to others. */
  turns = 0;
  /** Tokens that a sequence can have at most: the model's context, or less where its pages are fewer. */
  readonly context: number;
  readonly #spec: ModelSpec;
  readonly #capacity: DeviceModel['capacity'];
  readonly #pageTokens: number;
  readonly #stepMs: number | undefined;
  /** See DeviceModel.answersApart. */
  readonly #answersApart: boolean;
  /** Every sequence in the engine, by id. */
  readonly #sequences = new Map<number, Sequence>();
  #steps = 0;
  /** Prompt rows of the last step that had some beside answers. */
  #chunk = 0;
  /** Where admission found no room; nothing was given back since. */
  #blocked = false;

  constructor(spec: ModelSpec, model: DeviceModel, limits: SchedulerLimits) {
    this.#spec = spec;
    this.#capacity = model.capacity;
    this.#pageTokens = model.cache.pageTokens;
    this.#stepMs = limits.stepMs;
    this.#answersApart = model.answersApart;
    this.cache = new KvCache(model.cache);
    this.queue = new WaitQueue(limits);
    this.context = contextOf(spec, model);
  }

  /**
   * @returns the request that had to leave the full queue for this one
   * @throws RoseError for a request that cannot be served
   */
  submit(request: EngineRequest, now: number, grammar?: TokenMask): Sequence | undefined {
    const { command } = request;
    assert(command.kind === 'generate', 'a decoder was sent a pooling request');
    const sequence = new Sequence(request, command, this.#spec.vocabSize, this.context, now, grammar);
    const twin = request.siblingOf === undefined ? undefined : this.#sequences.get(request.siblingOf);
    const elder = twin?.elder ?? twin;
    // Its prompt is not computed yet: wait for it, unless this one must run its own, or draws nothing behind it.
    const shares = sequence.reusable === sequence.length && !sequence.full;
    const wait = shares && elder !== undefined && elder.drawn === elder.promptLength;
    const displaced = this.queue.enter(sequence, wait);
    this.#sequences.set(sequence.id, sequence);
    if (wait) {
      elder.siblings.push(sequence);
      sequence.elder = elder;
    } else this.#blocked = false;
    if (displaced !== undefined) {
      this.#forget(displaced);
      this.#freeSiblings(displaced);
    }
    return displaced;
  }

  /** The request is let go of at the next sweep. */
  cancel(id: number): void {
    const sequence = this.#sequences.get(id);
    if (sequence !== undefined) sequence.cancelled = true;
  }

  /** Let go of what nobody wants any more, whether it waits or runs. */
  sweep(now: number, emit: Emit): void {
    const orphans: Sequence[] = [];
    const leaves = (sequence: Sequence): boolean => {
      const begun = sequence.cachedTokens >= 0;
      this.#sweepSiblings(sequence, (sibling) => this.#leaves(sibling, now, begun, emit));
      return this.#leaves(sequence, now, begun, emit);
    };
    this.queue.sweep((sequence) => {
      if (!leaves(sequence)) return false;
      this.#forget(sequence);
      orphans.push(...sequence.siblings.splice(0));
      this.#blocked = false;
      return true;
    });
    for (const orphan of orphans) this.#free(orphan);
    this.retire(leaves);
  }

  /** Take sequences out of those that run. What they computed stays in the prefix tree. */
  retire(leaves: (sequence: Sequence) => boolean): void {
    let kept = 0;
    for (let i = 0; i < this.running.length; i++) {
      const sequence = this.running[i];
      if (!leaves(sequence)) {
        this.running[kept++] = sequence;
        continue;
      }
      this.#giveBack(sequence, true);
      this.#freeSiblings(sequence);
      this.queue.leave(sequence);
      this.#forget(sequence);
    }
    this.running.length = kept;
  }

  /**
   * A step failed. What the device holds may be half written, and copies that the step was to make may be missing, so all
   * begin anew and nothing that was computed is kept.
   */
  abandon(): void {
    this.#stopAll(false);
    this.cache.clear();
  }

  #stopAll(share: boolean): void {
    while (this.running.length > 0) this.queue.putBack(this.#takeOut(this.running.length - 1, share));
    this.#blocked = false;
  }

  /** Fill a step with what the device does next. */
  compose(step: Step, now: number, emit: Emit): void {
    step.clear();
    this.#steps++;
    // Each group begins with nobody else there.
    while (this.trials.settle()) this.#stopAll(true);
    for (let i = 0; i < this.running.length; i++) this.#settle(this.running[i], step.batch);
    this.#admit(step.batch, now, emit);
    for (let i = 0; i < this.running.length && step.batch.rows < this.#capacity.rows; i++) {
      const sequence = this.running[i];
      if (!sequence.decoding || !mayDraw(sequence)) continue;
      if (this.#makeRoom(i, sequence.scheduled + 1, step.batch)) this.#addRows(sequence, 1, step, emit);
      else this.#yield(i--);
    }
    this.#addPrompts(step, emit);
  }

  /** The step's rows are done: what they computed may be shared. */
  absorb(step: Step): void {
    for (let s = 0; s < step.memberCount; s++) {
      if (step.memberIsCurrent(s)) step.members[s].computed = step.ends[s];
    }
  }

  /** The integrity check: lengths, order, and every page and slot accounted for. */
  check(): void {
    const tables: KvTables[] = [];
    for (const sequence of this.running) {
      const { computed, scheduled, length, drawn, limit } = sequence;
      const ordered = computed <= scheduled && scheduled <= drawn && length <= drawn && drawn <= limit;
      const lengths = [computed, scheduled, length, drawn, limit].join(', ');
      assert(ordered && computed <= length, `sequence ${sequence.id} is out of step: ${lengths}`);
      assert(sequence.tables !== undefined, `sequence ${sequence.id} runs without pages`);
      const room = sequence.tables.pages * this.#pageTokens;
      assert(scheduled <= room, `sequence ${sequence.id} has ${scheduled} tokens in ${room} places`);
      tables.push(sequence.tables);
    }
    for (let i = 1; i < this.running.length; i++) {
      assert(before(this.running[i - 1], this.running[i]), 'running sequences are out of order');
    }
    this.cache.check(tables);
    this.queue.check(this.running);
    const known = this.running.length + this.queue.length;
    assert(this.#sequences.size === known, `${this.#sequences.size} sequences, of which ${known} run or wait`);
  }

  #leaves(sequence: Sequence, now: number, begun: boolean, emit: Emit): boolean {
    const error = this.queue.reasonToLeave(sequence, now, begun);
    if (error !== undefined) emit({ kind: 'failed', id: sequence.id, error: error.toJSON() });
    return error !== undefined;
  }

  /** Share pages that are full, at the places where hits may end, and let go of those that no row sees any more. */
  #settle(sequence: Sequence, batch: Batch): void {
    const tables = sequence.tables!;
    if (sequence.computed >= sequence.shareAt) {
      this.cache.insert(tables, sequence.tokens, sequence.shareAt / this.#pageTokens);
      if (sequence.scheduled === sequence.shareAt) this.cache.checkpoint(tables, batch);
      const prompt = this.#wholePages(Math.min(sequence.prefillEnd - 1, this.#sharable(sequence)));
      sequence.shareAt = sequence.shareAt < prompt ? prompt : Infinity;
    }
    this.cache.trim(tables, sequence.computed);
  }

  /** In the queue's order; a sequence that finds no room holds back those behind it. */
  #admit(batch: Batch, now: number, emit: Emit): void {
    this.#admitNext(batch, now, emit);
    if (this.#steps % TURN_STEPS !== 0 || this.trials.group !== undefined) return;
    // Where there is no room for one that waits, one that runs may have to make some.
    while (this.queue.length > 0 && this.#giveTurn()) this.#admitNext(batch, now, emit);
  }

  /** What the sequence computed that gives way stays in the prefix tree, as long as there is room. */
  #giveTurn(): boolean {
    const next = this.queue.peek();
    const at = next === undefined ? -1 : whoGivesWay(this.running, next, this.queue.tenants);
    if (at < 0) return false;
    const sequence = this.#takeOut(at, true);
    sequence.turns++;
    this.turns++;
    this.queue.putBack(sequence);
    return true;
  }

  #admitNext(batch: Batch, now: number, emit: Emit): void {
    while (!this.#blocked && this.running.length < this.#capacity.sequences) {
      const next = this.#next();
      if (next === undefined) return;
      const sharable = this.#sharable(next);
      const tables = this.cache.begin(next.salt, next.tokens, Math.min(next.reusable, sharable + 1), batch);
      const hit = (tables?.pages ?? 0) * this.#pageTokens;
      const alone = this.running.length === 0;
      if (tables === undefined || (!alone && !this.cache.hasRoom(next.length, hit, this.running.length))) {
        if (tables !== undefined) this.cache.end(tables);
        this.#blocked = true;
        return;
      }
      if (this.trials.group === undefined) this.queue.take(next, now);
      else this.queue.takeAgain(next);
      this.#begin(next, tables, hit, emit);
      const end = Math.min(next.length, sharable + 1);
      const branch = this.cache.branchPoint(tables, next.tokens, end) * this.#pageTokens;
      next.shareAt = branch > hit ? branch : this.#wholePages(end - 1);
      if (next.shareAt <= hit) next.shareAt = Infinity;
    }
  }

  /** While there is a trial, its group alone. */
  #next(): Sequence | undefined {
    const { group } = this.trials;
    if (group === undefined) return this.queue.peek();
    for (const sequence of group) if (sequence.tables === undefined && !sequence.ended) return sequence;
    return undefined;
  }

  #begin(sequence: Sequence, tables: KvTables, computed: number, emit: Emit): void {
    sequence.tables = tables;
    sequence.computed = computed;
    sequence.scheduled = computed;
    sequence.drawn = sequence.length;
    sequence.prefillEnd = sequence.length;
    sequence.lastOutput = -1;
    sequence.historyTold = 0;
    if (sequence.cachedTokens < 0) {
      sequence.cachedTokens = computed;
      emit({ kind: 'begun', id: sequence.id, cachedTokens: computed });
    }
    let at = this.running.length;
    while (at > 0 && before(sequence, this.running[at - 1])) at--;
    this.running.splice(at, 0, sequence);
  }

  /**
   * Rows of prompts, within the time that running answers allow. The first prompt, of the tenant served least, gets half
   * of it, so that it gets on; the shorter ones behind it share the rest, so that they need not wait for it; what is left
   * is the first's.
   */
  #addPrompts(step: Step, emit: Emit): void {
    const prompts = this.running.filter((s) => !s.decoding && this.#rowsLeft(s) > 0 && s.grammar?.soon !== false);
    if (prompts.length === 0) return;
    const served = ({ tenant }: Sequence): number => this.queue.tenants.served(tenant);
    prompts.sort((a, b) => a.rank - b.rank || served(a) - served(b));
    const answers = step.batch.rows;
    const budget = this.#budget(prompts.length, step);
    const [first, ...others] = prompts;
    const room = this.#roomFor(first, budget, answers, step);
    const wanted = others.reduce((sum, sequence) => sum + this.#rowsLeft(sequence), 0);
    const most = Math.max(Math.ceil(room / 2), room - wanted);
    this.#addPrompt(first, Math.min(most, this.#rowsLeft(first)), step, emit);
    for (const sequence of others.toSorted((a, b) => this.#rowsLeft(a) - this.#rowsLeft(b))) {
      // The first prompt has a row in every step; the others may have to wait for the next one.
      if (this.cost.predictWith(step.work, sequence.scheduled, 1, 0) > budget) continue;
      const fitting = Math.min(this.#roomFor(sequence, budget, answers, step), this.#rowsLeft(sequence));
      this.#addPrompt(sequence, fitting, step, emit);
    }
    if (answers > 0) this.#chunk = step.batch.rows - answers;
  }

  /** Milliseconds the step may take with prompts. */
  #budget(prompts: number, { batch, work }: Step): number {
    if (batch.rows === 0) return Infinity;
    if (this.#stepMs !== undefined) return this.#stepMs;
    const stretch = this.cost.lateness.stretchWithin(BAR, LATE_SHARE);
    const share = Math.max(LEAST_SHARE, Math.min(MOST_SHARE, stretch - 1));
    return (1 + share * Math.max(1, prompts / batch.rows)) * this.cost.predict(work);
  }

  /** Rows of its prompt that a step can carry: all of them, or up to the next place where its state is kept. */
  #rowsLeft(sequence: Sequence): number {
    const { prefillEnd, promptLength, scheduled } = sequence;
    const kept = this.cache.slots.size > 0 ? Math.min(sequence.shareAt, prefillEnd) : prefillEnd;
    const stop = this.#answersApart && scheduled < promptLength ? Math.min(kept, promptLength) : kept;
    return stop - scheduled;
  }

  /** Rows that the step has room for, if they are of this sequence's prompt. `answers` rows are of no prompt. */
  #roomFor(sequence: Sequence, budget: number, answers: number, { batch, work }: Step): number {
    const most = this.#capacity.rows - batch.rows;
    if (most <= 1 || budget === Infinity) return most;
    // Where a guess is far from what was seen, it is not trusted.
    const chunk = Math.max(FIRST_CHUNK, 2 * this.#chunk) - (batch.rows - answers);
    const logits = sequence.reported < sequence.promptLength - 1;
    return this.cost.rowsWithin(budget, work, sequence.scheduled, Math.min(most, chunk), logits);
  }

  #addPrompt(sequence: Sequence, rows: number, step: Step, emit: Emit): void {
    const at = this.running.indexOf(sequence);
    // Rows of an answer that are computed again are to the device what rows that draw are.
    if (this.#answersApart && sequence.scheduled >= sequence.promptLength) {
      rows = Math.min(rows, this.#capacity.sequences - step.batch.answers);
    }
    // It may have had to yield to one before it.
    if (at < 0 || rows <= 0) return;
    if (!this.#makeRoom(at, sequence.scheduled + rows, step.batch)) {
      rows = Math.min(rows, sequence.tables!.pages * this.#pageTokens - sequence.scheduled);
      if (rows <= 0) return;
    }
    this.#addRows(sequence, rows, step, emit);
  }

  /** Pages for the sequence at `at` up to `to` tokens; those behind it that are not in the step yet yield theirs. */
  #makeRoom(at: number, to: number, batch: Batch): boolean {
    const sequence = this.running[at];
    while (!this.cache.write(sequence.tables!, sequence.scheduled, to, batch)) {
      let victim = this.running.length - 1;
      while (victim > at && this.running[victim].step === this.#steps) victim--;
      if (victim <= at) return false;
      this.#yield(victim);
    }
    return true;
  }

  /** A running sequence gives its pages back and waits again, in its old place. */
  #yield(at: number): void {
    this.queue.putBack(this.#takeOut(at, true));
    this.preemptions++;
  }

  #takeOut(at: number, share: boolean): Sequence {
    const [sequence] = this.running.splice(at, 1);
    this.#giveBack(sequence, share);
    return sequence;
  }

  #giveBack(sequence: Sequence, share: boolean): void {
    const tables = sequence.tables!;
    const computed = Math.min(sequence.computed, this.#sharable(sequence));
    if (share) this.cache.insert(tables, sequence.tokens, Math.floor(computed / this.#pageTokens));
    this.cache.end(tables);
    sequence.tables = undefined;
    sequence.run++;
    sequence.computed = 0;
    sequence.scheduled = 0;
    sequence.drawn = sequence.length;
    this.#blocked = false;
  }

  #addRows(sequence: Sequence, count: number, step: Step, emit: Emit): void {
    const { batch } = step;
    const from = sequence.scheduled;
    const to = from + count;
    const { inUse: tables, pages, slot } = sequence.tables!;
    // A chunk longer than one row is of known tokens; a single row may be of a token that is being drawn.
    if (from >= sequence.length) batch.addFedRow(sequence.lastOutput, from, tables, pages, slot);
    else batch.addSequence(sequence.tokens, undefined, from, to, tables, pages, slot, from >= sequence.promptLength);
    sequence.scheduled = to;
    sequence.step = this.#steps;
    sequence.addTargets(batch, from, to);
    step.addMember(sequence, to);
    step.work.add(from, count);
    this.queue.tenants.serve(sequence.tenant, count);
    if (to < sequence.drawn || sequence.full) return;
    step.addOutput(sequence);
    if (sequence.siblings.length > 0) this.#forkSiblings(sequence, step, emit);
  }

  /** The prompt's last row is in the step: its siblings begin there, each with a draw of its own from that row. */
  #forkSiblings(elder: Sequence, step: Step, emit: Emit): void {
    for (const sibling of elder.siblings.splice(0)) {
      const { running } = this;
      const room = running.length < this.#capacity.sequences && step.batch.outputs < this.#capacity.outputs;
      const tables = room ? this.cache.fork(elder.tables!) : undefined;
      if (tables === undefined) {
        this.#free(sibling);
        continue;
      }
      this.queue.letGo();
      sibling.elder = undefined;
      sibling.rank = elder.rank;
      this.#begin(sibling, tables, elder.scheduled, emit);
      sibling.computed = elder.computed;
      sibling.shareAt = elder.shareAt;
      sibling.step = this.#steps;
      step.addOutput(sibling);
    }
  }

  #sweepSiblings(elder: Sequence, leaves: (sibling: Sequence) => boolean): void {
    let kept = 0;
    for (const sibling of elder.siblings) {
      if (leaves(sibling)) {
        this.queue.letGo();
        this.queue.leave(sibling);
        this.#forget(sibling);
      } else elder.siblings[kept++] = sibling;
    }
    elder.siblings.length = kept;
  }

  /** The elder is gone: its siblings wait like others. */
  #freeSiblings(elder: Sequence): void {
    for (const sibling of elder.siblings.splice(0)) this.#free(sibling);
  }

  #free(sibling: Sequence): void {
    sibling.elder = undefined;
    this.queue.letGo();
    this.queue.putBack(sibling);
    this.#blocked = false;
  }

  #forget(sequence: Sequence): void {
    sequence.ended = true;
    sequence.grammar?.close();
    this.#sequences.delete(sequence.id);
  }

  /** Of how many of its tokens the pages can serve any sequence that begins with them. */
  #sharable({ length, promptLength }: Sequence): number {
    return this.#answersApart ? Math.min(length, promptLength) : length;
  }

  #wholePages(tokens: number): number {
    return Math.floor(tokens / this.#pageTokens) * this.#pageTokens;
  }
}

/** Whether `a` comes before `b`: it yields its pages later. */
function before(a: Sequence, b: Sequence): boolean {
  return a.rank !== b.rank ? a.rank < b.rank : a.arrival < b.arrival;
}

/** Whether the row that draws the next token can be composed now. */
function mayDraw(sequence: Sequence): boolean {
  if (sequence.full || sequence.scheduled >= sequence.drawn) return false;
  if (sequence.grammar !== undefined) return sequence.drawn === sequence.length && sequence.grammar.soon;
  return sequence.drawn === sequence.length || !sequence.needsTokens;
}
