import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LiveSample } from './live.ts';

/** Resident bytes of each process at a second of the soak. */
export interface ResidentSample {
  readonly second: number;
  readonly bytes: Readonly<Record<string, number>>;
}

/** What a series of samples says: medians of the first and of the last third after the warm-up, in bytes. */
export interface Growth {
  readonly what: string;
  readonly before: number;
  readonly after: number;
  /** More than this is a finding. */
  readonly most: number;
}

/** Of the time, before memory is looked at: caches and heaps fill. */
const WARM_UP = 0.3;
/**
 * What is live may grow by so much from the first third to the last: what requests under way hold varies. A leak of 2 KiB
 * a request is more than that in ten minutes.
 */
const MOST_LIVE_GROWTH = 4 * 2 ** 20;
/**
 * Resident memory is live memory and what collectors and the allocator keep for later, which is more after a burst than
 * before it. It may vary by so much.
 */
const MOST_RESIDENT_GROWTH = 0.15;

/** Where the threads of a server under soak write what they have live. */
export class LiveFile {
  readonly path: string;
  readonly #directory = mkdtempSync(join(tmpdir(), 'rose-soak-'));

  constructor() {
    this.path = join(this.#directory, 'live.jsonl');
  }

  read(): LiveSample[] {
    if (!existsSync(this.path)) return [];
    const lines = readFileSync(this.path, 'utf8').split('\n').filter(Boolean);
    return lines.map((line) => JSON.parse(line) as LiveSample);
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true });
  }
}

/** Objects, and memory outside of the heap, that each process has live; the sums over its threads. */
export function liveGrowth(samples: readonly LiveSample[], start: number, seconds: number): Growth[] {
  const growths: Growth[] = [];
  for (const process of new Set(samples.map((sample) => sample.process))) {
    for (const kind of ['heap', 'external'] as const) {
      let [before, after] = [0, 0];
      const own = samples.filter((sample) => sample.process === process);
      for (const thread of new Set(own.map((sample) => sample.thread))) {
        const series = own
          .filter((sample) => sample.thread === thread)
          .map((sample) => ({ second: (sample.at - start) / 1000, value: sample[kind] }));
        const [first, last] = medians(series, seconds);
        before += first;
        after += last;
      }
      growths.push({ what: `${process}, ${kind}, live`, before, after, most: before + MOST_LIVE_GROWTH });
    }
  }
  return growths;
}

export function residentGrowth(samples: readonly ResidentSample[], seconds: number): Growth[] {
  return Object.keys(samples.at(-1)?.bytes ?? {}).map((name) => {
    const series = samples.map(({ second, bytes }) => ({ second, value: bytes[name] ?? 0 }));
    const [before, after] = medians(series, seconds);
    return { what: `${name}, resident`, before, after, most: (1 + MOST_RESIDENT_GROWTH) * before };
  });
}

function medians(series: readonly { second: number; value: number }[], seconds: number): [number, number] {
  const rest = series.filter(({ second }) => second >= WARM_UP * seconds).map(({ value }) => value);
  const third = Math.floor(rest.length / 3);
  const middle = (part: number[]): number => part.toSorted((a, b) => a - b)[part.length >> 1] ?? 0;
  // A thread that began or ended in between has too few samples to compare: it counts as the same throughout.
  if (third === 0) return [middle(rest), middle(rest)];
  return [middle(rest.slice(0, third)), middle(rest.slice(-third))];
}
