import type { InstructionForm } from './form.ts';
import { ASYNC_FORMS } from './forms-async.ts';
import { CLUSTER_FORMS } from './forms-cluster.ts';
import { MATRIX_FORMS } from './forms-matrix.ts';
import { TCGEN05_FORMS } from './forms-tcgen05.ts';

/**
 * Every form of the asynchronous, cluster and matrix instructions that Rose writes. The tests build a kernel around
 * each of them and assemble it; the rows of `ir/ops-async.ts` and `ir/ops-matrix.ts` state the PTX ISA version and the
 * architecture that a form needs.
 */
export const INSTRUCTIONS: readonly InstructionForm[] = [
  ...ASYNC_FORMS,
  ...CLUSTER_FORMS,
  ...MATRIX_FORMS,
  ...TCGEN05_FORMS,
];
