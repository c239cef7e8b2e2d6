import { merge } from '../generation/merge.ts';
import { invalid } from './errors.ts';
import type { ModelRequest, ModelResponse } from './model.ts';
import { onlyResponse } from './only-response.ts';
import { elementCount, numbers, printShape, type Tensor } from './tensor.ts';

/** What answers a request of one row, without the batch dimension. */
export type RunRow = (request: ModelRequest) => AsyncIterable<ModelResponse>;

/**
 * Answer a request with a batch dimension once: each row is a request of its own, and the engine runs them together.
 * @param request its tensors have the shape [rows, ...]; so have those of the response
 */
export async function* runTogether(model: string, request: ModelRequest, run: RunRow): AsyncIterable<ModelResponse> {
  const { rows, cancel } = rowsOf(request);
  try {
    yield stack(await Promise.all(rows.map((row) => onlyAnswer(model, run(row)))));
  } finally {
    // Where one row fails the others have nobody to answer to.
    cancel();
  }
}

/**
 * Answer a request with a batch dimension as TensorRT-LLM's decoupled models do: rows are answered on their own, as they
 * come, `text_output` without the batch dimension. A client that asks for `sequence_index` gets each of a row's answers
 * by itself; `batch_index` says which row it is.
 */
export async function* runApart(request: ModelRequest, run: RunRow): AsyncIterable<ModelResponse> {
  const { rows, cancel } = rowsOf(request);
  const wants = (name: string): boolean => request.outputs?.has(name) === true;
  const answers = rows.map((row) => run(withoutEmptyWish(row)));
  for await (const { source, value } of merge(answers, cancel)) {
    for (const [sequence, response] of (wants('sequence_index') ? split(value) : [value]).entries()) {
      const outputs = response.outputs.map((tensor) =>
        tensor.name === TEXT ? tensor : { ...tensor, shape: [1, ...tensor.shape] },
      );
      if (wants('batch_index')) outputs.push(index('batch_index', source));
      if (wants('sequence_index')) outputs.push(index('sequence_index', sequence));
      yield { ...response, outputs };
    }
  }
}

const TEXT = 'text_output';
const OF_THE_PROMPT = 'num_input_tokens';

function rowsOf(request: ModelRequest): { rows: ModelRequest[]; cancel: () => void } {
  const count = [...request.inputs.values()][0]?.shape[0] ?? 1;
  const controller = new AbortController();
  const signal = AbortSignal.any([request.signal, controller.signal]);
  const rows = Array.from({ length: count }, (_, row) => rowOf(request, row, signal));
  return { rows, cancel: () => controller.abort() };
}

/** Its clients say `exclude_input_in_output: false` for streams too, which never have the input. */
function withoutEmptyWish(request: ModelRequest): ModelRequest {
  const isTrue = (name: string): boolean => request.inputs.get(name)?.data[0] === 1;
  if (isTrue('exclude_input_in_output') || !(isTrue('stream') || isTrue('streaming'))) return request;
  const inputs = new Map([...request.inputs].filter(([name]) => name !== 'exclude_input_in_output'));
  return { ...request, inputs };
}

/** Each of a request's answers as a response of its own. */
function split(response: ModelResponse): ModelResponse[] {
  const count = response.outputs.find(({ name }) => name === TEXT)?.shape[0] ?? 1;
  return Array.from({ length: count }, (_, i) => ({
    ...response,
    outputs: response.outputs.map((tensor): Tensor => {
      if (tensor.name === OF_THE_PROMPT) return tensor;
      return { ...sliceOf(tensor, i), shape: [1, ...tensor.shape.slice(1)] };
    }),
  }));
}

function index(name: string, value: number): Tensor {
  return { ...numbers(name, 'INT32', [value]), shape: [1, 1] };
}

async function onlyAnswer(name: string, responses: AsyncIterable<ModelResponse>): Promise<ModelResponse> {
  let count = 0;
  async function* counted(): AsyncIterable<ModelResponse> {
    for await (const response of responses) {
      if (count++ > 0) throw invalid(`model '${name}' cannot stream: its configuration is not decoupled`);
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
