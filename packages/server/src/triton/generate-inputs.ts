import { invalid, TritonError } from './errors.ts';
import type { InputSpec, ModelRequest } from './model.ts';
import { numbersOf, textsOf, type Tensor } from './tensor.ts';

type Datatypes = InputSpec['datatypes'];

/** Sampling fields that clients of the TensorRT-LLM backend send as tensors, under the names of the fields. */
const FIELDS: Readonly<Record<string, Datatypes>> = {
  max_tokens: ['INT32'],
  min_tokens: ['INT32'],
  temperature: ['FP32'],
  top_k: ['INT32'],
  top_p: ['FP32'],
  repetition_penalty: ['FP32'],
  presence_penalty: ['FP32'],
  frequency_penalty: ['FP32'],
  seed: ['UINT64', 'INT64'],
};
/** Its models of the LLM API have them with this in front. */
const LLM_API = 'sampling_param_';

/** Inputs that stand for a sampling field as they are. */
const FIELD_INPUTS: readonly { readonly spec: InputSpec; readonly field: string }[] = [
  ...Object.entries(FIELDS).map(([field, datatypes]) => ({ spec: optional(field, datatypes), field })),
  ...Object.entries(FIELDS).map(([field, datatypes]) => ({ spec: optional(LLM_API + field, datatypes), field })),
  { spec: optional(`${LLM_API}n`, ['INT32']), field: 'n' },
  { spec: optional(`${LLM_API}stop`, ['BYTES'], -1), field: 'stop' },
  { spec: optional('stop_words', ['BYTES'], -1), field: 'stop' },
  { spec: optional('bad_words', ['BYTES'], -1), field: 'bad_words' },
  { spec: optional('num_return_sequences', ['INT32']), field: 'n' },
];

/** Sampling inputs of a model that generates text. */
export const SAMPLING_INPUTS: readonly InputSpec[] = [
  ...FIELD_INPUTS.map(({ spec }) => spec),
  optional('end_id', ['INT32']),
  optional('pad_id', ['INT32']),
  optional('beam_width', ['INT32']),
  optional('length_penalty', ['FP32']),
  optional('return_context_logits', ['BOOL']),
  optional('return_generation_logits', ['BOOL']),
  optional('lora_task_id', ['UINT64']),
  optional('guided_decoding_guide_type', ['BYTES']),
  optional('guided_decoding_guide', ['BYTES']),
];

/** The field that asks for each kind of guide. */
const GUIDES: Readonly<Record<string, string>> = {
  json_schema: 'guided_json',
  regex: 'guided_regex',
  ebnf_grammar: 'guided_grammar',
};

/**
 * The sampling fields that a request's tensors stand for. `pad_id` has none, since nothing is padded, and
 * `length_penalty` neither: it weighs beams.
 * @throws TritonError where a tensor asks for beams, logits or adapters
 */
export function tensorFields({ inputs }: ModelRequest): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const { spec, field } of FIELD_INPUTS) {
    const tensor = inputs.get(spec.name);
    if (tensor !== undefined) fields[field] = valueOf(tensor);
  }
  const first = (name: string): number | string | undefined => {
    const tensor = inputs.get(name);
    return tensor === undefined ? undefined : [valueOf(tensor)].flat()[0];
  };
  const beams = first('beam_width') ?? 1;
  if (beams !== 1) throw new TritonError(501, `input 'beam_width' is ${beams}: there is no beam search, only 1`);
  for (const name of ['return_context_logits', 'return_generation_logits']) {
    if (first(name) === 1) throw new TritonError(501, `input '${name}' is true: logits are not returned`);
  }
  if (inputs.has('lora_task_id')) throw invalid('LoRA feature is not enabled.');
  const end = first('end_id');
  if (end === -1) fields.ignore_eos = true;
  else if (end !== undefined) fields.stop_token_ids = [end];
  const kind = first('guided_decoding_guide_type');
  const guide = first('guided_decoding_guide');
  if (kind === 'json') return { ...fields, structured_outputs: { json_object: true } };
  if (kind === undefined && guide === undefined) return fields;
  const field = GUIDES[String(kind)];
  if (field === undefined || guide === undefined) {
    const kinds = ['json', ...Object.keys(GUIDES)].join(', ');
    throw invalid(
      `'guided_decoding_guide_type' must be one of ${kinds}, with a 'guided_decoding_guide' unless it is json`,
    );
  }
  return { ...fields, [field]: guide };
}

function optional(name: string, datatypes: Datatypes, dim = 1): InputSpec {
  return { name, datatypes, dims: [dim], optional: true };
}

/** A number, or texts; empty ones are how clients of that backend write "none". */
function valueOf(tensor: Tensor): number | string[] {
  if (tensor.datatype === 'BYTES') return textsOf(tensor).filter((text) => text !== '');
  return numbersOf(tensor)[0];
}
