import { PAGE_TOKENS } from '@rose/cpu';
import { splitTokens } from '@rose/kernels';
import type { Batch, BatchCapacity } from '../../engine/batch.ts';
import type { LayerGroup } from '../../model/groups.ts';
import type { ModelSpec } from '../../model/spec.ts';
import type { CacheOperation } from '../../plan/plan.ts';
import type { FusedOperation } from './fuse.ts';
import { graphSize } from './grids.ts';
import { StepState, type StateField } from './step-state.ts';
import type { Gpu, GpuStream } from './gpu.ts';

/**
 * Answer rows whose attention is computed together: as many as the room for the parts of their splits allows. Usually all
 * of a step's are one pass.
 */
export interface Pass {
  /** Its first row, and how many rows. */
  row: number;
  rows: number;
  /** For each group of layers its first item, and how many items. */
  readonly item: Int32Array;
  readonly items: Int32Array;
}

/** What the launches of a step depend on. */
export interface StepShape {
  /** Rows in all; those of answers come first, whatever their order in the batch. */
  rows: number;
  answers: number;
  readonly passes: Pass[];
  passCount: number;
  /** Sequences with prompt rows, and the most rows that one of them has. */
  prompts: number;
  promptRows: number;
  /** Rows of logits. */
  outputs: number;
  sequences: number;
}

/** What a plan's launches read of a step's numbers. */
export interface StepNeeds {
  /** What the step before drew, the rows of logits. */
  readonly decoder: boolean;
  readonly positions: boolean;
  readonly types: boolean;
  /** Places in pages, and whose they are. */
  readonly pages: boolean;
}

export function needsOf(operations: readonly FusedOperation[], { head, embedding }: ModelSpec): StepNeeds {
  const caches = operations.filter(({ kind }) => kind === 'cache') as CacheOperation[];
  return {
    decoder: head.kind === 'logits',
    positions: embedding.positions > 0 || caches.some(({ rope }) => rope !== undefined),
    types: embedding.types > 0,
    pages: caches.length > 0,
  };
}

/** Sizes of the launches of a step of whole sequences: at least the batch's. What is behind those is computed and not kept. */
export interface WholeSize {
  readonly rows: number;
  readonly sequences: number;
  /** Rows of a sequence. */
  readonly longest: number;
}

/** What a step's numbers are places in. */
export interface StepLimits {
  readonly vocabulary: number;
  /** Token types; 0: none. */
  readonly types: number;
  /** Pages of each group. */
  readonly pages: readonly number[];
}

/** What a group of layers has of its own. */
type GroupField = `slots${number}` | `table${number}` | `items${number}` | `starts${number}`;
export type Field =
  | 'tokens'
  | 'fed'
  | 'positions'
  | 'types'
  | 'answerRowStarts'
  | 'answerLengths'
  | 'answerTables'
  | 'promptRowStarts'
  | 'promptLengths'
  | 'promptTables'
  | 'outputRows'
  | 'judgedRows'
  | GroupField;

/** Rows behind those of answers that a graph may have. */
export const PADDING = 64;

/** Items of attention's splits that there is room for in one pass: at least those of one row, however long its context. */
export function itemsOfPass({ sequences }: Pick<BatchCapacity, 'sequences'>, context: number): number {
  return Math.max(2048, 2 * sequences, Math.ceil(context / splitTokens(0)));
}

/**
 * Turns the engine's batch into what the GPU's kernels read. Rows of answers, one each to attention, come before those of
 * prompts; positions become places in pages; contexts become lists of splits.
 */
export class StepLayout {
  readonly state: StepState<Field>;
  readonly shape: StepShape;
  /** Where the batch's rows are in the step. */
  readonly placeOf: Int32Array;
  readonly #groups: readonly LayerGroup[];
  readonly #split: number;
  readonly #itemsOfPass: number;
  readonly #needs: StepNeeds;
  /** Whether the batch's rows stay in their order. */
  #inOrder = false;

