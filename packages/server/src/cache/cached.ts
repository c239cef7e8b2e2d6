import { createHash, type Hash } from 'node:crypto';
import { now } from '../backend/protocol.ts';
import type { ModelStatistics } from '../statistics/statistics.ts';
import type { ModelRequest, ModelResponse, RunnableModel } from '../triton/model.ts';
import type { ResponseCache } from './response-cache.ts';

/** A model whose responses are kept. */
interface CachedModel {
  readonly run: RunnableModel['run'];
  /** Takes its responses out of the cache. */
  readonly close: () => void;
}

const NO_TIMES = { computeInput: 0, computeInfer: 0, computeOutput: 0 };

let owners = 0;

/**
 * Answer what was asked before from the cache, as Triton does: a hit counts neither as an inference nor as computing;
 * a miss adds the cache's own time to that of the request. Requests of sequences go to the model.
 * @param run of a model that answers exactly once
 */
export function cached(run: RunnableModel['run'], cache: ResponseCache, statistics: ModelStatistics): CachedModel {
  // A version that is loaded anew may answer otherwise.
  const owner = { number: ++owners };
  let closed = false;
  async function* keep(responses: AsyncIterable<ModelResponse>, key: string, lookupNs: number) {
    for await (const response of responses) {
      const begun = now();
      if (!closed && cache.insert(key, owner, response)) statistics.missed(lookupNs + now() - begun);
      yield response;
    }
  }
  return {
    run: (request) => {
      if (request.sequence !== undefined || request.signal.aborted) return run(request);
      const arrived = now();
      const key = keyOf(owner.number, request);
      const begun = now();
      const found = cache.lookup(key);
      const ended = now();
      if (found === undefined) return keep(run(request), key, ended - begun);
      statistics.hit(ended - arrived, begun - arrived, ended - begun);
      request.onTimes?.(NO_TIMES);
      return once(found);
    },
    close: () => {
      closed = true;
      cache.forget(owner);
    },
  };
}

async function* once(response: ModelResponse): AsyncIterable<ModelResponse> {
  yield response;
}

/**
 * Requests have the same key if a model cannot tell them apart: Triton's model, version, names and bytes of inputs, and
 * beside them types, shapes, wanted outputs, parameters and the client's tenant.
 */
function keyOf(owner: number, { inputs, outputs, parameters, tenant }: ModelRequest): string {
  const hash = createHash('sha256');
  const head = {
    owner,
    tenant,
    outputs: outputs && [...outputs].sort(),
    parameters: [...parameters].sort(byName).map(([name, value]) => [name, typeof value, String(value)]),
  };
  addText(hash, JSON.stringify(head));
  for (const [name, tensor] of [...inputs].sort(byName)) {
    addText(hash, JSON.stringify([name, tensor.datatype, tensor.shape]));
    if (tensor.datatype !== 'BYTES') hash.update(tensor.data);
    else for (const element of tensor.data) addBytes(hash, element);
  }
  return hash.digest('base64');
}

function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1;
}

function addText(hash: Hash, text: string): void {
  addBytes(hash, Buffer.from(text));
}

/** With its length in front, so that no two lists look the same. */
function addBytes(hash: Hash, bytes: Uint8Array): void {
  hash.update(`${bytes.length}:`).update(bytes);
}
