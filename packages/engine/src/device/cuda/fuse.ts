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
import type { Activation, ModelSpec } from '../../model/spec.ts';

/** What one launch, or one kind of attention, does of a plan. Buffers are those that the launch really reads and writes. */
export type FusedOperation =
  | EmbedOperation
  | (NormOperation & { readonly add: undefined; readonly sum: undefined })
  | FusedLinear
  | CacheOperation
  | AttentionOperation
  | GatherOperation
  | PoolOperation
  | NormalizeOperation;

export interface FusedLinear extends Omit<LinearOperation, 'input' | 'output'> {
  readonly input: string;
  /** One buffer, or where queries, keys and values go each by itself. */
  readonly output: string | readonly [string, string, string];
  /** output = gate(first half) * second half; the weights' rows are interleaved. */
  readonly gate: Activation | undefined;
  /** Added to the product. */
  readonly residual: string | undefined;
}

/**
 * A plan's operations as the GPU does them: a gate, an activation and the residual's addition belong to the product before
 * them. The residual stream changes sides with each addition, because a product cannot add to what other CTAs still read:
 * it lies in `x` and `delta` by turns.
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
            residual: undefined,
          });
          i++;
        } else if (next?.kind === 'norm' && next.add === operation.output) {
          const [residual, output] = [at(next.input), at(operation.output)];
          fused.push({ ...operation, input: at(input), output, gate: undefined, residual });
        } else if (next?.kind === 'cache' && splits(next, spec)) {
          fused.push({ ...operation, input: at(input), output: SPLIT_OUTPUT, gate: undefined, residual: undefined });
        } else {
          fused.push({
            ...operation,
            input: at(input),
            output: at(operation.output),
            gate: undefined,
            residual: undefined,
          });
        }
        break;
      }
      case 'norm': {
        const { add, sum } = operation;
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

/** Where vectors of length 1 go: no row is written where it is read. */
export const UNIT = 'unit';

/** The buffer that comes to the host. */
export function resultOf(plan: Plan): string {
  return plan.operations.some(({ kind }) => kind === 'normalize') ? UNIT : plan.result;
}

const SPLIT_OUTPUT: readonly [string, string, string] = ['q', 'keys', 'values'];

/** Encoders keep nothing: where keys are not turned or normed either, the product writes them where attention reads them. */
export function splits({ rope, qkNorm }: Pick<CacheOperation, 'rope' | 'qkNorm'>, spec: ModelSpec): boolean {
  return spec.head.kind !== 'logits' && rope === undefined && qkNorm === undefined;
}

/** The norm of the embedding, in the residual stream's own buffer. */
function normsItself(operation: Operation): boolean {
  return operation.kind === 'norm' && operation.add === undefined && operation.input === operation.output;
}
