import type { InferRequest } from './infer-request.ts';
import type { ModelSignature } from './model.ts';
import type { NumericTensor } from './tensor.ts';

/** Longer heads are not kept: reading them is a small part of what such requests cost, and each model keeps one. */
const MOST_HEAD_BYTES = 16 * 1024;

interface Known {
  /** The JSON, byte for byte. */
  readonly head: Buffer;
  /** Of the whole body. */
  readonly bodyLength: number;
  readonly request: Omit<InferRequest, 'inputs'>;
  readonly inputs: readonly KnownInput[];
}

interface KnownInput extends Omit<NumericTensor, 'data'> {
  /** Where its elements begin in the body. */
  readonly at: number;
  readonly bytes: number;
}

/**
 * The heads of binary requests: a client mostly sends the same JSON again, with other elements behind it. Each model's
 * latest is kept as it was read and checked.
 */
export class KnownHeads {
  readonly #latest: WeakMap<ModelSignature, Known> = new WeakMap();

  /**
   * The request that a body holds, checked; undefined: its head is not known.
   * @param headLength of the JSON, in bytes
   */
  find(model: ModelSignature, body: Buffer, headLength: number): InferRequest | undefined {
    const known = this.#latest.get(model);
    if (known === undefined || headLength !== known.head.length || body.length !== known.bodyLength) return undefined;
    if (known.head.compare(body, 0, headLength) !== 0) return undefined;
    const { buffer, byteOffset } = body;
    const inputs = known.inputs.map(({ name, datatype, shape, at, bytes }) => ({
      ...{ name, datatype, shape },
      data: new Uint8Array(buffer, byteOffset + at, bytes),
    }));
    return { ...known.request, inputs };
  }

  /** Keep the head of a checked request, if nothing about it depends on more than the head and the body's length. */
  keep(model: ModelSignature, body: Buffer, headLength: number, { inputs, ...request }: InferRequest): void {
    // Regions of shared memory come and go.
    if (headLength > MOST_HEAD_BYTES || request.outputs?.some(({ range }) => range !== undefined) === true) return;
    const known: KnownInput[] = [];
    for (const { name, datatype, shape, data } of inputs) {
      // The lengths of texts are among the elements.
      if (datatype === 'BYTES' || data.buffer !== body.buffer) return;
      const at = data.byteOffset - body.byteOffset;
      if (at < headLength || at + data.length > body.length) return;
      known.push({ name, datatype, shape, at, bytes: data.length });
    }
    const head = Buffer.from(body.subarray(0, headLength));
    this.#latest.set(model, { head, bodyLength: body.length, request, inputs: known });
  }
}
