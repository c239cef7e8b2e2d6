import type { ModelRequest, ModelResponse, TritonModel } from '../triton/model.ts';
import type { Trace } from './trace.ts';

/** Run a checked request, and note in its trace, if it has one, how it goes. */
export function runModel(model: TritonModel, request: ModelRequest): AsyncIterable<ModelResponse> {
  return request.trace === undefined ? model.run(request) : traced(model, request, request.trace);
}

async function* traced(model: TritonModel, request: ModelRequest, trace: Trace): AsyncIterable<ModelResponse> {
  trace.begin(model.name, model.version, request.id);
  trace.tensors('TENSOR_QUEUE_INPUT', request.inputs.values());
  try {
    for await (const response of model.run(request)) {
      trace.mark('INFER_RESPONSE_COMPLETE');
      trace.tensors('TENSOR_BACKEND_OUTPUT', response.outputs);
      yield response;
    }
  } finally {
    trace.mark('REQUEST_END');
  }
}
