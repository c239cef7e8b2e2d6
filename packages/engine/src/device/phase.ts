/** A part of a start that is done. */
export interface Phase {
  readonly name: string;
  /** Milliseconds since the epoch, with fractions: clocks of several processes agree on it. */
  readonly at: number;
}

/** Told of a part that is done just now. */
export type OnPhase = (name: string) => void;

/** Milliseconds since the epoch, which no change of the machine's clock moves while the process lives. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}
