import { Template } from '@huggingface/jinja';
import { RoseError } from '../errors.ts';
import { namedTokens, type TokenizerFiles } from './files.ts';
import type { ChatMessage } from './text.ts';

/** What a request gives to a template. */
export interface TemplateInput {
  readonly messages: readonly ChatMessage[];
  readonly addGenerationPrompt: boolean;
  readonly templateArguments: Readonly<Record<string, unknown>>;
}

/** Names the template language or Rose itself gives a meaning; a request's arguments may not. */
const RESERVED = new Set(
  'true false none True False None range namespace raise_exception strftime_now messages add_generation_prompt'.split(
    ' ',
  ),
);

/** A checkpoint's chat template, parsed once. */
export class ChatTemplate {
  readonly source: string;
  /** Texts the template spells in its expressions, such as the roles it tells apart. */
  readonly literals: ReadonlySet<string>;
  /** Names of its variables and of the fields it reads. */
  readonly identifiers: ReadonlySet<string>;
  readonly #template: Template | RoseError;
  readonly #named: Readonly<Record<string, string>>;

  constructor({ directory, config, template = '' }: TokenizerFiles) {
    this.source = template;
    this.#named = namedTokens(config);
    this.#template = parse(directory, template);
    const parsed = this.#template instanceof Template ? this.#template.parsed : undefined;
    this.literals = valuesOf('StringLiteral', parsed);
    this.identifiers = valuesOf('Identifier', parsed);
  }

  /**
   * The rendered conversation. Throws `invalid` where the template refuses it, and where there is no template that can
   * be used.
   */
  render({ messages, addGenerationPrompt, templateArguments }: TemplateInput): string {
    if (this.#template instanceof RoseError) throw this.#template;
    for (const name of Object.keys(templateArguments)) {
      if (!RESERVED.has(name) && !(name in this.#named)) continue;
      throw new RoseError('invalid', `the chat template argument '${name}' cannot be set by a request`, {
        param: name,
      });
    }
    const context = { ...this.#named, ...templateArguments, messages, add_generation_prompt: addGenerationPrompt };
    try {
      return this.#template.render(context);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new RoseError('invalid', `the model's chat template cannot render these messages: ${why}`, { cause });
    }
  }
}

/** A template that cannot be used is an error of the requests that need it: completions work without one. */
function parse(directory: string, source: string): Template | RoseError {
  if (source === '') {
    return new RoseError(
      'invalid',
      'this model has no chat template: send a prompt to the completions endpoint instead',
    );
  }
  try {
    return new Template(source);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    return new RoseError('invalid', `the chat template of ${directory} cannot be read: ${why}`, { cause });
  }
}

/** The values of all nodes of one type. */
function valuesOf(type: 'StringLiteral' | 'Identifier', root: unknown): Set<string> {
  const values = new Set<string>();
  const visit = (node: unknown): void => {
    if (typeof node !== 'object' || node === null) return;
    const { type: nodeType, value } = node as { type?: unknown; value?: unknown };
    if (nodeType === type && typeof value === 'string') values.add(value);
    const children = node instanceof Map ? [...node].flat() : Object.values(node);
    for (const child of children) visit(child);
  };
  visit(root);
  return values;
}
