import { CommandError, ExitCode } from '../errors.ts';
import { ask, type Headers } from './http.ts';
import { errorText } from './error-text.ts';
import type { Fields, Piece, Target } from './target.ts';

interface ModelEntry {
  readonly id: string;
  /** Rose and vLLM say it. */
  readonly max_model_len?: number;
}

interface Chunk {
  readonly choices?: readonly {
    readonly text?: string;
    readonly delta?: { readonly content?: string | null; readonly reasoning_content?: string | null };
    readonly finish_reason?: string | null;
  }[];
  readonly usage?: {
    readonly prompt_tokens?: number;
    readonly completion_tokens?: number;
    readonly prompt_tokens_details?: { readonly cached_tokens?: number } | null;
  } | null;
  readonly error?: unknown;
}

export type OpenAIApi = 'chat' | 'completions';

/**
 * OpenAI's streaming chat or text completions below `base` (with or without its `/v1`).
 * @param wanted the model's name; undefined takes the server's only or first one
 * @throws CommandError for a server that is not there or has no such model
 */
export async function openaiTarget(
  base: URL,
  api: OpenAIApi,
  wanted: string | undefined,
  fields: Fields,
  headers: Headers,
  timeoutMs: number,
): Promise<Target> {
  const root = `${base.href.replace(/\/(v1\/?)?$/, '')}/v1`;
  const { id, max_model_len: context } = await findModel(new URL(`${root}/models`), wanted, headers, timeoutMs);
  const common = {
    model: id,
    stream: true,
    stream_options: { include_usage: true },
    ...(fields.temperature !== undefined && { temperature: fields.temperature }),
    ...(fields.ignoreEos === true && { ignore_eos: true }),
  };
  return {
    description: `${api === 'chat' ? 'OpenAI chat completions' : 'OpenAI completions'}, model ${id}`,
    model: id,
    url: new URL(`${root}/${api === 'chat' ? 'chat/completions' : 'completions'}`),
    context,
    hasEnd: true,
    body: (prompt, outputTokens) => ({
      ...common,
      ...(api === 'chat' ? { messages: [{ role: 'user', content: prompt }] } : { prompt }),
      max_tokens: outputTokens,
    }),
    read,
  };
}

async function findModel(
  url: URL,
  wanted: string | undefined,
  headers: Headers,
  timeoutMs: number,
): Promise<ModelEntry> {
  const { status, json } = await ask(url, headers, timeoutMs);
  const list = (json as { data?: ModelEntry[] } | null)?.data;
  if (status !== 200 || !Array.isArray(list)) {
    // Some servers list no models; then the name given is taken at its word.
    if (wanted !== undefined && status === 404) return { id: wanted };
    const why = status === 200 ? 'no list of models' : `${status}: ${errorText(json)}`;
    throw new CommandError(
      ExitCode.model,
      `${url.href} answered ${why}. Is this an OpenAI server? (--api triton asks as Triton.)`,
    );
  }
  const found = wanted === undefined ? list[0] : list.find(({ id }) => id === wanted);
  if (found !== undefined) return found;
  const names = list.map(({ id }) => id).join(', ') || 'none';
  const which = wanted === undefined ? 'no model' : `no model "${wanted}"`;
  throw new CommandError(ExitCode.model, `the server has ${which}; its models: ${names}.`);
}

function read(data: string): Piece {
  if (data === '[DONE]') return { text: false, end: true };
  const { choices = [], usage, error } = JSON.parse(data) as Chunk;
  if (error !== undefined) return { text: false, error: errorText({ error }) };
  const [choice] = choices;
  const text = Boolean(choice?.text || choice?.delta?.content || choice?.delta?.reasoning_content);
  if (usage?.completion_tokens === undefined) return { text };
  return {
    text,
    usage: {
      inputTokens: usage.prompt_tokens ?? 0,
      outputTokens: usage.completion_tokens,
      cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    },
  };
}
