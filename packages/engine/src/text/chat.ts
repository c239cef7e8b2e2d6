import { RoseError } from '../errors.ts';
import type { Encoder, Section } from './encoder.ts';
import { Marker, type Marks } from './marks.ts';
import type { ChatTemplate, TemplateInput } from './template.ts';
import type { ChatMessage, MessagesPrompt } from './text.ts';
import type { TokenSet } from './tokens.ts';

/** Roles that may complete a control token (`'<|' + role + '|>'`), besides those a template names. */
const ROLES = new Set(['system', 'developer', 'user', 'assistant', 'tool', 'function']);

/** What a name looks like. Text that is no name is never trusted, not even where the template spells it too. */
const NAME = /^[A-Za-z][A-Za-z0-9_-]*$/;

/**
 * Conversations to ids: the ids of the rendered template, where the template's control tokens are control tokens and
 * everything that came from the request is text.
 *
 * The template is rendered with every request string marked (`Marks.all`), which tells for each character of the result
 * who wrote it. If taking the marks out gives what the plain strings give, the template did not look into the text, and
 * that is all. Some templates do look (Qwen3 splits an answer at `</think>`). Then a rendering in which only complete
 * control tokens are marked decides, so that the template sees the rest, provided it has the control tokens of the
 * marked one and no others; where it has not, text was put together to a control token or steered one, and the marked
 * rendering stands: such text keeps its letters, but the template does not react to it.
 */
export class ChatEncoder {
  readonly #encoder: Encoder;
  readonly #template: ChatTemplate;
  readonly #marker: Marker;

  constructor(encoder: Encoder, template: ChatTemplate, tokens: TokenSet) {
    this.#encoder = encoder;
    this.#template = template;
    this.#marker = new Marker(
      tokens.controls.map((token) => token.content),
      template.source,
    );
  }

  encode(prompt: MessagesPrompt): number[] {
    return this.#encoder.encodeSections(this.sections(prompt));
  }

  /** The rendered conversation, cut at its control tokens. */
  sections(prompt: MessagesPrompt): Section[] {
    const input = inputOf(prompt);
    const { messages, tools, templateArguments } = input;
    const plain = this.#template.render(input);
    const marks = this.#marker.marksFor(textsOf([messages, tools, templateArguments]));
    const marked = this.#tryRender(input, marks.all);
    if (marked !== undefined && marks.restore(marked) === plain) return this.#sections(marked, marks);

    if (marked === undefined) {
      // The template stops at marks, so there is nothing to hold the plain rendering against.
      const message = 'the chat template reads this text in a way that cannot be kept apart from its control tokens';
      throw new RoseError('invalid', message, { param: 'messages' });
    }
    const safe = this.#sections(marked, marks);
    const open = this.#tryRender(input, marks.whole);
    if (open === undefined) return safe;
    const seen = this.#sections(open, marks);
    return sameControls(seen, safe) ? seen : safe;
  }

  /** The rendered conversation as a client would read it. */
  render(prompt: MessagesPrompt): string {
    return this.#template.render(inputOf(prompt));
  }

  #sections(marked: string, marks: Marks): Section[] {
    return this.#encoder
      .sections(marked)
      .map((section) => (typeof section === 'string' ? marks.restore(section) : section));
  }

  /** The rendering with marks; undefined where the template refuses it, though it took the plain texts. */
  #tryRender(input: TemplateInput, mark: (text: string) => string): string | undefined {
    const { literals, identifiers } = this.#template;
    const spelled = (text: string): boolean => NAME.test(text) && literals.has(text);
    const known = (key: string): boolean => NAME.test(key) && (literals.has(key) || identifiers.has(key));
    const value = (text: string): string => (spelled(text) ? text : mark(text));
    const key = (text: string): string => (known(text) ? text : mark(text));
    const markMessage = ({ role, tool_calls: calls, ...fields }: ChatMessage): ChatMessage => ({
      ...mapStrings(fields, mark, key),
      ...(calls !== undefined && { tool_calls: mapStrings(calls, value, key) }),
      role: ROLES.has(role) ? role : value(role),
    });
    const templateArguments = Object.fromEntries(
      // The outermost names are the template's variables; they are never printed.
      Object.entries(input.templateArguments).map(([name, argument]) => [name, mapStrings(argument, value, key)]),
    );
    try {
      const messages = input.messages.map(markMessage);
      const tools = input.tools && mapStrings(input.tools, value, key);
      return this.#template.render({ ...input, messages, tools, templateArguments });
    } catch (error) {
      if (error instanceof RoseError && error.code === 'invalid') return undefined;
      throw error;
    }
  }
}

function inputOf({
  messages,
  tools,
  addGenerationPrompt = true,
  templateArguments = {},
}: MessagesPrompt): TemplateInput {
  return { messages, tools, addGenerationPrompt, templateArguments };
}

/** A copy of a JSON value with its strings and its objects' keys mapped. */
function mapStrings<T>(json: T, value: (text: string) => string, key: (text: string) => string): T {
  const map = (item: unknown): unknown => {
    if (typeof item === 'string') return value(item);
    if (Array.isArray(item)) return item.map(map);
    if (typeof item !== 'object' || item === null) return item;
    return Object.fromEntries(Object.entries(item).map(([name, field]) => [key(name), map(field)]));
  };
  return map(json) as T;
}

/** All strings in a JSON value, keys among them. */
function textsOf(json: unknown): string[] {
  const texts: string[] = [];
  const collect = (text: string): string => {
    texts.push(text);
    return text;
  };
  mapStrings(json, collect, collect);
  return texts;
}

function sameControls(a: readonly Section[], b: readonly Section[]): boolean {
  const controls = (sections: readonly Section[]): Section[] =>
    sections.filter((section) => typeof section !== 'string');
  const [x, y] = [controls(a), controls(b)];
  return x.length === y.length && x.every((token, i) => token === y[i]);
}
