import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { after, test } from 'node:test';
import { createCpu, type Arena, type Cpu, type Program } from '@rose/cpu';
import { encode } from '../src/commands/index.ts';
import { emitTiles } from '../src/kernels/module.ts';
import { LIST, Barrier } from '../src/team/barrier.ts';
import { Team } from '../src/team/team.ts';

async function open(threads: number): Promise<{ cpu: Cpu; arena: Arena; program: Program }> {
  const cpu = await createCpu({ threads, family: 'plain' });
  after(() => cpu.close());
  const arena = await cpu.createArena(1 << 20);
  arena.reserve({ maxRows: 8, maxInputs: 0, maxContext: 16, maxHeadDim: 16, maxWidth: 64 });
  return { cpu, arena, program: arena.program() };
}

/** Rows of length 1, which normalizing leaves as they are but for rounding. */
function normalize(arena: Arena, program: Program, rows: number): void {
  const input = arena.alloc(4 * rows * 8);
  arena.f32(input, rows * 8).fill(3);
  program.reset();
  program.normalize({ input, rows, width: 8 });
  program.run();
  for (const value of arena.f32(input, rows * 8)) assert.ok(Math.abs(value - 8 ** -0.5) < 1e-6);
}

for (const threads of [1, 2, 3]) {
  test(`${threads} threads: a share that throws fails the run with its message, and the next run works`, async () => {
    const { arena, program } = await open(threads);
    normalize(arena, program, 6);
    for (let i = 0; i < 3; i++) {
      program.reset();
      // The first row lies within the memory, the last one behind its end: the last thread's share fails.
      const rows = 8;
      program.normalize({ input: arena.capacity - 4 * 8 * (rows - 1), rows, width: 8 });
      program.normalize({ input: arena.capacity, rows, width: 8 });
      assert.throws(() => program.run(), /memory access out of bounds/);
      normalize(arena, program, 6);
    }
  });

  test(`${threads} threads: thousands of short runs, idle between some, with lists of every length`, async () => {
    const { arena, program } = await open(threads);
    const input = arena.alloc(4 * 64);
    const values = arena.f32(input, 64);
    let expected = 1;
    values.fill(expected);
    const one = arena.alloc(4 * 64);
    arena.f32(one, 64).fill(1);
    const index = arena.alloc(4 * 8);
    arena.i32(index, 8).set([0, 1, 2, 3, 4, 5, 6, 7]);
    for (let run = 0; run < 1000; run++) {
      program.reset();
      const length = run % 5;
      for (let i = 0; i < length; i++) {
        program.embed({
          table: { pointer: one, dtype: 'f32' },
          index,
          output: input,
          rows: 8,
          width: 8,
          accumulate: true,
        });
      }
      expected += length;
      program.run();
      assert.ok(
        values.every((value) => value === expected),
        `run ${run}: ${values.join(' ')}`,
      );
      if (run % 300 === 0) await setTimeout(5);
    }
  });
}

test('more threads than cores come to the same end', async () => {
  const threads = 2 * availableParallelism() + 1;
  const { cpu, arena, program } = await open(threads);
  assert.equal(cpu.threads, threads);
  for (let i = 0; i < 50; i++) normalize(arena, program, 16);
});

test('arenas come and go between runs; a closed one and a closed device refuse', async () => {
  const { cpu, arena, program } = await open(2);
  for (let i = 0; i < 5; i++) {
    const other = await cpu.createArena(1 << 16);
    const list = other.program();
    normalize(other, list, 4);
    normalize(arena, program, 4);
    other.close();
    assert.throws(() => list.run(), /the arena is closed/);
    other.close();
  }
  normalize(arena, program, 4);
  await cpu.close();
  assert.throws(() => program.run(), /the CPU device is closed/);
  await assert.rejects(cpu.createArena(1 << 16), /the CPU device is closed/);
  await cpu.close();
});

test('a thread that has ended fails every run to come, at once', async () => {
  const team = await Team.start(3);
  after(() => team.close());
  // Nobody asks threads to stop but the team itself; here somebody does.
  team.barrier.stop();
  const module = new WebAssembly.Module(emitTiles('plain'));
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const arena = team.addArena(memory, module, 'plain');
  const list = new Int32Array(64);
  const words = encode(list, 0, 'gather', { input: 64, index: 0, output: 64, rows: 1, width: 1 });
  for (let i = 0; i < 2; i++) assert.throws(() => team.run(arena, list, words), /compute thread [12] has ended/);
  assert.throws(() => team.addArena(memory, module, 'plain'), /the CPU device has failed/);
});

test('a thread that never arrives is given up', () => {
  const barrier = new Barrier(new SharedArrayBuffer(4 * (LIST + 64)), 2, 50);
  assert.throws(() => barrier.meet(), /a compute thread does not answer/);
});

test('reasons of any length and script survive, cut where there is no room', () => {
  const barrier = new Barrier(new SharedArrayBuffer(4 * (LIST + 64)), 1);
  barrier.begin(1, 1);
  assert.equal(barrier.failed, false);
  barrier.fail(new Error('Größe 東京'));
  barrier.fail(new Error('too late'));
  assert.deepEqual([barrier.failed, barrier.reason], [true, 'Größe 東京']);
  barrier.begin(1, 1);
  assert.equal(barrier.failed, false);
  barrier.fail('é'.repeat(5000));
  assert.match(barrier.reason, /^é{100,}$/);
});

for (const [how, ending] of [
  ['closed', 'await cpu.close()'],
  ['forgotten', ''],
]) {
  test(`a process whose device was ${how} exits by itself`, () => {
    const script = `
      import { createCpu } from '@rose/cpu';
      const cpu = await createCpu({ threads: 2, family: 'plain' });
      const arena = await cpu.createArena(1 << 16);
      arena.pack(arena.matrix(32, 4, 'f32'), 0, 32, arena.alloc(512), 'F32');
      ${ending};
      console.log('done');`;
    const args = ['--conditions=development', '--input-type=module', '--eval', script];
    const output = execFileSync(process.execPath, args, {
      cwd: import.meta.dirname,
      timeout: 30_000,
      encoding: 'utf8',
    });
    assert.equal(output, 'done\n');
  });
}
