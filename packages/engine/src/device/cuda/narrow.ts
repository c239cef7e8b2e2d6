import { FP8_GROUP, scalePitch } from '@rose/kernels';
import type { CudaBuffer } from './buffers.ts';
import type { FusedOperation } from './fuse.ts';
import type { MatrixGroup } from './matrix-groups.ts';

/** Where the input of a product of e4m3 lies, a byte an element, and its scales: of rows, or [groups, pitch]. */
export const NARROW = 'narrow';
export const NARROW_SCALES = 'narrowScales';

/** What has a scale: each row, each 128 elements of it, or all of it, by a scale that the checkpoint has. */
export type NarrowInput = 'row' | 'group' | 'tensor';

/** NARROW = e4m3 of input / scale. */
export interface QuantiseOperation {
  readonly kind: 'quantise';
  readonly input: string;
  readonly width: number;
  readonly scales: NarrowInput;
  /** The matrix that it is multiplied with, whose the stored scale is. */
  readonly weights: readonly string[];
}

/**
 * The operations with inputs of e4m3 for products with such matrices: from the norm before, where its output is for
 * nothing else and its scales follow from the values, or else by a launch of its own.
 */
export function narrowInputs(operations: readonly FusedOperation[], groups: readonly MatrixGroup[]): FusedOperation[] {
  const byKey = new Map(groups.map((group) => [group.key, group]));
  const all: FusedOperation[] = [];
  operations.forEach((operation, i) => {
    const group = operation.kind === 'linear' ? byKey.get(operation.weights.join('+')) : undefined;
    if (operation.kind !== 'linear' || group === undefined || group.format === 'same') {
      all.push(operation);
      return;
    }
    const { input, weights } = operation;
    const scales = group.stored ? 'tensor' : group.format === 'block' ? 'group' : 'row';
    const before = all.at(-1);
    const fused =
      before?.kind === 'norm' &&
      before.norm.kind === 'rms' &&
      before.output === input &&
      scales !== 'tensor' &&
      !readAgain(operations.slice(i + 1), input);
    if (fused) all[all.length - 1] = { ...before, output: NARROW, scales };
    else all.push({ kind: 'quantise', input, width: group.inputs, scales, weights });
    all.push({ ...operation, input: NARROW });
  });
  return all;
}

/** Whether a buffer is read before it is written. */
function readAgain(operations: readonly FusedOperation[], name: string): boolean {
  for (const operation of operations) {
    const reads = 'input' in operation && operation.input === name;
    const adds =
      ('residual' in operation && operation.residual === name) || ('add' in operation && operation.add === name);
    if (reads || adds) return true;
    if ('output' in operation && [operation.output].flat().includes(name)) return false;
  }
  return false;
}

/** Their buffers, for steps of up to `rows` rows. */
export function narrowBuffers(groups: readonly MatrixGroup[], rows: number): CudaBuffer[] {
  const depth = Math.max(0, ...groups.flatMap(({ format, inputs }) => (format === 'same' ? [] : [inputs])));
  const once = { rows: 'once' } as const;
  return [
    { name: NARROW, width: rows * depth, element: 1, ...once },
    { name: NARROW_SCALES, width: scalePitch(rows) * Math.ceil(depth / FP8_GROUP), element: 4, ...once },
  ];
}
