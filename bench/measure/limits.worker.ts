/** One thread of the measurement of the machine's limits: WebAssembly loops that do nothing but read, or multiply. */
import { parentPort, workerData } from 'node:worker_threads';
import { $, br_if, f32x4, func, i32, i64, importMemory, local, loop, Module, v128 } from 'wasmati';
import type { LimitsOrder, LimitsReply } from './limits.ts';

/** Beyond any cache. */
const BYTES = 256 << 20;
const PAGE = 1 << 16;
/** Bytes of one turn of the read loop. */
const STRIDE = 256;
/** Vectors of 128 bits in flight: 10 pairs, which the revectorizer makes 10 vectors of 256. */
const CHAINS = 20;
const TURNS = 1 << 16;
const LINKS = 64;

const memory = new WebAssembly.Memory({ initial: BYTES / PAGE, maximum: BYTES / PAGE });
const memoryImport = importMemory({ min: BYTES / PAGE, max: BYTES / PAGE }, memory);

/** Read [0, end) once. */
const read = func({ in: [i32], locals: [i32, v128, v128, v128, v128], out: [] }, ([end], [at, ...sums]) => {
  loop({}, () => {
    for (let i = 0; i < STRIDE / 16; i++) {
      local.get(sums[i % 4]);
      v128.load({ offset: 16 * i }, at);
      v128.or($, $);
      local.set(sums[i % 4], $);
    }
    local.set(at, i32.add(at, STRIDE));
    i32.lt_u(at, end);
    br_if(0);
  });
  sums.forEach((sum, i) => v128.store({ offset: 16 * i }, 0, sum));
});

/** `turns` multiply-adds in each of CHAINS chains. */
const multiply = func({ in: [i32], locals: [v128, ...chains()], out: [] }, ([turns], [factor, ...sums]) => {
  local.set(factor, v128.load({}, 0));
  loop({}, () => {
    for (const sum of sums) local.set(sum, f32x4.relaxed_madd(factor, factor, sum));
    local.set(turns, i32.sub(turns, 1));
    local.get(turns);
    br_if(0);
  });
  sums.forEach((sum, i) => v128.store({ offset: 16 * i }, 0, sum));
});

/** `turns` times LINKS operations of one cycle, each waiting for the one before. */
const chain = func({ in: [i32], locals: [i64, i64], out: [] }, ([turns], [value, step]) => {
  local.set(step, i64.load({}, 0));
  loop({}, () => {
    for (let i = 0; i < LINKS; i++) local.set(value, i % 2 ? i64.add(value, step) : i64.xor(value, step));
    local.set(turns, i32.sub(turns, 1));
    local.get(turns);
    br_if(0);
  });
  i64.store({}, 0, value);
});

function chains(): (typeof v128)[] {
  return Array.from({ length: CHAINS }, () => v128);
}

const module = Module({ exports: { read, multiply, chain }, memory: memoryImport });
// Compiled on this thread: a background compilation would not keep the worker alive until it is done.
const instance = new WebAssembly.Instance(new WebAssembly.Module(module.toBytes()), module.importMap);
const exports = instance.exports as Record<'read' | 'multiply' | 'chain', (amount: number) => void>;
new Uint8Array(memory.buffer).fill(1);

const { shared } = workerData as { shared: Int32Array };

/** Work in one call, in the unit that the reply is in. */
const work: Record<LimitsOrder['what'], { run: () => void; amount: number }> = {
  read: { run: () => exports.read(BYTES), amount: BYTES },
  multiply: { run: () => exports.multiply(TURNS), amount: 2 * 4 * CHAINS * TURNS },
  clock: { run: () => exports.chain(TURNS), amount: LINKS * TURNS },
};

parentPort?.on('message', ({ what, milliseconds, threads }: LimitsOrder) => {
  const { run, amount } = work[what];
  run();
  // All threads begin together.
  Atomics.add(shared, 0, 1);
  while (Atomics.load(shared, 0) < threads);
  const start = performance.now();
  let done = 0;
  let elapsed = 0;
  while (elapsed < milliseconds) {
    run();
    done += amount;
    elapsed = performance.now() - start;
  }
  const reply: LimitsReply = { perSecond: (1000 * done) / elapsed };
  parentPort?.postMessage(reply);
});
