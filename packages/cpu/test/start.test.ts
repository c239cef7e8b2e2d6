import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { createCpu, type TileFamily } from '@rose/cpu';
import { CpuArena } from '../src/arena.ts';
import { checkTiles } from '../src/check.ts';
import { fusedMultiplyAdd } from '../src/fused.ts';
import { emitModule, emitTiles } from '../src/kernels/module.ts';
import { Team } from '../src/team/team.ts';

test('options out of range are refused', async () => {
  for (const threads of [0, -1, 1.5, 257, NaN, '2' as unknown as number]) {
    await assert.rejects(createCpu({ threads }), { name: 'RangeError', message: /threads must be a whole number/ });
  }
  await assert.rejects(createCpu({ threads: 1, family: 'narrow' as TileFamily }), {
    name: 'RangeError',
    message: "family must be 'wide' or 'plain', not 'narrow'",
  });
});

test('the description tells threads, family, why, and pages', async () => {
  const chosen = await createCpu({ threads: 2 });
  assert.equal(chosen.threads, 2);
  assert.match(
    chosen.description,
    /^cpu: 2 threads, (wide|plain) tiles \((revectorized, )?\d+ GFLOP\/s a core, (wide|plain) \d+\), (huge|small) pages$/,
  );
  assert.ok(chosen.description.includes(`${chosen.family} tiles (`));
  await chosen.close();
  const forced = await createCpu({ threads: 1, family: 'plain', hugePages: false });
  assert.equal(forced.family, 'plain');
  assert.equal(forced.description, 'cpu: 1 thread, plain tiles (asked for), small pages');
  await forced.close();
});

test('without the revectorizer the same answers come', () => {
  const script = `
    import { createCpu } from '@rose/cpu';
    const cpu = await createCpu({ threads: 1 });
    console.log(cpu.description);
    await cpu.close();`;
  const output = execFileSync(process.execPath, ['--conditions=development', '--input-type=module', '-e', script], {
    cwd: import.meta.dirname,
    env: { ...process.env, ROSE_NO_REVECTORIZE: '1' },
    encoding: 'utf8',
  });
  assert.match(output, /^cpu: 1 thread, (wide|plain) tiles \(\d+ GFLOP/);
});

for (const family of ['plain', 'wide'] as const) {
  test(`${family}: modules compile, and hold the kernels that commands call`, () => {
    for (const sums of ['pairs', 'fours'] as const) {
      const whole = new WebAssembly.Module(emitModule(family, sums));
      const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
      const names = Object.keys(new WebAssembly.Instance(whole, { '': { m0: memory } }).exports);
      const expected = ['linear_f32_1', 'linear_bf16_1', 'rmsNorm', 'layerNorm', 'gate_silu', 'rotate', 'candidates'];
      for (const name of expected) assert.ok(names.includes(name), name);
      // The same bytes at every start.
      assert.deepEqual(emitModule(family, sums), emitModule(family, sums));
    }
    assert.deepEqual(emitTiles(family), emitTiles(family));
  });

  test(`${family}: the check passes right tiles and names wrong ones`, () => {
    const arena = new CpuArena(
      Team.solo(),
      new WebAssembly.Module(emitTiles(family)),
      family,
      1 << 20,
      () => undefined,
    );
    arena.reserve({ maxRows: 7, maxInputs: 0, maxContext: 1, maxHeadDim: 1, maxWidth: 1 });
    checkTiles(arena);
    const used = arena.used;
    checkTiles(arena);
    assert.equal(arena.used, used);
    // Tiles of the other family over this family's panels: other parts, wrong places.
    const other = family === 'plain' ? 'wide' : 'plain';
    const module = new WebAssembly.Module(emitTiles(other));
    const mixed = new CpuArena(Team.solo(), module, family, 1 << 20, () => undefined);
    mixed.reserve({ maxRows: 7, maxInputs: 0, maxContext: 1, maxHeadDim: 1, maxWidth: 1 });
    assert.throws(() => checkTiles(mixed), /f32 products have wrong bits|is not a function/);
  });
}

test('the fused multiply-add is rounded once', () => {
  const f = Math.fround;
  const e = 2 ** -23;
  // Rounding to float64 first would give a tie of float32, which goes to the even neighbour above.
  assert.equal(fusedMultiplyAdd((1 - 2 ** -18) * 2 ** -12, (1 + 2 ** -18) * 2 ** -12, 1 + e), 1 + e);
  assert.equal(fusedMultiplyAdd((2 ** -18 - 1) * 2 ** -12, (1 + 2 ** -18) * 2 ** -12, -1 - e), -1 - e);
  assert.equal(fusedMultiplyAdd(1 + e, 1 + e, 0), f(1 + 2 * e));
  assert.equal(fusedMultiplyAdd(f(1 + e), f(2 ** -24), 1), f(1 + e));
  assert.equal(fusedMultiplyAdd(f(2 ** -40), f(2 ** -40), f(1)), 1);
  assert.equal(fusedMultiplyAdd(f(-(2 ** -24)), f(1 + e), f(1 + e)), f(1));
  assert.equal(fusedMultiplyAdd(3, 4, 5), 17);
  assert.ok(Object.is(fusedMultiplyAdd(-1, 0, -0), -0));
  assert.equal(fusedMultiplyAdd(f(3e38), 2, 0), Infinity);
  assert.ok(Number.isNaN(fusedMultiplyAdd(Infinity, 0, 1)));
});
