import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CpuDevice } from '../src/device/cpu/device.ts';
import { reference } from './checkpoint/files.ts';
import { bundled, openOnCpu } from './on-cpu.ts';

test('a bf16 cache of heads that the kernels cannot group is refused; an f32 cache serves them', async () => {
  const directory = reference('llama-odd-sizes');
  await assert.rejects(openOnCpu(directory, { cacheDtype: 'bf16' }), {
    name: 'RoseError',
    code: 'unsupported',
    message: /^a bf16 cache needs heads of a multiple of 16 elements; this model's have \d+\. Use an f32 cache\.$/,
  });
  const { close } = await openOnCpu(directory, { cacheDtype: 'f32' });
  await close();
});

test('a number of threads that cannot be is refused in words', async () => {
  await assert.rejects(CpuDevice.open(0), {
    name: 'RoseError',
    code: 'invalid',
    message: /whole number from 1 to 256/,
  });
});

test('the memory of a model is there once it is loaded: no step waits for the system to find it', async () => {
  const before = process.memoryUsage.rss();
  const { model, close } = await openOnCpu(bundled('tiny-chat'), { maxSequences: 8 });
  const grown = process.memoryUsage.rss() - before;
  const { weights, sequences } = model.memory;
  assert.ok(grown > 0.9 * (weights + sequences), `${grown} bytes of ${weights + sequences} are there`);
  await close();
});
