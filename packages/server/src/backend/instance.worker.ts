import { parentPort, workerData, type MessagePort } from 'node:worker_threads';
import { ModelError, type Model, type ModelClass, type Outcome } from './api.ts';
import { Calls } from './calls.ts';
import { readRequest, writeTimes } from './exchange.ts';
import { errorOf, writeOutcome } from './outcome.ts';
import { importFile, provideApi } from './modules.ts';
import { NumberMap } from './number-map.ts';
import { PacketReader, PacketWriter, transfersOf, wordsOf, type Packet } from './packet.ts';
import { now, type ExecuteTimes, type FromInstance, type InstanceData, type ToInstance } from './protocol.ts';
import { IncomingRequest, type Outlet } from './incoming.ts';

/** Entry of an instance's thread: one object of the model's class, and the requests it works on. */
const port = parentPort as MessagePort;
const data = workerData as InstanceData;
const post = (message: FromInstance): void =>
  port.postMessage(message, 'packet' in message ? transfersOf(message.packet) : []);
const calls = new Calls(post);
const words = wordsOf(data.config);
const requests = new NumberMap<IncomingRequest>();
const sequences = data.config.sequence_batching;
const outlet: Outlet = {
  post,
  writer: new PacketWriter(words),
  states: new Set((sequences?.state ?? []).map((state) => state.output_name)),
  iterative: sequences?.iterative_sequence ?? false,
  forget: ({ number }) => requests.delete(number),
};

async function start(): Promise<void> {
  const made = await load(data.file);
  if (data.complete) {
    const { directory } = data;
    const given = structuredClone(data.config);
    const config = made.autoCompleteConfig ? await made.autoCompleteConfig(given, { directory }) : given;
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
  const executor = new Executor(model);
  port.on('message', (message: ToInstance) => void receive(model, executor, message));
  post({ kind: 'ready' });
}

async function load(file: string): Promise<ModelClass> {
  const { default: made } = await importFile(file);
  const isModel = typeof made === 'function' && typeof (made as ModelClass).prototype?.execute === 'function';
  if (!isModel) {
    throw new ModelError('its default export must be a class with a method execute(requests)', 'INVALID_ARG');
  }
  return made as ModelClass;
}

async function receive(model: Model, executor: Executor, message: ToInstance): Promise<void> {
  switch (message.kind) {
    case 'execute':
      executor.add(message.batches, message.packet);
      return;
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

/** A result that is held back for the next ones waits no longer than such a batch takes. */
const SHORT_NS = 200_000;
/** After a batch that took longer, so many results are sent one by one. */
const CAREFUL_BATCHES = 1000;

/** Executes batches one after the other. Results of very short ones go together: a message costs as much as they do. */
class Executor {
  readonly #model: Model;
  readonly #decoupled: boolean = data.config.model_transaction_policy?.decoupled === true;
  readonly #queue: (readonly IncomingRequest[])[] = [];
  readonly #results: PacketWriter = new PacketWriter(words);
  #finished = 0;
  #running = false;
  #careful = CAREFUL_BATCHES;

  constructor(model: Model) {
    this.#model = model;
  }

  add(batches: number, packet: Packet): void {
    const reader = new PacketReader(packet, words);
    for (let i = 0; i < batches; i++) {
      this.#queue.push(
        reader.list(() => {
          const request = new IncomingRequest(readRequest(reader), this.#decoupled, outlet);
          requests.set(request.number, request);
          return request;
        }),
      );
    }
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    this.#running = true;
    for (let batch = this.#queue.shift(); batch !== undefined; batch = this.#queue.shift()) {
      const { begun, computeEnd } = await this.#execute(batch);
      this.#finished++;
      if (computeEnd - begun > SHORT_NS) this.#careful = CAREFUL_BATCHES;
      else if (this.#careful > 0) this.#careful--;
      if (this.#careful > 0 || this.#queue.length === 0) this.#flush();
    }
    this.#running = false;
  }

  #flush(): void {
    post({ kind: 'executed', batches: this.#finished, packet: this.#results.take() });
    this.#finished = 0;
  }

  async #execute(batch: readonly IncomingRequest[]): Promise<ExecuteTimes> {
    const begun = now();
    const wanted = batch.filter(({ aborted }) => !aborted);
    const computeStart = now();
    let outcomes: readonly Outcome[] | undefined;
    try {
      const returned = wanted.length > 0 ? await this.#model.execute([...wanted]) : [];
      if (!this.#decoupled) outcomes = checkOutcomes(returned, wanted.length);
      else if (Array.isArray(returned) && returned.some((outcome) => outcome !== undefined)) {
        const text = 'execute of a decoupled model returns nothing: each request is answered by its sender';
        for (const request of wanted) request.fail(new ModelError(text));
      }
    } catch (error) {
      const { code, message } = errorOf(error);
      const failure = new ModelError(message, code);
      if (this.#decoupled) for (const request of wanted) request.fail(failure);
      else outcomes = wanted.map(() => failure);
    }
    const times = { begun, computeStart, computeEnd: now() };
    const again = new Set(wanted.filter((request) => request.settle()));
    writeTimes(this.#results, times);
    if (outcomes === undefined) {
      this.#results.add(0);
      return times;
    }
    for (const { number } of batch) requests.delete(number);
    this.#results.add(batch.length);
    // Nobody waits for the outcomes of those that were cancelled.
    const left = outcomes.values();
    for (const request of batch) {
      const outcome = wanted.includes(request) ? (left.next().value as Outcome) : CANCELLED;
      writeOutcome(this.#results, again.has(request) && !(outcome instanceof Error) ? NOTHING : outcome);
    }
    return times;
  }
}

/** Of a request that is executed again. */
const NOTHING = { outputs: {} };
const CANCELLED = new ModelError('the request was cancelled', 'CANCELLED');

function checkOutcomes(returned: readonly Outcome[] | void, count: number): readonly Outcome[] {
  if (Array.isArray(returned) && returned.length === count) return returned as readonly Outcome[];
  const what = Array.isArray(returned) ? `${returned.length} outcomes` : 'no array';
  throw new ModelError(`execute returned ${what} for ${count} requests: it must return one outcome for each`);
}

provideApi();
try {
  await start();
} catch (error) {
  post({ kind: 'failed', error: errorOf(error) });
}
