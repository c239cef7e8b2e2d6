import { formatPosition, type Position } from './ir.ts';

/** What is wrong with a kernel, where, and what to do about it. */
export class KernelError extends Error {
  readonly position: Position | undefined;

  constructor(message: string, position?: Position) {
    super(position ? `${message}\n  at ${formatPosition(position)}` : message);
    this.name = 'KernelError';
    this.position = position;
  }
}
