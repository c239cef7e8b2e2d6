import { registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';
import { parentPort, workerData, type MessagePort } from 'node:worker_threads';
import { ModelError, type Model, type ModelClass, type Outcome } from './api.ts';
import { Calls } from './calls.ts';
import { errorOf, outcomeOf } from './outcome.ts';
import { now, type FromInstance, type InstanceData, type ToInstance, type WireRequest } from './protocol.ts';
import { IncomingRequest } from './incoming.ts';

/** Entry of an instance's thread: one object of the model's class, and the requests it works on. */
const port = parentPort as MessagePort;
const data = workerData as InstanceData;
const post = (message: FromInstance): void => port.postMessage(message);
const calls = new Calls(post);
const requests = new Map<number, IncomingRequest>();

provideApi();
try {
  await start();
} catch (error) {
  post({ kind: 'failed', error: errorOf(error) });
}

async function start(): Promise<void> {
  const made = await load(data.file);
  if (data.complete) {
    const config = made.autoCompleteConfig ? await made.autoCompleteConfig(structuredClone(data.config)) : data.config;
    post({ kind: 'completed', config });
    return;
  }
  const model = new made();
  const { name, version, config, directory, instance } = data;
  const parameters = Object.fromEntries(
    Object.entries(config.parameters ?? {}).map(([key, value]) => [key, value.string_value]),
  );
  await model.initialize?.({
    ...{ name, version, config, parameters, directory, instance },
    infer: (call) => calls.infer(call),
    stream: (call) => calls.stream(call),
  });
  port.on('message', (message: ToInstance) => void receive(model, message));
  post({ kind: 'ready' });
}

async function load(file: string): Promise<ModelClass> {
  const module = (await import(pathToFileURL(file).href)) as { default?: unknown };
  const made = module.default;
  const isModel = typeof made === 'function' && typeof (made as ModelClass).prototype?.execute === 'function';
  if (!isModel) {
    throw new ModelError('its default export must be a class with a method execute(requests)', 'INVALID_ARG');
  }
  return made as ModelClass;
}

async function receive(model: Model, message: ToInstance): Promise<void> {
  switch (message.kind) {
    case 'execute':
      return execute(model, message.requests);
    case 'cancel':
      requests.get(message.request)?.abort();
      return;
    case 'taken':
      requests.get(message.request)?.taken(message.count);
      return;
    case 'answer':
    case 'answered':
      calls.receive(message);
      return;
    case 'close':
      try {
        await model.finalize?.();
        post({ kind: 'closed' });
      } catch (error) {
        post({ kind: 'failed', error: errorOf(error) });
      }
      port.close();
  }
}

async function execute(model: Model, incoming: readonly WireRequest[]): Promise<void> {
  const decoupled = data.config.model_transaction_policy?.decoupled === true;
  const batch = incoming.map((wire) => {
    const request = new IncomingRequest(wire, decoupled, post, () => requests.delete(wire.number));
    requests.set(wire.number, request);
    return request;
  });
  const computeStart = now();
  let outcomes: readonly Outcome[] | undefined;
  try {
    const returned = await model.execute(batch);
    if (!decoupled) outcomes = checkOutcomes(returned, batch.length);
  } catch (error) {
    const failure = error instanceof Error ? error : new Error(String(error));
    if (decoupled) for (const request of batch) request.fail(failure);
    else outcomes = batch.map(() => failure);
  }
  const times = { computeStart, computeEnd: now() };
  if (outcomes === undefined) {
    post({ kind: 'executed', times, outcomes });
    return;
  }
  for (const { number } of incoming) requests.delete(number);
  post({ kind: 'executed', times, outcomes: outcomes.map(outcomeOf) });
}

function checkOutcomes(returned: readonly Outcome[] | void, count: number): readonly Outcome[] {
  if (Array.isArray(returned) && returned.length === count) return returned as readonly Outcome[];
  const what = Array.isArray(returned) ? `${returned.length} outcomes` : 'no array';
  throw new ModelError(`execute returned ${what} for ${count} requests: it must return one outcome for each`);
}

/** Models find the authors' module by its name wherever they lie, and TypeScript is what it looks like. */
function provideApi(): void {
  const api = new URL(import.meta.url.endsWith('.ts') ? './api.ts' : './api.js', import.meta.url).href;
  registerHooks({
    resolve(specifier, context, next) {
      if (specifier === '@rose/server/backend') return { url: api, shortCircuit: true };
      const resolved = next(specifier, context);
      const typescript =
        resolved.format === undefined || resolved.format === null ? resolved.url.endsWith('.ts') : false;
      return typescript ? { ...resolved, format: 'module-typescript' } : resolved;
    },
  });
}
