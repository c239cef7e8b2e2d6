import { RoseError } from '../errors.ts';
import type { GenerationDefaults } from '../checkpoint/checkpoint.ts';
import { MAX_LOGPROBS } from '../device/device.ts';
import type { SamplingParams } from '../engine/request.ts';
import type { GenerateRequest } from './api.ts';

/** Seeds are whole numbers below this, so that a double holds them exactly. */
const SEED_LIMIT = Number.MAX_SAFE_INTEGER;
const MOST_STOPS = 64;
const MOST_ANSWERS = 128;
const MOST_BAD_WORDS = 256;

/**
 * A request's sampling parameters: its own fields, then the checkpoint's defaults, then neutral values. A request
 * without a seed gets a random one here.
 * @throws RoseError `invalid` naming the field that is out of range
 */
export function resolveSampling(
  fields: Partial<SamplingParams>,
  defaults: GenerationDefaults,
  vocabSize: number,
): SamplingParams {
  const params: SamplingParams = {
    temperature: fields.temperature ?? (defaults.sample ? (defaults.temperature ?? 1) : 0),
    topK: Math.min(fields.topK ?? defaults.topK ?? 0, vocabSize),
    topP: fields.topP ?? defaults.topP ?? 1,
    minP: fields.minP ?? defaults.minP ?? 0,
    repetitionPenalty: fields.repetitionPenalty ?? defaults.repetitionPenalty ?? 1,
    presencePenalty: fields.presencePenalty ?? 0,
    frequencyPenalty: fields.frequencyPenalty ?? 0,
    logitBias: fields.logitBias ?? [],
    allowedTokens: fields.allowedTokens,
    badWords: fields.badWords ?? [],
    seed: fields.seed ?? Math.floor(Math.random() * SEED_LIMIT),
  };
  check('temperature', params.temperature, params.temperature >= 0 && params.temperature <= 100, '0 to 100');
  check('top_k', params.topK, Number.isInteger(params.topK) && params.topK >= 0, '0 (off) or a whole number above it');
  check('top_p', params.topP, params.topP > 0 && params.topP <= 1, 'above 0, at most 1');
  check('min_p', params.minP, params.minP >= 0 && params.minP <= 1, '0 to 1');
  const { repetitionPenalty } = params;
  check('repetition_penalty', repetitionPenalty, repetitionPenalty >= 0.01 && repetitionPenalty <= 100, '0.01 to 100');
  for (const name of ['presencePenalty', 'frequencyPenalty'] as const) {
    const wire = name === 'presencePenalty' ? 'presence_penalty' : 'frequency_penalty';
    check(wire, params[name], params[name] >= -2 && params[name] <= 2, '-2 to 2');
  }
  const { seed } = params;
  check('seed', seed, Number.isInteger(seed) && seed >= 0 && seed <= SEED_LIMIT, `a whole number, 0 to ${SEED_LIMIT}`);
  for (const [token, bias] of params.logitBias) {
    const known = Number.isInteger(token) && token >= 0 && token < vocabSize;
    check('logit_bias', token, known, `token ids below ${vocabSize}`);
    check('logit_bias', bias, bias >= -100 && bias <= 100, 'values from -100 to 100');
  }
  const biased = new Set(params.logitBias.map(([token]) => token));
  if (biased.size < params.logitBias.length) {
    throw new RoseError('invalid', 'logit_bias names a token twice', { param: 'logit_bias' });
  }
  if (params.allowedTokens?.length === 0) {
    throw new RoseError('invalid', 'allowed_token_ids is empty: it must hold at least one token id', {
      param: 'allowed_token_ids',
    });
  }
  const named = { allowed_token_ids: params.allowedTokens ?? [], bad_words: params.badWords.flat() };
  for (const [name, tokens] of Object.entries(named)) {
    for (const token of tokens) {
      const known = Number.isInteger(token) && token >= 0 && token < vocabSize;
      check(name, token, known, `token ids below ${vocabSize}`);
    }
  }
  return params;
}

/** @throws RoseError `invalid` naming the field that is out of range */
export function checkLimits(request: GenerateRequest, vocabSize: number): void {
  const { maxTokens, minTokens, logprobs, promptLogprobs, badWords, n, stop, stopTokens, timeoutMs } = request;
  const whole = (name: string, value: number | undefined, least: number, most: number): void => {
    if (value === undefined) return;
    const inRange = Number.isInteger(value) && value >= least && value <= most;
    check(name, value, inRange, `a whole number from ${least} to ${most}`);
  };
  const most = Number.MAX_SAFE_INTEGER;
  whole('max_tokens', maxTokens, 0, most);
  whole('min_tokens', minTokens, 0, maxTokens ?? most);
  whole('logprobs', logprobs, 0, MAX_LOGPROBS);
  whole('prompt_logprobs', promptLogprobs, 0, MAX_LOGPROBS);
  whole('n', n, 1, MOST_ANSWERS);
  for (const token of stopTokens ?? []) whole('stop_token_ids', token, 0, vocabSize - 1);
  if (timeoutMs !== undefined) check('timeout', timeoutMs, timeoutMs > 0, 'above 0');
  if ((stop?.length ?? 0) > MOST_STOPS) {
    throw new RoseError('invalid', `stop has ${stop!.length} texts: at most ${MOST_STOPS}`, { param: 'stop' });
  }
  if ((badWords?.length ?? 0) > MOST_BAD_WORDS) {
    const message = `bad_words has ${badWords!.length} texts: at most ${MOST_BAD_WORDS}`;
    throw new RoseError('invalid', message, { param: 'bad_words' });
  }
  if (badWords?.some((word) => word.trim() === '') === true) {
    throw new RoseError('invalid', 'bad_words has a text without a word', { param: 'bad_words' });
  }
}

/** What cannot be had together with a grammar: the answer ends where the grammar does. */
export function checkGrammar({ ignoreEos, minTokens, structure }: GenerateRequest, defaults: GenerationDefaults): void {
  const refuse = (param: string, what: string): RoseError =>
    new RoseError('invalid', `${what} cannot be combined with ${structure?.param}: the answer ends where that does`, {
      param,
    });
  if (ignoreEos === true) throw refuse('ignore_eos', 'ignore_eos');
  if ((minTokens ?? 0) > 0) throw refuse('min_tokens', 'min_tokens');
  if (defaults.endTokens.length > 0) return;
  const message = 'the model has no end token, so that no answer could end where a grammar does';
  throw new RoseError('unsupported', message, { param: structure?.param ?? 'structure' });
}

function check(name: string, value: number, valid: boolean, expected: string): void {
  if (!valid) throw new RoseError('invalid', `${name} is ${value}: it must be ${expected}`, { param: name });
}
