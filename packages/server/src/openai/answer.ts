import { randomUUID } from 'node:crypto';
import { append, AnswerParser, type AnswerOptions, type AnswerPart, type Dialect } from '@rose/engine';

/** How the answers to a request are read. */
export interface AnswerReading extends AnswerOptions {
  readonly dialect: Dialect;
}

interface CallDelta {
  readonly index: number;
  id?: string;
  type?: 'function';
  readonly function: { name?: string; arguments: string };
}

interface Delta {
  readonly content?: string;
  readonly reasoning_content?: string;
  readonly tool_calls?: readonly CallDelta[];
}

/** What an answer's text says, in the shapes of a chunk's `delta` and of a `message`. */
export class ChatAnswer {
  readonly #dialect: Dialect;
  readonly #parser: AnswerParser;
  readonly #parts: AnswerPart[] = [];
  readonly #ids: string[] = [];

  constructor({ dialect, ...options }: AnswerReading) {
    this.#dialect = dialect;
    this.#parser = new AnswerParser(dialect, options);
  }

  /** The delta that this text makes; undefined while nothing can be said. */
  take(text: string): Delta | undefined {
    return this.#add(this.#parser.push(text));
  }

  /** The delta that remains at the end. */
  end(): Delta | undefined {
    return this.#add(this.#parser.end());
  }

  finishReason(reason: string): string {
    return reason === 'stop' && this.#ids.length > 0 ? 'tool_calls' : reason;
  }

  /** The whole message. */
  message(): object {
    const delta: Delta = this.#delta(this.#parts) ?? {};
    const { content = this.#ids.length > 0 ? null : '', tool_calls: calls, ...rest } = delta;
    // Only pieces need to say which call they belong to.
    const whole = calls?.map(({ id, type, function: called }) => ({ id, type, function: called }));
    return { role: 'assistant', content, refusal: null, ...rest, ...(whole && { tool_calls: whole }) };
  }

  #add(parts: readonly AnswerPart[]): Delta | undefined {
    for (const part of parts) {
      append(this.#parts, part);
      if (part.kind === 'call') this.#ids[part.call] = this.#newId();
    }
    return this.#delta(parts);
  }

  #delta(parts: readonly AnswerPart[]): Delta | undefined {
    if (parts.length === 0) return undefined;
    const text = (kind: 'content' | 'reasoning'): string =>
      parts.map((part) => (part.kind === kind ? part.text : '')).join('');
    const [content, reasoning] = [text('content'), text('reasoning')];
    const calls: CallDelta[] = [];
    for (const part of parts) {
      if (part.kind === 'call') {
        const { call: index, name } = part;
        calls.push({ index, id: this.#ids[index], type: 'function', function: { name, arguments: '' } });
      } else if (part.kind === 'arguments') {
        const last = calls.at(-1);
        if (last === undefined) calls.push({ index: part.call, function: { arguments: part.text } });
        else last.function.arguments += part.text;
      }
    }
    return {
      ...(reasoning !== '' && { reasoning_content: reasoning }),
      ...(content !== '' && { content }),
      ...(calls.length > 0 && { tool_calls: calls }),
    };
  }

  /** Templates of Mistral's models refuse ids that are not nine letters and digits. */
  #newId(): string {
    const random = randomUUID().replaceAll('-', '');
    return this.#dialect.tools === 'mistral' ? random.slice(0, 9) : `call_${random.slice(0, 24)}`;
  }
}
