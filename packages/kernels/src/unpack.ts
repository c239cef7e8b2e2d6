import { bid, bidY, gdim, range, tid, type i32, type KernelIR, type Tensor } from '@rose/cute';
import { bytesOf } from './support/storage.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, input, integers, updated, type Dims, type Fill, type KernelModule } from './spec.ts';

const THREADS = 256;

/**
 * Spreads one packed block over the places where a step's numbers belong. The block begins with three words for each
 * segment: where in the block it begins, where in `y`, and how many words it has. So a step's tokens, positions, page
 * tables... cross to the device in one copy, as long as they are, and stand at places that never change.
 */
const unpack: KernelModule = defineKernel({
  name: 'unpack',
  summary: 'y[to + i] = block[from + i] for i < count, for each segment (from, to, count) that the block begins with',
  dims: {
    words: 'words of the block',
    capacity: 'words of y',
    segments: 'segments of the block',
  },
  choose: () => ({}),
  args: argumentsOf,
  trace: ({ dims }) => record(dims),
  grid: ({ dims: { words, segments } }) => [Math.min(64, Math.ceil(words / segments / THREADS)), segments, 1],
  reference: ({ block, y }, { segments }) => {
    const out = y.slice();
    for (let s = 0; s < segments; s++) {
      const [from, to, count] = block.subarray(3 * s, 3 * s + 3);
      out.set(block.subarray(from, from + count), to);
    }
    return { y: out };
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
  };
}

/** Segments of different lengths, none where another lies; one has no words. */
function packed({ words, capacity, segments }: Dims): Fill {
  return (random, length) => {
    const block = integers(2 ** 30)(random, length);
    const room = Math.floor((words - 3 * segments) / segments);
    const apart = Math.floor(capacity / segments);
    for (let s = 0; s < segments; s++) {
      const count = segments > 1 && s === segments - 2 ? 0 : Math.max(0, room - s);
      block.set([3 * segments + s * room, s * apart, count], 3 * s);
    }
    return block;
  };
}

interface Tensors {
  readonly block: Tensor;
  readonly y: Tensor;
}

function record(dims: Dims): KernelIR {
  return traceKernel('unpack', argumentsOf(dims), THREADS, (t: Tensors) => {
    'use gpu';
    const segment = bidY() * 3;
    const word = (at: i32): i32 => {
      'use gpu';
      return t.block[segment + at];
    };
    const [from, to, count] = [word(0), word(1), word(2)];
    for (const i of range(bid() * THREADS + tid(), count, gdim() * THREADS)) t.y[to + i] = t.block[from + i];
  });
}
