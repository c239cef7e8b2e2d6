import { cpAsyncArrive } from '../atoms/async-copy.ts';
import { mbarriers, type MBarrier, type MBarriers } from '../atoms/barrier.ts';
import { combine, compare, newSlot, readSlot, select, writeSlot, type Int } from '../atoms/record.ts';

/**
 * A ring of stages in shared memory between threads that fill them and threads that use them. Each stage has two
 * barriers: `full` completes when the data is there, `empty` when everybody has used it. Who runs around the ring keeps
 * a stage number and a phase bit that flips each time round.
 */
export interface RingOptions {
  readonly stages: number;
  /**
   * Who fills a stage. `tma`: one thread expects bytes and starts copies that report to the barrier. `cp.async`: that
   * many threads copy, and each one's copies arrive. `tcgen05`: one thread multiplies into it (a stage is columns of tensor
   * memory), and `tcgen05Commit` tells the barrier. `threads`: that many threads write and arrive at the barrier.
   */
  readonly producer:
    | { readonly kind: 'tma' | 'tcgen05' }
    | { readonly kind: 'cp.async' | 'threads'; readonly threads: number };
  /** How many arrivals release a stage: those who call `release`. */
  readonly consumers: number;
  /**
   * CTAs of the cluster, where the TMA copies of each also fill the stages of the others (multicast): a stage is empty
   * when the consumers of all of them have used it. Default 1. All threads meet in `clusterSync` behind `init`, and each
   * producer ends with `drain`.
   */
  readonly ctas?: number;
  /** Rank of the first of them in the cluster, where it has others, too. Default 0. */
  readonly first?: Int;
  /** `cluster`: other CTAs, too, fill stages or release them, as two whose tensor cores work together do. Default `cta`. */
  readonly scope?: 'cta' | 'cluster';
}

/** A stage that is being filled. */
export interface FilledStage {
  readonly index: Int;
  /** Where TMA, bulk copies and tcgen05Commit report. */
  readonly barrier: MBarrier;
  /** `tma`: so many bytes will come. */
  expect(bytes: Int): void;
  /** `cp.async`: this thread has started its copies. */
  copied(): void;
}

/** A stage that is being used. */
export interface UsedStage {
  readonly index: Int;
  /** Where tcgen05Commit says that products have read it, instead of `release`. */
  readonly barrier: MBarrier;
  /** It may be filled again, as far as this arrival is concerned. */
  release(): void;
}

/** How who fills a stage tells its barrier. */
const TELLS: Readonly<Record<RingOptions['producer']['kind'], string>> = {
  tma: 'expect(bytes)',
  'cp.async': 'copied()',
  threads: 'barrier.arrive()',
  tcgen05: 'tcgen05Commit(barrier)',
};

function wrongCount(kind: keyof typeof TELLS): TypeError {
  return new TypeError(`a ring whose producer is ${kind} counts otherwise: call ${TELLS[kind]}`);
}

/** Stage number and phase bit of somebody who goes around a ring. */
export class Cursor {
  private readonly stages: number;
  private readonly index = newSlot('i32', 'stage');
  private readonly phase = newSlot('u32', 'phase');

  constructor(stages: number, phase: number) {
    this.stages = stages;
    writeSlot(this.index, 0);
    writeSlot(this.phase, phase);
  }

  /** Where it is, and goes on to the next stage. */
  next(): { index: Int; phase: Int } {
    const index = readSlot(this.index);
    const phase = readSlot(this.phase);
    const after = combine('add', index, 1);
    const around = compare('eq', after, this.stages);
    writeSlot(this.index, select(around, 0, after));
    writeSlot(this.phase, select(around, combine('xor', phase, 1), phase));
    return { index, phase };
  }
}

/** Goes around a ring and fills its stages, in their order. */
export class Producer {
  private readonly ring: Ring;
  private readonly cursor: Cursor;

  constructor(ring: Ring) {
    this.ring = ring;
    // The stages are empty at first: waiting for the phase before the first one returns at once.
    this.cursor = new Cursor(ring.options.stages, 1);
  }

