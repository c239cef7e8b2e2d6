import { Event } from '@rose/cuda';
import type { ModelSpec } from '../../packages/engine/src/model/spec.ts';
import type { DriverGpu } from '../../packages/engine/src/device/cuda/driver-gpu.ts';
import type { CudaModel } from '../../packages/engine/src/device/cuda/model.ts';
import { LlmEngine } from '../../packages/engine/src/engine/llm.ts';
import { Outbox } from '../../packages/engine/src/engine/outbox.ts';
import { GREEDY, type EngineRequest } from '../../packages/engine/src/engine/request.ts';
import type { CallTimes, DriverCalls } from './driver-calls.ts';
import { steppedBy } from './stepped-by.ts';

/** How busy the GPU is while the overlapped loop decodes, by events in its stream. */
export interface IdleFigure {
  readonly sequences: number;
  readonly context: number;
  readonly steps: number;
  /** Milliseconds from one step's end to the next one's. */
  readonly stepMilliseconds: number;
  /** Of those, from a step's end to the first thing that the next one does; its share is what the bar is on. */
  readonly betweenMilliseconds: number;
  readonly idleShare: number;
  /** Of a step that is queued behind another one, from its first thing to its end: nothing waits for the host there. */
  readonly queuedMilliseconds: number;
  /** Median microseconds in which the engine's thread hands a step to the GPU. */
  readonly handOverMicroseconds: number;
  /** Of that, what the driver's functions take, by their names; timing them takes time itself. */
  readonly driver: Readonly<Record<string, CallTimes>>;
}

/** Steps before those that are measured: graphs are captured in them, and the engine's code is compiled. */
const WARM_UP = 100;

/**
 * Decode that many sequences at about this context with the engine's own scheduler and loop: first for the time that a step is
 * handed over in, then for that which the driver takes of it, then with the GPU's clock, which says when it worked. Events cost
 * a microsecond or so.
 */
export async function measureIdle(
  gpu: DriverGpu,
  model: CudaModel,
  spec: ModelSpec,
  { sequences, context, steps }: { readonly sequences: number; readonly context: number; readonly steps: number },
  calls: DriverCalls,
): Promise<IdleFigure> {
  const handed: number[] = [];
  let ofDriver = false;
  const timed = steppedBy(model, (batch) => {
    calls.on = ofDriver;
    const began = performance.now();
    const running = model.step(batch);
    handed.push(1000 * (performance.now() - began));
    calls.on = false;
    return running;
  });
  // Prompts at once, as many rows in a step as there is room for: the first ones shall not end while others wait to begin.
  const limits = { entries: sequences, timeoutMs: undefined, stepMs: Infinity };
  const engine = new LlmEngine(spec, timed, { ...limits, loop: 'overlapped', clock: () => performance.now() });
  const maxTokens = WARM_UP + 3 * steps + sequences + 50;
  for (let id = 1; id <= sequences; id++) engine.submit(requestOf(id, context, maxTokens, spec.vocabSize), 0);
  const outbox = new Outbox();
  let ending = false;
  const step = async (): Promise<void> => {
    await engine.step(Date.now(), outbox);
    if (engine.stepFault !== undefined) throw engine.stepFault;
    if (!ending && !engine.hasWork) throw new Error('the sequences ended before all was measured');
    const failed = outbox.take().events.find((event) => event.kind === 'failed');
    if (failed !== undefined && !ending) throw new Error(`request ${failed.id}: ${failed.error.message}`);
    // As the engine's host lets messages in.
    await new Promise((resolve) => setImmediate(resolve));
  };
  const decoding = (): boolean => engine.scheduler.running.every((sequence) => sequence.decoding);
  while (engine.state.running < sequences || !decoding()) await step();
  for (let i = 0; i < WARM_UP; i++) await step();

  handed.length = 0;
  for (let i = 0; i < steps; i++) await step();
  const handOver = handed.toSorted((a, b) => a - b)[Math.floor(handed.length / 2)];
  ofDriver = true;
  for (let i = 0; i < steps; i++) await step();
  ofDriver = false;
  const driver = calls.take(steps);
  const marks = new Marks(gpu);
  for (let i = 0; i < steps; i++) await step();
  marks.stop();
  ending = true;
  for (let id = 1; id <= sequences; id++) engine.cancel(id);
  while (engine.hasWork) await step();
  const { between, within, whole } = marks.times();
  const sum = (list: readonly number[]): number => list.reduce((all, one) => all + one, 0);
  return {
    ...{ sequences, context, steps: whole.length },
    stepMilliseconds: sum(whole) / whole.length,
    betweenMilliseconds: sum(between) / between.length,
    idleShare: sum(between) / sum(whole),
    queuedMilliseconds: within.toSorted((a, b) => a - b)[Math.floor(within.length / 2)],
    handOverMicroseconds: handOver,
    driver,
  };
}

/** Events before the first copy of each step and behind its last one, put into the model's stream. */
class Marks {
  readonly #begins: Event[] = [];
  readonly #ends: Event[] = [];
  readonly #restore: () => void;

  constructor({ context, stream }: DriverGpu) {
    const upload = stream.upload.bind(stream);
    const settled = stream.settled.bind(stream);
    let begun = false;
    const mark = (list: Event[]): void => {
      const event = new Event(context, { timing: true });
      stream.stream.record(event);
      list.push(event);
    };
    stream.upload = (...args) => {
      if (!begun) mark(this.#begins);
      begun = true;
      upload(...args);
    };
    stream.settled = (...args) => {
      if (begun) mark(this.#ends);
      begun = false;
      return settled(...args);
    };
    this.#restore = () => Object.assign(stream, { upload, settled });
  }

  stop(): void {
    this.#restore();
  }

  /** Milliseconds; of steps that have ended. */
  times(): { readonly between: number[]; readonly within: number[]; readonly whole: number[] } {
    const [begins, ends] = [this.#begins, this.#ends];
    ends.at(-1)!.synchronize();
    const later = Array.from({ length: ends.length - 1 }, (_, i) => i + 1);
    const times = {
      between: later.map((i) => begins[i].since(ends[i - 1])),
      within: later.map((i) => ends[i].since(begins[i])),
      whole: later.map((i) => ends[i].since(ends[i - 1])),
    };
    for (const event of [...begins, ...ends]) event[Symbol.dispose]();
    return times;
  }
}

function requestOf(id: number, context: number, maxTokens: number, vocabulary: number): EngineRequest {
  // Prompts that share nothing.
  const tokens = Int32Array.from(
    { length: context },
    (_, i) => (i === 0 ? id : 300 + ((i * 37) % 20_000)) % vocabulary,
  );
  const rest = { minTokens: maxTokens, stopTokens: [], logprobs: -1, promptLogprobs: -1, salt: '' };
  return {
    ...{ id, model: 0, tenant: '', priority: 0, deadline: undefined, siblingOf: undefined },
    command: { kind: 'generate', tokens, sampling: GREEDY, maxTokens, ...rest },
  };
}
