export const DIRECTIVE = 'use gpu';

/** Whether the transform has to look at a file at all. */
export function mayHaveKernels(code: string): boolean {
  return code.includes(DIRECTIVE);
}
