import { dialectOf, type Dialect, type DialectOptions } from '../answer/dialect.ts';
import { RoseError } from '../errors.ts';
import { namedTokens, type TokenizerFiles } from './files.ts';
import { parseTemplate, type ParsedTemplate } from './jinja.ts';
import type { ChatMessage, Tool } from './text.ts';

/** What a request gives to a template. */
export interface TemplateInput {
  readonly messages: readonly ChatMessage[];
  /** Undefined: the template sees no `tools` at all. */
  readonly tools?: readonly Tool[] | undefined;
  readonly addGenerationPrompt: boolean;
  readonly templateArguments: Readonly<Record<string, unknown>>;
}

/** Names the template language or Rose itself gives a meaning; a request's arguments may not. */
const RESERVED = new Set(
  'true false none True False None range namespace raise_exception strftime_now messages tools add_generation_prompt'.split(
    ' ',
  ),
);

/** A checkpoint's chat template, parsed once. */
export class ChatTemplate {
  readonly source: string;
  readonly #template: ParsedTemplate | RoseError;
  readonly #named: Readonly<Record<string, string>>;

  constructor({ directory, config, template = '' }: TokenizerFiles) {
    this.source = template;
    this.#named = namedTokens(config);
    this.#template = parse(directory, template);
  }

  /** Texts the template spells in its expressions, such as the roles it tells apart. */
  get literals(): ReadonlySet<string> {
    return this.#usable().literals;
  }

  /** Names of its variables and of the fields it reads. */
  get identifiers(): ReadonlySet<string> {
    return this.#usable().identifiers;
  }

  /** How the model writes calls and reasoning; a template that cannot be used tells nothing. */
  dialect(options: DialectOptions): Dialect {
    const identifiers = this.#template instanceof RoseError ? new Set<string>() : this.#template.identifiers;
    return dialectOf(this.source, identifiers, options);
  }

  /**
   * The rendered conversation. Throws `invalid` where the template refuses it, and where there is no template that can
   * be used.
   */
  render({ messages, tools, addGenerationPrompt, templateArguments }: TemplateInput): string {
    const template = this.#usable();
    for (const name of Object.keys(templateArguments)) {
      if (!RESERVED.has(name) && !Object.hasOwn(this.#named, name)) continue;
      throw new RoseError('invalid', `the chat template argument '${name}' cannot be set by a request`, {
        param: name,
      });
    }
    const context = {
      ...this.#named,
      ...templateArguments,
      messages,
      ...(tools !== undefined && { tools }),
      add_generation_prompt: addGenerationPrompt,
    };
    try {
      return template.render(context);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new RoseError('invalid', `the model's chat template cannot render these messages: ${why}`, { cause });
    }
  }

  #usable(): ParsedTemplate {
    if (this.#template instanceof RoseError) throw this.#template;
    return this.#template;
  }
}

/** A template that cannot be used is an error of the requests that need it: completions work without one. */
function parse(directory: string, source: string): ParsedTemplate | RoseError {
  if (source === '') {
    return new RoseError(
      'invalid',
      'this model has no chat template: send a prompt to the completions endpoint instead',
    );
  }
  try {
    return parseTemplate(source);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    return new RoseError('invalid', `the chat template of ${directory} cannot be read: ${why}`, { cause });
  }
}