  constructor(
    gpu: Gpu,
    capacity: BatchCapacity,
    groups: readonly LayerGroup[],
    context: number,
    limits: StepLimits,
    needs: StepNeeds = { decoder: true, positions: true, types: true, pages: true },
  ) {
    this.#needs = needs;
    this.#groups = groups;
    this.#split = splitTokens(0);
    this.#itemsOfPass = itemsOfPass(capacity, context);
    this.state = new StepState(gpu, StepLayout.fields(capacity, groups, context, limits));
    this.placeOf = new Int32Array(capacity.rows);
    this.shape = {
      rows: 0,
      answers: 0,
      passes: [],
      passCount: 0,
      prompts: 0,
      promptRows: 0,
      outputs: 0,
      sequences: 0,
    };
  }

  private static fields(
    { rows, sequences, outputs, pages }: BatchCapacity,
    groups: readonly LayerGroup[],
    context: number,
    limits: StepLimits,
  ): (StateField & { readonly name: Field })[] {
    const answers = sequences + PADDING;
    const splits = Math.ceil(context / splitTokens(0));
    const items = Math.max(sequences * splits, itemsOfPass({ sequences }, context));
    const field = (
      name: Field,
      capacity: number,
      greatest: number,
      least = 0,
    ): StateField & { readonly name: Field } => {
      return { name, capacity, least, greatest };
    };
    const lastRow = rows + PADDING - 1;
    return [
      field('tokens', rows, limits.vocabulary - 1),
      field('fed', rows, outputs - 1, -1),
      field('positions', rows, context - 1),
      field('types', rows, Math.max(1, limits.types) - 1),
      field('answerRowStarts', answers + 1, lastRow + 1),
      field('answerLengths', answers, context),
      field('answerTables', answers, pages),
      field('promptRowStarts', sequences + 1, lastRow + 1),
      field('promptLengths', sequences, context),
      field('promptTables', sequences, pages),
      field('outputRows', Math.max(outputs + PADDING, rows), lastRow),
      field('judgedRows', rows + outputs, lastRow),
      ...groups.flatMap((_group, g) => [
        field(`slots${g}`, rows, PAGE_TOKENS * limits.pages[g] - 1, -1),
        field(`table${g}`, pages, limits.pages[g] - 1),
        // Rows of a pass and their splits, in turn.
        field(`items${g}`, 2 * items, Math.max(answers, splits), -1),
        // A pass has one more than rows.
        field(`starts${g}`, 2 * answers, items),
      ]),
    ];
  }

  /** Bytes that a step's numbers take on a GPU. */
  static bytes(capacity: BatchCapacity, groups: readonly LayerGroup[], context: number): number {
    const none = { vocabulary: 1, types: 1, pages: groups.map(() => 1) };
    return StepState.bytes(StepLayout.fields(capacity, groups, context, none));
  }

  /**
   * Write a batch's numbers for the next step.
   * @param padded rows that the launches have, at least those of the batch: what is behind those is computed and not kept
   * @param sized whether lists of splits get a size that many steps have, behind their end too
   */
  compose(batch: Batch, padded: number, sized: boolean): void {
    const { shape } = this;
    this.state.begin();
    this.#place(batch);
    shape.rows = padded;
    shape.sequences = batch.sequences;
    this.#writeRows(batch, padded);
    this.#writeAnswers(batch, padded, sized);
    this.#writePrompts(batch);
    if (this.#needs.pages) this.#writeTables(batch);
  }

  /** Write the numbers of a batch of whole sequences: an encoder's. */
  composeWhole(batch: Batch, { rows, sequences, longest }: WholeSize): void {
    const { shape } = this;
    this.state.begin();
    this.#place(batch);
    shape.rows = rows;
    shape.sequences = sequences;
    shape.passCount = 0;
    this.#writeRows(batch, rows);
    this.#writePrompts(batch, sequences);
    shape.promptRows = longest;
    if (this.#needs.pages) this.#writeTables(batch);
  }

  #writeTables(batch: Batch): void {
    const { state } = this;
    for (let g = 0; g < this.#groups.length; g++) {
      const table = state.words(`table${g}`, batch.pages);
      table.set(batch.pageTables[g].subarray(0, batch.pages));
    }
  }

  /** Rows of logits, in the step's order of rows; up to `padded` of them, to no purpose. */
  writeOutputs(batch: Batch, padded: number): void {
    const { outputs } = batch;
    const words = this.state.words('outputRows', padded);
    for (let o = 0; o < outputs; o++) words[o] = this.placeOf[batch.outputRows[o]];
    words.fill(0, outputs);
    this.shape.outputs = padded;
  }

  /** Rows of targets, and those of outputs behind them: they take their turn in `outputRows`. */
  writeTargets(batch: Batch): void {
    const { targets, outputs } = batch;
    const words = this.state.words('judgedRows', targets + outputs);
    for (let t = 0; t < targets; t++) words[t] = this.placeOf[batch.targetRows[t]];
    for (let o = 0; o < outputs; o++) words[targets + o] = this.placeOf[batch.outputRows[o]];
  }

  /** Let `count` rows from number `at` of those be the rows of logits. */
  turnTo(at: number, count: number, stream: GpuStream): void {
    const { state, shape } = this;
    stream.copy(state.range('outputRows').slice(0, 4 * count), state.range('judgedRows').slice(4 * at, 4 * count));
    shape.outputs = count;
  }

  #place(batch: Batch): void {
    const { shape, placeOf } = this;
    this.#inOrder = batch.answers === 0 || batch.answers === batch.rows;
    if (this.#inOrder) {
      for (let row = 0; row < batch.rows; row++) placeOf[row] = row;
      shape.answers = batch.answers;
      return;
    }
    let answers = 0;
    for (let s = 0; s < batch.sequences; s++) {
      if (batch.answer[s] === 0) continue;
      for (let row = batch.rowStart[s]; row < batch.rowStart[s + 1]; row++) placeOf[row] = answers++;
    }
    let at = answers;
    for (let s = 0; s < batch.sequences; s++) {
      if (batch.answer[s] !== 0) continue;
      for (let row = batch.rowStart[s]; row < batch.rowStart[s + 1]; row++) placeOf[row] = at++;
    }
    shape.answers = answers;
  }

