import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { CudaDevice } from '../src/device/cuda/device.ts';
import { startProcess } from '../src/engine/link.ts';
import { RoseError } from '../src/errors.ts';
import { openModels } from '../src/serve/hub.ts';
import { bundled } from './on-cpu.ts';

const skip = !CudaDevice.present();
const FAULT = new URL('./cuda-fault.child.ts', import.meta.url);
const HANG = new URL('./cuda-hang.child.ts', import.meta.url);

test('a fault of a GPU ends its engine and its requests, and the next engine serves again', { skip }, async () => {
  let starts = 0;
  const told: string[] = [];
  let back = (): void => {};
  const ready = new Promise<void>((resolve) => (back = resolve));
  const hub = await openModels(
    {
      models: [{ name: 'tiny', directory: bundled('tiny-chat') }],
      device: 'cuda',
      memoryShare: 0.05,
      restarts: 1,
      onLost: ({ message }, final) => void told.push(`${final} ${message}`),
      onRestart: () => back(),
    },
    () => startProcess(starts++ === 0 ? FAULT : undefined),
  );
  try {
    const [model] = hub.models;
    const answer = async (maxTokens: number): Promise<string> => {
      const prompt = { kind: 'text', text: 'Once upon a time' } as const;
      let text = '';
      const request = { prompt, maxTokens, ignoreEos: true, sampling: { temperature: 0 } };
      for await (const event of model.generate(request)) if (event.kind === 'delta') text += event.text;
      return text;
    };
    const failures = await Promise.allSettled([answer(200), answer(200), answer(200)]);
    for (const failure of failures) {
      assert.equal(failure.status, 'rejected');
      assert.ok(failure.reason instanceof RoseError);
      assert.equal(failure.reason.code, 'unavailable');
      assert.match(failure.reason.message, /the engine stopped: the device was lost: .*CUDA_ERROR_ILLEGAL_ADDRESS/);
    }
    assert.equal(await hub.ready(), false);
    await ready;
    assert.equal(await hub.ready(), true);
    assert.equal(starts, 2);
    assert.ok((await answer(12)).length > 0);
    assert.equal(told.length, 1);
  } finally {
    await hub.close();
  }
});

test('work that does not end is given up at its deadline, and the GPU with it', { skip }, async () => {
  const process_ = spawn(process.execPath, [...process.execArgv, fileURLToPath(HANG)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  for await (const chunk of process_.stdout) text += String(chunk);
  const { message, lost, after } = JSON.parse(text) as { message: string; lost: string; after: string };
  assert.match(message, /CUDA_ERROR_LAUNCH_TIMEOUT: no end after 0.3 s/);
  assert.equal(lost, message);
  assert.match(after, /is unusable since cuEventQuery failed/);
});
