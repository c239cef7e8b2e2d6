import type { Checkpoint, CheckpointTensor } from '../../checkpoint/checkpoint.ts';
import { RoseError } from '../../errors.ts';
import type { LinearOperation, Plan } from '../../plan/plan.ts';
import type { CudaFormats } from './options.ts';

/** How a matrix is held: in the model's type, or as e4m3 with a scale for each row, or for each 128 x 128 elements. */
export type MatrixFormat = 'same' | 'row' | 'block';

/** Rows that a gate's epilogue takes together: `interleaveGate`'s. */
export const GATE_ROWS = 8;
/** Rows and columns of a block that has a scale. */
export const BLOCK = 128;

/** The linear operations whose outputs a gate takes, which the product's epilogue then does. */
export function gatedLinears(plan: Plan): ReadonlySet<LinearOperation> {
  const gated = new Set<LinearOperation>();
  plan.operations.forEach((operation, i) => {
    const next = plan.operations[i + 1];
    if (operation.kind === 'linear' && next?.kind === 'gate' && next.input === operation.output) gated.add(operation);
  });
  return gated;
}

/** A matrix of the plan: what it is made of, and how it is held. */
export interface MatrixGroup {
  readonly key: string;
  /** [outputs, inputs] each. */
  readonly parts: readonly CheckpointTensor[];
  readonly biases: readonly CheckpointTensor[];
  /** The table that is this matrix, too. */
  readonly shared: string | undefined;
  readonly outputs: number;
  readonly inputs: number;
  readonly interleaved: boolean;
  readonly format: MatrixFormat;
  /** Whether the checkpoint has the scale of what is multiplied with it. */
  readonly stored: boolean;
}

/** Every matrix of the plan with the tensors it is made of. */
export function matrixGroups(checkpoint: Checkpoint, plan: Plan, formats: CudaFormats): MatrixGroup[] {
  const byName = new Map(checkpoint.tensors.map((tensor) => [tensor.parameter.name, tensor]));
  const gated = gatedLinears(plan);
  return plan.operations
    .filter((operation) => operation.kind === 'linear')
    .map((operation) => {
      // A tied output matrix is the table of token embeddings, which has no `.weight` of its own.
      const parts = operation.weights.map((name) => byName.get(`${name}.weight`) ?? byName.get(name)!);
      const [{ parameter }] = parts;
      const interleaved = gated.has(operation) && parameter.shape[0] % GATE_ROWS === 0;
      const key = operation.weights.join('+');
      const format = formatOf(key, parts, gated.has(operation), formats);
      return {
        key,
        parts,
        biases: operation.bias ? operation.weights.map((name) => byName.get(`${name}.bias`)!) : [],
        shared: parameter.kind === 'table' ? parameter.name : undefined,
        outputs: parts.reduce((sum, part) => sum + part.parameter.shape[0], 0),
        inputs: parameter.shape[1],
        interleaved,
        format,
        stored: format !== 'same' && parts[0].fp8?.input !== undefined,
      };
    });
}

/**
 * Matrices of e4m3 stay so where activations have 16 bits; those of blocks become so on request: embeddings and heads have few
 * products for what they decide.
 * @throws RoseError `unsupported` where matrices that are one product cannot be
 */
function formatOf(
  key: string,
  parts: readonly CheckpointTensor[],
  gated: boolean,
  { type, quantize }: CudaFormats,
): MatrixFormat {
  const narrow = parts.filter(({ fp8 }) => fp8 !== undefined);
  if (narrow.length === 0 || type === 'f32') return quantize && key.startsWith('blocks.') ? 'row' : 'same';
  const name = (tensors: readonly CheckpointTensor[]): string => tensors.map(({ tensorName }) => tensorName).join(', ');
  if (narrow.length < parts.length) {
    const rest = parts.filter(({ fp8 }) => fp8 === undefined);
    throw unsupported(`${name(narrow)} and ${name(rest)} are one product, and only a part of it is e4m3`);
  }
  if (narrow[0].fp8!.kind !== 'block') return 'row';
  // Gates and values have their blocks apart.
  const cut = gated ? [] : parts.slice(0, -1).filter(({ parameter }) => parameter.shape[0] % BLOCK !== 0);
  if (cut.length > 0)
    throw unsupported(`${name(cut)}: its rows are no whole blocks of ${BLOCK}, and others stand below them`);
  return 'block';
}

function unsupported(message: string): RoseError {
  return new RoseError('unsupported', `${message}: --device cpu or --dtype f32 widens such weights`);
}
