import type { DeviceModel } from '../../packages/engine/src/device/device.ts';
import type { Batch } from '../../packages/engine/src/engine/batch.ts';
import type { CallTimes, DriverCalls } from './driver-calls.ts';

export interface StepTimes {
  /** Median milliseconds between two steps' ends, two under way at a time as the overlapped loop has them. */
  readonly milliseconds: number;
  /** Of one step from its beginning to its end, nothing else under way. */
  readonly alone: number;
  /** Median microseconds in which this thread hands a step to the device. */
  readonly host: number;
  /** Of that, what the driver's functions take of a step, by their names; timing them takes time itself. */
  readonly driver?: Readonly<Record<string, CallTimes>>;
}

/** After so many the host's time has come down to where it stays; less where a step takes long. */
const WARM_UP = 200;
const WARM_UP_MS = 2000;

/** Times of the same step again and again. */
export async function timeSteps(
  model: DeviceModel,
  batch: Batch,
  steps: number,
  calls?: DriverCalls,
): Promise<StepTimes> {
  // The first steps of a process run code that is not compiled yet, and capture graphs.
  const end = performance.now() + WARM_UP_MS;
  for (let i = 0; i < 3 || (i < WARM_UP && performance.now() < end); i++) await model.step(batch);
  const alone: number[] = [];
  for (let i = 0; i < Math.ceil(steps / 2); i++) {
    const began = performance.now();
    await model.step(batch);
    alone.push(performance.now() - began);
  }
  const gaps: number[] = [];
  const hosts: number[] = [];
  let before: Promise<unknown> | undefined;
  let last = 0;
  for (let i = 0; i < steps; i++) {
    const began = performance.now();
    const running = Promise.resolve(model.step(batch));
    hosts.push(1000 * (performance.now() - began));
    await before;
    const now = performance.now();
    if (i > 1) gaps.push(now - last);
    last = now;
    before = running;
  }
  await before;
  const driver = calls && (await timeCalls(model, batch, steps, calls));
  return { milliseconds: median(gaps), alone: median(alone), host: median(hosts), ...(driver && { driver }) };
}

async function timeCalls(
  model: DeviceModel,
  batch: Batch,
  steps: number,
  calls: DriverCalls,
): Promise<Readonly<Record<string, CallTimes>>> {
  let before: Promise<unknown> | undefined;
  for (let i = 0; i < steps; i++) {
    // Not while it is asked whether the step before has ended.
    calls.on = true;
    const running = Promise.resolve(model.step(batch));
    calls.on = false;
    await before;
    before = running;
  }
  await before;
  return calls.take(steps);
}

function median(list: number[]): number {
  return list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
}
