import type { OpenProgress } from '@rose/engine';
import { bytes, say, statusLine, type StatusLine } from './output.ts';
import { bar } from './progress.ts';

/** What a start has told so far: shown as it comes, and kept for the lines at its end. */
export class StartProgress {
  readonly status: StatusLine = statusLine();
  /** Milliseconds since the epoch, and what was done then. */
  readonly #phases: { readonly at: number; readonly name: string }[] = [
    { at: performance.timeOrigin, name: 'process started' },
  ];
  readonly #weights = new Map<string, { readonly began: number; bytes: number; ended: number }>();
  readonly #seconds = new Map<string, number>();

  readonly onProgress = (event: OpenProgress): void => {
    if (event.kind === 'weights') this.#read(event.model, event.bytes, event.totalBytes);
    else if (event.kind === 'phase') {
      const of = event.model === undefined ? '' : ` (${event.model})`;
      this.#phases.push({ at: event.phase.at, name: `${event.phase.name}${of}` });
    } else {
      this.status.clear();
      if (event.kind === 'device') say(`device: ${event.description}`);
      else this.#seconds.set(event.model, event.milliseconds / 1000);
    }
  };

  /** Now, something that the command itself does is done. */
  mark(name: string): void {
    this.#phases.push({ at: performance.timeOrigin + performance.now(), name });
  }

  /** `ready in 1.23 s, weights read at 4.5 GB/s`. */
  summary(model: string): string {
    const read = this.#weights.get(model);
    // Of a small model the figure would be that of the clock.
    const known = read !== undefined && read.ended - read.began > 100;
    const rate = known ? `, weights read at ${gigabytes(read.bytes, read.ended - read.began)}` : '';
    return `ready in ${(this.#seconds.get(model) ?? 0).toFixed(2)} s${rate}`;
  }

  /** A line for each part of the start: when it was done, in milliseconds since the process began, and how long after the one before. */
  timeline(): string {
    const phases = this.#phases.toSorted((a, b) => a.at - b.at);
    const begin = performance.timeOrigin;
    const lines = phases.map(({ at, name }, i) => {
      const since = (at - begin).toFixed(0).padStart(7);
      const step = i === 0 ? '' : `+${(at - phases[i - 1].at).toFixed(0)}`;
      return `${since} ${step.padStart(7)}  ${name}`;
    });
    return ['timeline in ms since the process began', ...lines].join('\n');
  }

  #read(model: string, have: number, total: number): void {
    const now = performance.now();
    let read = this.#weights.get(model);
    if (read === undefined) {
      read = { began: now, bytes: have, ended: now };
      this.#weights.set(model, read);
    }
    Object.assign(read, { bytes: have, ended: now });
    const rate = now > read.began ? `, ${gigabytes(have, now - read.began)}` : '';
    this.status.show(`${bar(have / total)} loading ${model}: ${bytes(have)} of ${bytes(total)}${rate}`);
  }
}

function gigabytes(count: number, milliseconds: number): string {
  return `${(count / milliseconds / 1e6).toFixed(1)} GB/s`;
}
