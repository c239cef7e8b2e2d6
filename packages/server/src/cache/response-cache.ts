import type { ModelResponse } from '../triton/model.ts';
import type { Tensor } from '../triton/tensor.ts';

interface Entry {
  readonly owner: object;
  readonly response: ModelResponse;
  /** Counted against the cache's size. */
  readonly bytes: number;
}

/** What an entry takes besides its tensors: the key, names, shapes, objects. */
const ENTRY_BYTES = 512;

/** Responses of all models by what was asked, at most so many bytes; those that were not asked for longest go first. */
export class ResponseCache {
  readonly capacity: number;
  /** The latest used comes last. */
  readonly #entries: Map<string, Entry> = new Map();
  #bytes = 0;
  #evictions = 0;

  /** @param capacity bytes */
  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get entries(): number {
    return this.#entries.size;
  }

  /** Responses that made room for others. */
  get evictions(): number {
    return this.#evictions;
  }

  lookup(key: string): ModelResponse | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.response;
  }

  /**
   * Keep a copy of a response, unless it is larger than the whole cache.
   * @param owner see `forget`
   * @returns false: there is one with this key
   */
  insert(key: string, owner: object, response: ModelResponse): boolean {
    if (this.#entries.has(key)) return false;
    const bytes = ENTRY_BYTES + response.outputs.reduce((sum, tensor) => sum + sizeOf(tensor), 0);
    if (bytes > this.capacity) return true;
    for (const [oldest, entry] of this.#entries) {
      if (this.#bytes + bytes <= this.capacity) break;
      this.#entries.delete(oldest);
      this.#bytes -= entry.bytes;
      this.#evictions++;
    }
    this.#entries.set(key, { owner, response: copyOf(response), bytes });
    this.#bytes += bytes;
    return true;
  }

  /** The owner is gone, and with it everything that it made. */
  forget(owner: object): void {
    for (const [key, entry] of this.#entries) {
      if (entry.owner !== owner) continue;
      this.#entries.delete(key);
      this.#bytes -= entry.bytes;
    }
  }
}

function sizeOf({ datatype, data }: Tensor): number {
  if (datatype !== 'BYTES') return data.length;
  return data.reduce((sum, element) => sum + element.length + 64, 0);
}

/** Tensors are often views of a message's bytes, which would be kept as a whole. */
function copyOf({ outputs, parameters }: ModelResponse): ModelResponse {
  const copies = outputs.map((tensor): Tensor => {
    const { name, datatype, shape } = tensor;
    if (tensor.datatype === 'BYTES') {
      return { name, datatype: 'BYTES', shape, data: tensor.data.map((element) => Uint8Array.from(element)) };
    }
    return { name, datatype: datatype as typeof tensor.datatype, shape, data: Uint8Array.from(tensor.data) };
  });
  return { outputs: copies, ...(parameters && { parameters: new Map(parameters) }) };
}
