import type { ServedModel } from '@rose/engine';
import type { BuiltinTask } from './builtin.ts';
import { invalid } from './errors.ts';
import type { ModelRequest, ModelResponse } from './model.ts';
import { booleanParameter, checkParameters, ID_INPUTS, MAX_BATCH, tokenRows } from './pooling-inputs.ts';
import { fp32Rows, textsOf, type BytesTensor } from './tensor.ts';

/**
 * Embedding models.
 *
 * | input | shape | |
 * | --- | --- | --- |
 * | TEXT | [batch, 1] BYTES | texts, or instead of them: |
 * | INPUT_IDS | [batch, tokens] INT64 or INT32 | ids as the tokenizer makes them, special tokens included |
 * | ATTENTION_MASK | like INPUT_IDS | optional: ones, then zeros over the padding |
 *
 * Output: EMBEDDING [batch, width] FP32. Parameters: `truncate` (boolean, default false) shortens texts that are too
 * long; `dimensions` keeps the first so many elements and normalises again.
 */
export const embedding: BuiltinTask = {
  describe: ({ name, task, spec }) => ({
    name,
    maxBatchSize: MAX_BATCH,
    decoupled: false,
    inputs: [{ name: 'TEXT', datatypes: ['BYTES'], dims: [1], optional: true }, ...ID_INPUTS],
    outputs: [{ name: 'EMBEDDING', datatype: 'FP32', dims: [spec.hiddenSize] }],
    facts: { task, architecture: spec.architecture, context_length: String(spec.contextLength) },
  }),
  run,
};

async function* run(model: ServedModel, request: ModelRequest): AsyncIterable<ModelResponse> {
  checkParameters(model.name, request, ['truncate', 'dimensions']);
  const dimensions = request.parameters.get('dimensions');
  if (dimensions !== undefined && typeof dimensions !== 'number') {
    throw invalid("parameter 'dimensions' must be a number");
  }
  const result = await model.embed({
    inputs: inputsOf(model.name, request),
    truncate: booleanParameter(request, 'truncate') ?? false,
    ...(dimensions !== undefined && { dimensions }),
    ...(request.timeoutMs !== undefined && { timeoutMs: request.timeoutMs }),
    tenant: request.tenant,
    signal: request.signal,
  });
  yield { outputs: [fp32Rows('EMBEDDING', result.embeddings, dimensions ?? model.spec.hiddenSize)] };
}

function inputsOf(model: string, request: ModelRequest): (string | number[])[] {
  const text = request.inputs.get('TEXT') as BytesTensor | undefined;
  if ((text === undefined) === !request.inputs.has('INPUT_IDS')) {
    throw invalid(`expected exactly one of the inputs 'TEXT' and 'INPUT_IDS' for model '${model}'`);
  }
  if (text === undefined) return tokenRows(request).map(({ tokens }) => tokens);
  if (request.inputs.has('ATTENTION_MASK'))
    throw invalid("input 'ATTENTION_MASK' belongs to 'INPUT_IDS', not to 'TEXT'");
  return textsOf(text);
}