  /** Waits until the next stage is empty. */
  acquire(): FilledStage {
    const { index, phase } = this.cursor.next();
    this.ring.empty.at(index).wait(phase, this.ring.ctas > 1 ? { scope: 'cluster' } : this.ring.scope);
    const barrier = this.ring.full.at(index);
    const { kind } = this.ring.options.producer;
    return {
      index,
      barrier,
      expect: (bytes) => {
        if (kind !== 'tma') throw wrongCount(kind);
        barrier.expect(bytes);
      },
      copied: () => {
        if (kind !== 'cp.async') throw wrongCount(kind);
        cpAsyncArrive(barrier);
      },
    };
  }

  /** Waits until every stage was used: other CTAs then no longer arrive at this one's barriers, and it may end. */
  drain(): void {
    for (let i = 0; i < this.ring.options.stages; i++) this.acquire();
  }
}

/** Goes around a ring and uses its stages, in their order. */
export class Consumer {
  private readonly ring: Ring;
  private readonly cursor: Cursor;
  private trailing: Cursor | undefined;

  constructor(ring: Ring) {
    this.ring = ring;
    this.cursor = new Cursor(ring.options.stages, 0);
  }

  /** Before the first `wait` of who releases stages later than the next one: `oldest` then gives them in their order. */
  lag(): this {
    this.trailing = new Cursor(this.ring.options.stages, 0);
    return this;
  }

  /** Waits until the next stage is full. */
  wait(): UsedStage {
    const { index, phase } = this.cursor.next();
    this.ring.full.at(index).wait(phase, this.ring.scope);
    return this.stage(index);
  }

  /** The stage that was waited for longest ago and not given by this yet; after `lag`. */
  oldest(): UsedStage {
    if (!this.trailing) throw new TypeError('a consumer that releases stages later calls lag() first');
    return this.stage(this.trailing.next().index);
  }

  private stage(index: Int): UsedStage {
    const empty = this.ring.empty.at(index);
    return {
      index,
      barrier: empty,
      release: () => {
        if (this.ring.ctas === 1) return empty.arrive();
        for (let i = 0; i < this.ring.ctas; i++) empty.on(this.ring.rank(i)).arrive(1, { scope: 'cta' });
      },
    };
  }
}

/** The barriers of a ring, in shared memory. Throws RangeError for numbers of stages, arrivals or CTAs that cannot be. */
export class Ring {
  readonly options: RingOptions;
  readonly full: MBarriers;
  readonly empty: MBarriers;
  readonly ctas: number;
  /** Of its waits. */
  readonly scope: { readonly scope?: 'cluster' };

  constructor(options: RingOptions) {
    const { stages, consumers, producer, ctas = 1, scope = 'cta' } = options;
    if (!Number.isInteger(stages) || stages < 1) throw new RangeError(`a ring has at least one stage, not ${stages}`);
    if (consumers < 1 || ('threads' in producer && producer.threads < 1)) {
      throw new RangeError('a ring has at least one arrival on each side');
    }
    if (!Number.isInteger(ctas) || ctas < 1 || ctas > 16)
      throw new RangeError(`a cluster has 1 to 16 CTAs, not ${ctas}`);
    this.options = options;
    this.ctas = ctas;
    this.scope = scope === 'cluster' ? { scope } : {};
    this.full = mbarriers(stages, 'full');
    this.empty = mbarriers(stages, 'empty');
  }

  /** One thread calls it; then `fenceBarrierInit()` and a barrier of all who use the ring. */
  init(): void {
    const { producer, consumers } = this.options;
    this.full.init('threads' in producer ? producer.threads : 1);
    this.empty.init(consumers * this.ctas);
  }

  /** Rank in the cluster of the CTA with this number. */
  rank(number: number): Int {
    const { first } = this.options;
    return first === undefined ? number : combine('add', first, number);
  }

  /** The side that fills; each thread or warp that does so has its own. */
  producer(): Producer {
    return new Producer(this);
  }

  /** The side that uses. */
  consumer(): Consumer {
    return new Consumer(this);
  }
}
