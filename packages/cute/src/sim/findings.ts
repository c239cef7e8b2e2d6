import { formatPosition } from '../ir/ir.ts';
import type { Finding, FindingKind, FindingPlace } from './api.ts';

/** Collects findings; those of the same kind at the same lines are one. */
export class Findings {
  readonly list: Finding[] = [];
  /** Nothing more is worth running: the grid was ended by a trap, or too much is wrong. */
  stopped: boolean = false;
  private readonly known = new Map<string, Finding>();
  private readonly most: number;

  constructor(most: number) {
    this.most = most;
  }

  /**
   * @param problem what is wrong, and what to do, without the places
   * @param key what tells findings of the same place apart, besides kind and lines
   */
  add(kind: FindingKind, problem: string, places: readonly FindingPlace[], key: string = ''): void {
    const where = places.map(({ position }) => (position ? formatPosition(position) : '?')).join('|');
    const name = `${kind}|${where}|${key}`;
    const before = this.known.get(name);
    if (before) {
      before.count++;
      return;
    }
    if (this.list.length >= this.most) {
      if (!this.stopped) {
        const message = `more than ${this.most} different findings: the simulation stopped here`;
        this.list.push({ kind: 'limit', message, places: [], count: 1 });
      }
      this.stopped = true;
      return;
    }
    const message = [problem, ...places.map((place) => `  ${describePlace(place)}`)].join('\n');
    const finding: Finding = { kind, message, places, count: 1 };
    this.known.set(name, finding);
    this.list.push(finding);
  }
}

function describePlace({ what, position, thread, cta }: FindingPlace): string {
  const who = thread ? ` by thread (${thread.join(', ')})${cta ? ` of CTA (${cta.join(', ')})` : ''}` : '';
  return `${what}${who}${position ? ` at ${formatPosition(position)}` : ''}`;
}
