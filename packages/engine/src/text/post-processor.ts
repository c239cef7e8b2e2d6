import { RoseError } from '../errors.ts';
import type { TokenizerFiles } from './files.ts';

/** What stands in an input's place: special tokens around the first (`A`) and second (`B`) text, with token types. */
export type Slot =
  | { readonly kind: 'special'; readonly ids: readonly number[]; readonly type: number }
  | { readonly kind: 'text'; readonly which: 'A' | 'B'; readonly type: number };

export interface PostProcessor {
  readonly single: readonly Slot[];
  readonly pair: readonly Slot[];
}

const A: Slot = { kind: 'text', which: 'A', type: 0 };
const B: Slot = { kind: 'text', which: 'B', type: 1 };

/**
 * The post-processor of tokenizer.json. TemplateProcessing, BertProcessing, RobertaProcessing (whose token types are all
 * zero), ByteLevel (moves offsets only) and sequences of them; anything else is `unsupported`.
 */
export function readPostProcessor({ directory, tokenizer }: TokenizerFiles): PostProcessor {
  try {
    return compile(tokenizer.post_processor ?? null) ?? { single: [A], pair: [A, B] };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new RoseError('unsupported', `${directory}/tokenizer.json: "post_processor": ${why}`, { cause });
  }
}

type Json = Readonly<Record<string, unknown>>;

function compile(config: Json | null): PostProcessor | undefined {
  if (config === null || config['type'] === 'ByteLevel') return undefined;
  switch (config['type']) {
    case 'Sequence': {
      const parts = (config['processors'] as Json[]).map(compile).filter((part) => part !== undefined);
      if (parts.length > 1) throw new Error('several post-processors add tokens');
      return parts[0];
    }
    case 'TemplateProcessing':
      return { single: template(config, 'single'), pair: template(config, 'pair') };
    case 'BertProcessing': {
      const [cls, sep] = [named(config, 'cls'), named(config, 'sep')];
      const second = { ...sep, type: 1 };
      return { single: [cls, A, sep], pair: [cls, A, sep, B, second] };
    }
    case 'RobertaProcessing': {
      const [cls, sep] = [named(config, 'cls'), named(config, 'sep')];
      return { single: [cls, A, sep], pair: [cls, A, sep, sep, { ...B, type: 0 }, sep] };
    }
    default:
      throw new Error(`the type ${JSON.stringify(config['type'])} is not known`);
  }
}

/** `["[CLS]", 101]` */
function named(config: Json, field: string): Slot & { kind: 'special' } {
  const value = config[field];
  if (!Array.isArray(value) || !Number.isInteger(value[1])) throw new Error(`"${field}" is not a pair of text and id`);
  return { kind: 'special', ids: [value[1] as number], type: 0 };
}

interface TemplateItem {
  readonly SpecialToken?: { readonly id: string; readonly type_id: number };
  readonly Sequence?: { readonly id: 'A' | 'B'; readonly type_id: number };
}

function template(config: Json, field: 'single' | 'pair'): Slot[] {
  const specials = config['special_tokens'] as Record<string, { readonly ids: readonly number[] }>;
  return (config[field] as TemplateItem[]).map((item): Slot => {
    if (item.Sequence !== undefined) return { kind: 'text', which: item.Sequence.id, type: item.Sequence.type_id };
    if (item.SpecialToken === undefined) throw new Error(`"${field}" has an item that is neither text nor token`);
    const { id, type_id: type } = item.SpecialToken;
    const ids = specials[id]?.ids;
    if (ids === undefined) throw new Error(`"special_tokens" lacks ${JSON.stringify(id)}`);
    return { kind: 'special', ids, type };
  });
}
