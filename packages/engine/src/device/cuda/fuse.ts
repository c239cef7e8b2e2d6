import type {
  AttentionOperation,
  CacheOperation,
  EmbedOperation,
  GatherOperation,
  LinearOperation,
  NormalizeOperation,
  NormOperation,
  Operation,
  Plan,
  PoolOperation,
} from '../../plan/plan.ts';
import type { QuantiseOperation } from './narrow.ts';
import type { Activation, ModelSpec } from '../../model/spec.ts';

/** What one launch, or one kind of attention, does of a plan. Buffers are those that the launch really reads and writes. */
export type FusedOperation =
  | EmbedOperation
  | FusedNorm
  | FusedLinear
  | QuantiseOperation
  | CacheOperation
  | AttentionOperation
  | GatherOperation
  | PoolOperation
  | NormalizeOperation;

/** output = norm(input + add). */
export interface FusedNorm extends NormOperation {
  readonly sum: undefined;
  /** output is NARROW, e4m3 with scales of rows or of groups. */
  readonly scales?: 'row' | 'group';
}

export interface FusedLinear extends Omit<LinearOperation, 'input' | 'output'> {
  readonly input: string;
  /** One buffer, or where queries, keys and values go each by itself. */
  readonly output: string | readonly [string, string, string];
  /** output = gate(first half) * second half; the weights' rows are interleaved. */
  readonly gate: Activation | undefined;
  /** Added to the product. */
  readonly residual: string | undefined;
  /** Whether its depth is what tensor parallelism divides, and so has leaves (`leavesOf`). */
  readonly sharded: boolean;
}

/**
 * A plan's operations as the GPU does them: a gate, an activation and the residual's addition belong to the product before
 * them. The residual stream changes sides with each addition, because a product cannot add to what other CTAs still read:
 * it lies in `x` and `delta` by turns.
 *
 * Where blocks norm afterwards (BERT), nothing but the norm wants the sum: the norm adds, which costs it one read, while a
 * product that loads a residual cannot hide that. There the stream lies in `x` and `h` by turns. Such models are small, and
 * are not divided among GPUs: their products have one leaf.
 */
export function fuse(plan: Plan, spec: ModelSpec): FusedOperation[] {
  const fused: FusedOperation[] = [];
  /** Where the buffers `x` and `delta` of the plan lie. */
  const place = new Map([
    ['x', 'x'],
    ['delta', 'delta'],
  ]);
  const at = (name: string): string => place.get(name) ?? name;
  const { operations } = plan;
  for (let i = 0; i < operations.length; i++) {
    const operation = operations[i];
    switch (operation.kind) {
      case 'linear': {
        const next: Operation | undefined = operations[i + 1];
        const { input } = operation;
        if (next?.kind === 'gate' && next.input === operation.output) {
          fused.push({
            ...operation,
            input: at(input),
            output: next.output,
            gate: next.activation,
            ...ALONE,
          });
          i++;
        } else if (next?.kind === 'norm' && next.add === operation.output && !addsItself(next)) {
          const [residual, output] = [at(next.input), at(operation.output)];
          fused.push({ ...operation, input: at(input), output, gate: undefined, residual, sharded: true });
        } else if (next?.kind === 'cache' && splits(next, spec)) {
          fused.push({ ...operation, input: at(input), output: SPLIT_OUTPUT, gate: undefined, ...ALONE });
        } else {
          fused.push({
            ...operation,
            input: at(input),
            output: at(operation.output),
            gate: undefined,
            ...ALONE,
          });
        }
        break;
      }
      case 'norm': {
        const { add, sum } = operation;
        if (addsItself(operation)) {
          const stream = at(operation.input);
          const other = stream === 'x' ? 'h' : 'x';
          fused.push({ ...operation, sum: undefined, input: at(operation.add), add: stream, output: other });
          place.set(operation.output, other);
          break;
        }
        const input = normsItself(operation) ? 'delta' : at(add ?? operation.input);
        if (add !== undefined && sum !== undefined) {
          place.set(add, at(sum));
          place.set(sum, input);
        }
        fused.push({ ...operation, add: undefined, sum: undefined, input, output: at(operation.output) });
        break;
      }
      case 'cache':
        if (!splits(operation, spec)) fused.push(operation);
        break;
      case 'gate':
      case 'sample':
        break;
      case 'embed':
        // A norm does not write where it reads.
        fused.push({
          ...operation,
          output: i + 1 < operations.length && normsItself(operations[i + 1]) ? 'delta' : at(operation.output),
        });
        break;
      case 'gather':
      case 'pool':
        fused.push({ ...operation, input: at(operation.input) });
        break;
      case 'attention':
      case 'normalize':
        fused.push(operation);
    }
  }
  return fused;
}

/** Number of the operation from which on rows are those of outputs or of sequences. */
export function headOf(operations: readonly FusedOperation[]): number {
  return operations.findIndex(({ kind }) => kind === 'gather' || kind === 'pool');
}

/** Where vectors of length 1 go: no row is written where it is read. */
export const UNIT = 'unit';

/** The buffer that comes to the host. */
export function resultOf(plan: Plan): string {
  return plan.operations.some(({ kind }) => kind === 'normalize') ? UNIT : plan.result;
}

/** A product to which nothing is added. */
const ALONE = { residual: undefined, sharded: false } as const;

const SPLIT_OUTPUT: readonly [string, string, string] = ['q', 'keys', 'values'];

/** Encoders keep nothing: where keys are not turned or normed either, the product writes them where attention reads them. */
export function splits({ rope, qkNorm }: Pick<CacheOperation, 'rope' | 'qkNorm'>, spec: ModelSpec): boolean {
  return spec.head.kind !== 'logits' && rope === undefined && qkNorm === undefined;
}

/** The norm of the embedding, in the residual stream's own buffer. */
function normsItself(operation: Operation): boolean {
  return operation.kind === 'norm' && operation.add === undefined && operation.input === operation.output;
}

/** The norm behind a block's part, in the residual stream's place. */
function addsItself(operation: NormOperation): operation is NormOperation & { readonly add: string } {
  return operation.add !== undefined && operation.input === operation.output;
}
