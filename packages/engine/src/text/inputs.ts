import { RoseError } from '../errors.ts';
import type { Encoder } from './encoder.ts';
import type { PostProcessor, Slot } from './post-processor.ts';
import type { EncodedInput, TruncateOptions } from './text.ts';

/**
 * A text with the tokenizer's special tokens around it.
 * @param index number of the input in its request, for errors
 */
export function encodeText(
  encoder: Encoder,
  post: PostProcessor,
  text: string,
  index: number,
  options: TruncateOptions,
): EncodedInput {
  return place(post.single, { A: encoder.encode(text), B: [] }, 'A', index, options);
}

/** A query and a text with the tokenizer's special tokens around and between them. Only the text is ever shortened. */
export function encodePair(
  encoder: Encoder,
  post: PostProcessor,
  pair: { readonly query: string; readonly text: string },
  index: number,
  options: TruncateOptions,
): EncodedInput {
  return place(post.pair, { A: encoder.encode(pair.query), B: encoder.encode(pair.text) }, 'B', index, options);
}

/** @param shorten which of the two may be cut */
function place(
  slots: readonly Slot[],
  texts: { A: number[]; B: number[] },
  shorten: 'A' | 'B',
  index: number,
  { maxTokens, truncate }: TruncateOptions,
): EncodedInput {
  const lengthOf = (slot: Slot): number => (slot.kind === 'text' ? texts[slot.which] : slot.ids).length;
  let length = slots.reduce((sum, slot) => sum + lengthOf(slot), 0);
  if (length > maxTokens) {
    const excess = length - maxTokens;
    const text = texts[shorten];
    if (!truncate) throw tooLong(index, `has ${length} tokens`, maxTokens, 'shorten it or ask for truncation');
    if (excess >= text.length) {
      // Nothing would be left of what is to be judged.
      const fixed = length - text.length;
      throw tooLong(index, `has ${fixed} tokens that may not be cut`, maxTokens, 'shorten the query');
    }
    text.length -= excess;
    length = maxTokens;
  }
  const tokens = new Int32Array(length);
  const types = new Int32Array(length);
  let at = 0;
  for (const slot of slots) {
    const ids = slot.kind === 'text' ? texts[slot.which] : slot.ids;
    tokens.set(ids, at);
    types.fill(slot.type, at, at + ids.length);
    at += ids.length;
  }
  return { tokens, types };
}

function tooLong(index: number, what: string, maxTokens: number, advice: string): RoseError {
  return new RoseError('invalid', `input ${index} ${what}; the model reads at most ${maxTokens}: ${advice}`);
}
