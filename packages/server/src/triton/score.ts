import type { ScoreInput, ServedModel } from '@rose/engine';
import { scoresOf } from '../scores.ts';
import type { BuiltinTask, DescribedModel } from './builtin.ts';
import { invalid } from './errors.ts';
import type { ModelRequest, ModelResponse } from './model.ts';
import { booleanParameter, checkParameters, ID_INPUTS, MAX_BATCH, tokenRows } from './pooling-inputs.ts';
import { fp32Rows, textsOf, type BytesTensor } from './tensor.ts';

/**
 * Classifiers over pairs of texts (rerankers).
 *
 * | input | shape | |
 * | --- | --- | --- |
 * | QUERY, TEXT | [batch, 1] BYTES | a pair a row, or instead of them: |
 * | INPUT_IDS | [batch, tokens] INT64 or INT32 | ids as the tokenizer makes them, special tokens included |
 * | TOKEN_TYPE_IDS | like INPUT_IDS | optional: 0 for the query's tokens, 1 for the text's |
 * | ATTENTION_MASK | like INPUT_IDS | optional: ones, then zeros over the padding |
 *
 * Outputs: SCORE [batch, labels] FP32, the sigmoid of a single label or the softmax over several; LOGITS
 * [batch, labels] FP32. Parameter: `truncate` (boolean, default false) shortens texts that are too long.
 */
export const scoring: BuiltinTask = {
  describe: (model) => {
    const { name, task, spec } = model;
    const labels = labelsOf(model);
    return {
      name,
      maxBatchSize: MAX_BATCH,
      decoupled: false,
      inputs: [
        { name: 'QUERY', datatypes: ['BYTES'], dims: [1], optional: true },
        { name: 'TEXT', datatypes: ['BYTES'], dims: [1], optional: true },
        ...ID_INPUTS,
        { name: 'TOKEN_TYPE_IDS', datatypes: ['INT64', 'INT32'], dims: [-1], optional: true },
      ],
      outputs: [
        { name: 'SCORE', datatype: 'FP32', dims: [labels.length], labels },
        { name: 'LOGITS', datatype: 'FP32', dims: [labels.length], labels },
      ],
      facts: {
        task,
        architecture: spec.architecture,
        context_length: String(spec.contextLength),
        labels: labels.join(', '),
      },
    };
  },
  run,
};

async function* run(model: ServedModel, request: ModelRequest): AsyncIterable<ModelResponse> {
  checkParameters(model.name, request, ['truncate']);
  const { logits } = await model.score({
    inputs: inputsOf(model.name, request),
    truncate: booleanParameter(request, 'truncate') ?? false,
    ...(request.timeoutMs !== undefined && { timeoutMs: request.timeoutMs }),
    tenant: request.tenant,
    signal: request.signal,
  });
  const width = labelsOf(model).length;
  yield { outputs: [fp32Rows('SCORE', logits.map(scoresOf), width), fp32Rows('LOGITS', logits, width)] };
}

function inputsOf(model: string, request: ModelRequest): ScoreInput[] {
  const query = request.inputs.get('QUERY') as BytesTensor | undefined;
  const text = request.inputs.get('TEXT') as BytesTensor | undefined;
  const ids = request.inputs.has('INPUT_IDS');
  if ((query === undefined) !== (text === undefined) || ids !== (text === undefined)) {
    throw invalid(`expected either both inputs 'QUERY' and 'TEXT', or 'INPUT_IDS', for model '${model}'`);
  }
  if (query === undefined || text === undefined) {
    return tokenRows(request).map(({ tokens, types }) => (types === undefined ? { tokens } : { tokens, types }));
  }
  for (const name of ['ATTENTION_MASK', 'TOKEN_TYPE_IDS']) {
    if (request.inputs.has(name)) throw invalid(`input '${name}' belongs to 'INPUT_IDS', not to 'TEXT'`);
  }
  const queries = textsOf(query);
  return textsOf(text).map((text, i) => ({ query: queries[i], text }));
}

function labelsOf({ spec }: DescribedModel): readonly string[] {
  return spec.head.kind === 'classifier' ? spec.head.labels : [];
}