  #writeRows(batch: Batch, padded: number): void {
    const { decoder, positions, types, pages } = this.#needs;
    this.#writeField('tokens', batch.tokens, batch.rows, padded, 0);
    if (decoder) this.#writeField('fed', batch.fed, batch.rows, padded, -1);
    if (positions) this.#writeField('positions', batch.positions, batch.rows, padded, 0);
    if (types) this.#writeField('types', batch.types, batch.rows, padded, 0);
    if (pages) this.#writeSlots(batch, padded);
  }

  /** A number of each row, in the step's order; `rest` behind them. */
  #writeField(name: Field, from: Int32Array, rows: number, padded: number, rest: number): void {
    const { placeOf } = this;
    const words = this.state.words(name, padded);
    if (this.#inOrder) words.set(from.subarray(0, rows));
    else for (let row = 0; row < rows; row++) words[placeOf[row]] = from[row];
    words.fill(rest, rows);
  }

  #writeSlots(batch: Batch, padded: number): void {
    const { state, placeOf } = this;
    for (let g = 0; g < this.#groups.length; g++) {
      const slots = state.words(`slots${g}`, padded);
      const pages = batch.pageTables[g];
      for (let s = 0; s < batch.sequences; s++) {
        for (let row = batch.rowStart[s]; row < batch.rowStart[s + 1]; row++) {
          const position = batch.positions[row];
          const page = pages[batch.pageStart[s] + Math.floor(position / PAGE_TOKENS)];
          slots[placeOf[row]] = page * PAGE_TOKENS + (position % PAGE_TOKENS);
        }
      }
      slots.fill(-1, batch.rows);
    }
  }

  /** Rows of answers: each is a sequence of one row to attention. Behind them as many without items as rows are padded. */
  #writeAnswers(batch: Batch, padded: number, sized: boolean): void {
    const { shape, state } = this;
    shape.passCount = 0;
    if (shape.answers === 0) return;
    // Padding is behind the answers only where there are no prompts.
    const rows = shape.answers === batch.rows ? padded : shape.answers;
    const [lengths, tables] = [state.words('answerLengths', rows), state.words('answerTables', rows)];
    lengths.fill(0, shape.answers);
    tables.fill(0, shape.answers);
    for (let s = 0; s < batch.sequences; s++) {
      if (batch.answer[s] === 0) continue;
      for (let row = batch.rowStart[s]; row < batch.rowStart[s + 1]; row++) {
        const at = this.placeOf[row];
        lengths[at] = batch.positions[row] + 1;
        tables[at] = batch.pageStart[s];
      }
    }
    const rowStarts = state.words('answerRowStarts', rows + 1);
    for (let row = 0; row <= rows; row++) rowStarts[row] = row;
    this.#dividePasses(lengths, rows);
    for (let g = 0; g < this.#groups.length; g++) this.#writeItems(g, lengths, rows, sized);
  }

  /** Passes of as many rows as there is room for. */
  #dividePasses(lengths: Int32Array, rows: number): void {
    const { shape } = this;
    let pass = this.#nextPass(0);
    for (let row = 0; row < rows; row++) {
      let fits = true;
      for (let g = 0; g < this.#groups.length; g++) {
        if (pass.items[g] + this.#itemsOf(g, lengths[row]) > this.#itemsOfPass) fits = false;
      }
      if (!fits) pass = this.#nextPass(row);
      pass.rows++;
      for (let g = 0; g < this.#groups.length; g++) pass.items[g] += this.#itemsOf(g, lengths[row]);
    }
    shape.passes[0].item.fill(0);
    for (let i = 1; i < shape.passCount; i++) {
      const [before, own] = [shape.passes[i - 1], shape.passes[i]];
      for (let g = 0; g < this.#groups.length; g++) own.item[g] = before.item[g] + before.items[g];
    }
  }

  #nextPass(row: number): Pass {
    const { shape } = this;
    const groups = this.#groups.length;
    if (shape.passCount === shape.passes.length) {
      shape.passes.push({ row: 0, rows: 0, item: new Int32Array(groups), items: new Int32Array(groups) });
    }
    const pass = shape.passes[shape.passCount++];
    pass.row = row;
    pass.rows = 0;
    pass.items.fill(0);
    return pass;
  }

  /** Splits of a row that sees so many tokens; see decodeItems in @rose/kernels. */
  #itemsOf(group: number, length: number): number {
    return Math.ceil(length / this.#split) - this.#firstPart(group, length);
  }

  #firstPart(group: number, length: number): number {
    const { window } = this.#groups[group];
    return window === undefined ? 0 : Math.floor(Math.max(0, length - window) / this.#split);
  }

  #writeItems(group: number, lengths: Int32Array, rows: number, sized: boolean): void {
    const { shape, state } = this;
    const last = shape.passes[shape.passCount - 1];
    const total = last.item[group] + last.items[group];
    const room = sized && shape.passCount === 1 ? Math.min(graphSize(total), this.#itemsOfPass) : total;
    const items = state.words(`items${group}`, 2 * room);
    const starts = state.words(`starts${group}`, rows + shape.passCount);
    let at = 0;
    for (let p = 0; p < shape.passCount; p++) {
      const pass = shape.passes[p];
      for (let i = 0; i < pass.rows; i++) {
        starts[pass.row + p + i] = at / 2 - pass.item[group];
        const length = lengths[pass.row + i];
        const end = Math.ceil(length / this.#split);
        for (let part = this.#firstPart(group, length); part < end; part++) {
          items[at++] = i;
          items[at++] = part;
        }
      }
      starts[pass.row + p + pass.rows] = at / 2 - pass.item[group];
    }
    // Items of no sequence are nothing to the kernels.
    items.fill(-1, at);
    if (room > total) last.items[group] = room;
  }

  #writePrompts(batch: Batch, padded = 0): void {
    const { shape, state } = this;
    let prompts = 0;
    for (let s = 0; s < batch.sequences; s++) if (batch.answer[s] === 0) prompts++;
    shape.prompts = Math.max(prompts, padded);
    shape.promptRows = 0;
    if (prompts === 0) return;
    const rowStarts = state.words('promptRowStarts', shape.prompts + 1);
    const lengths = state.words('promptLengths', shape.prompts);
    const tables = this.#needs.pages ? state.words('promptTables', shape.prompts) : undefined;
    let [p, row] = [0, shape.answers];
    for (let s = 0; s < batch.sequences; s++) {
      if (batch.answer[s] !== 0) continue;
      const count = batch.rowStart[s + 1] - batch.rowStart[s];
      rowStarts[p] = row;
      lengths[p] = batch.start[s] + count;
      if (tables !== undefined) tables[p] = batch.pageStart[s];
      p++;
      row += count;
      if (count > shape.promptRows) shape.promptRows = count;
    }
    // Sequences behind the last one have no rows.
    rowStarts.fill(row, prompts);
    lengths.fill(0, prompts);
    tables?.fill(0, prompts);
  }
}
