import { CommandError, ExitCode } from '../errors.ts';
import { errorText } from './error-text.ts';
import { ask, type Headers } from './http.ts';
import type { Fields, Piece, Target } from './target.ts';

interface Metadata {
  readonly inputs?: readonly { readonly name: string }[];
}

/**
 * Triton's `generate_stream` of a model below `base`, with the tensors of its vLLM backend, or those scalars that the
 * model's metadata names.
 * @throws CommandError for a server that is not there, has no such model, or one that does not take text
 */
export async function tritonTarget(
  base: URL,
  wanted: string | undefined,
  fields: Fields,
  headers: Headers,
  timeoutMs: number,
): Promise<Target> {
  if (wanted === undefined) throw new CommandError(ExitCode.usage, '--api triton needs the name of a model: --model.');
  const root = `${base.href.replace(/\/(v2\/?)?$/, '')}/v2/models/${encodeURIComponent(wanted)}`;
  const { status, json } = await ask(new URL(root), headers, timeoutMs);
  if (status !== 200) {
    throw new CommandError(ExitCode.model, `${root} answered ${status}: ${errorText(json)}.`);
  }
  const names = new Set(((json as Metadata).inputs ?? []).map(({ name }) => name));
  if (!names.has('text_input')) {
    const list = [...names].join(', ') || 'none';
    throw new CommandError(ExitCode.usage, `the model ${wanted} takes no text_input (its inputs: ${list}).`);
  }
  const flag = (name: string): object => (names.has(name) ? { [name]: true } : {});
  const sampling = {
    ...(fields.temperature !== undefined && { temperature: fields.temperature }),
    ...(fields.ignoreEos === true && { ignore_eos: true }),
  };
  return {
    description: `Triton generate_stream, model ${wanted}`,
    model: wanted,
    url: new URL(`${root}/generate_stream`),
    context: undefined,
    hasEnd: false,
    body: (prompt, outputTokens) => ({
      text_input: prompt,
      ...flag('stream'),
      ...flag('return_num_input_tokens'),
      ...flag('return_num_output_tokens'),
      ...(names.has('sampling_parameters')
        ? { sampling_parameters: JSON.stringify({ ...sampling, max_tokens: outputTokens }) }
        : { ...sampling, max_tokens: outputTokens }),
    }),
    read,
  };
}

/** The end of the stream is the end of the answer: there is no last event. */
function read(data: string): Piece {
  const json = JSON.parse(data) as Readonly<Record<string, unknown>>;
  if (json['error'] !== undefined) return { text: false, error: errorText(json) };
  const text = [json['text_output']].flat().some((part) => typeof part === 'string' && part !== '');
  const output = [json['num_output_tokens']].flat()[0];
  if (typeof output !== 'number') return { text };
  const input = [json['num_input_tokens']].flat()[0];
  const usage = { inputTokens: typeof input === 'number' ? input : 0, outputTokens: output, cachedTokens: 0 };
  return { text, usage, added: true };
}
