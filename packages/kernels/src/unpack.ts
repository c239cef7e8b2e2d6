import { atomicUpdate, bid, bidY, gdim, max, min, range, tid, type i32, type KernelIR, type Tensor } from '@rose/cute';
import { bytesOf } from './support/storage.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, input, integers, updated, values, type Dims, type Fill, type KernelModule } from './spec.ts';

const THREADS = 256;
/** Words of a segment's description. */
export const SEGMENT_WORDS = 5;

/**
 * Spreads one packed block over the places where a step's numbers belong. The block begins with five words for each
 * segment: where in the block it begins, where in `y`, how many words it has, and the least and the greatest that they may be.
 * So a step's tokens, positions, page tables... cross to the device in one copy, as long as they are, and stand at places that
 * never change.
 *
 * What is out of its range would have other kernels read beyond a table: the least takes its place, and
 * faults[segment] becomes 1 + the word's number in the segment (of several, the last one's), if it was less. `faults` may be memory of
 * the host.
 */
const unpack: KernelModule = defineKernel({
  name: 'unpack',
  summary:
    'y[to + i] = block[from + i], or least where it is not in [least, greatest], for i < count, for each segment',
  dims: {
    words: 'words of the block',
    capacity: 'words of y',
    segments: 'segments of the block',
  },
  choose: () => ({}),
  args: argumentsOf,
  trace: ({ dims }) => record(dims),
  grid: ({ dims: { words, segments } }) => [Math.min(64, Math.ceil(words / segments / THREADS)), segments, 1],
  reference: ({ block, y, faults }, { segments }) => {
    const out = y.slice();
    const found = faults.slice();
    for (let s = 0; s < segments; s++) {
      const [from, to, count, least, greatest] = block.subarray(SEGMENT_WORDS * s, SEGMENT_WORDS * (s + 1));
      for (let i = 0; i < count; i++) {
        const given = block[from + i];
        const fits = given >= least && given <= greatest;
        out[to + i] = fits ? given : least;
        if (!fits) found[s] = Math.max(found[s], i + 1);
      }
    }
    return { y: out, faults: found };
  },
  roofline: ({ words }) => ({ bytes: bytesOf('i32', 2 * words), flops: 0 }),
  cases: [
    { dims: { words: 40, capacity: 64, segments: 1 } },
    { dims: { words: 3000, capacity: 5000, segments: 7 } },
    { dims: { words: 2 ** 20, capacity: 2 ** 21, segments: 12 }, large: true },
  ],
});

export default unpack;

function argumentsOf(dims: Dims) {
  return {
    block: input('i32', [dims.words], packed(dims)),
    y: updated('i32', [dims.capacity], undefined, integers(1000)),
    faults: updated('i32', [dims.segments], undefined, values(Array.from({ length: dims.segments }, () => 0))),
  };
}

/** Segments of different lengths, none where another lies; one has no words, and every third has one that is out of its range. */
function packed({ words, capacity, segments }: Dims): Fill {
  return (random, length) => {
    const block = integers(2 ** 20)(random, length);
    const header = SEGMENT_WORDS * segments;
    const room = Math.floor((words - header) / segments);
    const apart = Math.floor(capacity / segments);
    for (let s = 0; s < segments; s++) {
      const count = segments > 1 && s === segments - 2 ? 0 : Math.max(0, room - s);
      const from = header + s * room;
      block.set([from, s * apart, count, -1, 2 ** 20 - 1], SEGMENT_WORDS * s);
      if (s % 3 === 0 && count > 0) block[from + random.integer(count)] = s % 2 === 0 ? -2 : 2 ** 20;
    }
    return block;
  };
}

interface Tensors {
  readonly block: Tensor;
  readonly y: Tensor;
  readonly faults: Tensor;
}

function record(dims: Dims): KernelIR {
  return traceKernel('unpack', argumentsOf(dims), THREADS, (t: Tensors) => {
    'use gpu';
    const segment = bidY();
    const word = (at: i32): i32 => {
      'use gpu';
      return t.block[segment * SEGMENT_WORDS + at];
    };
    const [from, to, count, least, greatest] = [word(0), word(1), word(2), word(3), word(4)];
    for (const i of range(bid() * THREADS + tid(), count, gdim() * THREADS)) {
      const given = t.block[from + i];
      const fits = min(max(given, least), greatest) === given;
      t.y[to + i] = fits ? given : least;
      if (!fits) atomicUpdate(t.faults(segment), 'max', i + 1);
    }
  });
}
