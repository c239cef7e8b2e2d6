import { invalid } from './errors.ts';
import type { ModelRequest, ModelResponse } from './model.ts';
import { onlyResponse } from './only-response.ts';
import { elementCount, printShape, type Tensor } from './tensor.ts';

/** What answers a request of one row, without the batch dimension. */
export type RunRow = (request: ModelRequest) => AsyncIterable<ModelResponse>;

/**
 * Answer a request with a batch dimension by what answers a single row: each row is a request of its own, and the
 * engine runs them together. A request of one row may have many responses, one of several rows has one.
 * @param request its tensors have the shape [rows, ...]; so have those of the responses
 */
export async function* runRows(model: string, request: ModelRequest, run: RunRow): AsyncIterable<ModelResponse> {
  const rows = [...request.inputs.values()][0]?.shape[0] ?? 1;
  if (rows === 1) {
    for await (const response of run(rowOf(request, 0, request.signal))) yield stack([response]);
    return;
  }
  // Where one row fails the others have nobody to answer to.
  const others = new AbortController();
  const signal = AbortSignal.any([request.signal, others.signal]);
  try {
    const answers = Array.from({ length: rows }, (_, row) => answerOf(model, run(rowOf(request, row, signal))));
    yield stack(await Promise.all(answers));
  } catch (error) {
    others.abort();
    throw error;
  }
}

async function answerOf(name: string, responses: AsyncIterable<ModelResponse>): Promise<ModelResponse> {
  let count = 0;
  async function* counted(): AsyncIterable<ModelResponse> {
    for await (const response of responses) {
      if (count++ > 0) throw invalid(`a request to '${name}' that streams must have one row`);
      yield response;
    }
  }
  return onlyResponse({ name }, counted());
}

function rowOf(request: ModelRequest, row: number, signal: AbortSignal): ModelRequest {
  const inputs = new Map([...request.inputs].map(([name, tensor]) => [name, sliceOf(tensor, row)]));
  return { ...request, inputs, signal };
}

function sliceOf(tensor: Tensor, row: number): Tensor {
  const shape = tensor.shape.slice(1);
  const length = tensor.datatype === 'BYTES' ? elementCount(shape) : tensor.data.length / tensor.shape[0];
  if (tensor.datatype === 'BYTES') {
    return { ...tensor, shape, data: tensor.data.slice(row * length, (row + 1) * length) };
  }
  return { ...tensor, shape, data: tensor.data.subarray(row * length, (row + 1) * length) };
}

/** Rows of the same outputs as one response. */
function stack(rows: readonly ModelResponse[]): ModelResponse {
  const outputs = rows[0].outputs.map((first, i): Tensor => {
    const parts = rows.map(({ outputs: own }) => own[i]);
    const odd = parts.find((part) => printShape(part.shape) !== printShape(first.shape));
    if (odd !== undefined) {
      const shapes = `${printShape(first.shape)} and ${printShape(odd.shape)}`;
      throw invalid(`rows of output '${first.name}' have the shapes ${shapes}: send them as requests of their own`);
    }
    const shape = [rows.length, ...first.shape];
    if (first.datatype === 'BYTES') return { ...first, shape, data: parts.flatMap(({ data }) => data as Uint8Array[]) };
    return { ...first, shape, data: Buffer.concat(parts.map(({ data }) => data as Uint8Array)) };
  });
  return { ...rows[0], outputs };
}
