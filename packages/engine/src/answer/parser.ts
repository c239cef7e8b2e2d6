import { TOOL_CONTROLS, type Dialect } from './dialect.ts';
import { HermesReader } from './hermes.ts';
import { LlamaReader } from './llama.ts';
import { MistralReader } from './mistral.ts';
import type { AnswerPart, Emit, TextReader } from './parts.ts';
import { ReasoningReader } from './reasoning.ts';
import { PartWriter } from './writer.ts';

export interface AnswerOptions {
  /** Names of the tools that the model may call; undefined: calls are not looked for. */
  readonly tools?: readonly string[] | undefined;
  /** The prompt ends with the tag that opens the reasoning. Default false. */
  readonly reasoningOpened?: boolean;
  /** Keep only the first call. Default false. */
  readonly oneCall?: boolean;
}

/** Reads one answer's text, in any pieces, as reasoning, content and calls of tools. */
export class AnswerParser {
  readonly #reader: TextReader;
  #parts: AnswerPart[] = [];

  constructor(dialect: Dialect, { tools, reasoningOpened = false, oneCall = false }: AnswerOptions) {
    const emit: Emit = (part) => {
      if (oneCall && 'call' in part && part.call > 0) return;
      append(this.#parts, part);
    };
    const content = contentReader(dialect, tools, emit);
    const { reasoning } = dialect;
    this.#reader = reasoning === undefined ? content : new ReasoningReader(reasoning, reasoningOpened, emit, content);
  }

  /** What this text completes; neighbours of one kind are one part. */
  push(text: string): AnswerPart[] {
    this.#reader.push(text);
    return this.#take();
  }

  /** What was held back, at the end of the answer. */
  end(): AnswerPart[] {
    this.#reader.end();
    return this.#take();
  }

  #take(): AnswerPart[] {
    const parts = this.#parts;
    this.#parts = [];
    return parts;
  }
}

/** Control tokens whose text the parser needs. */
export function controlsOf({ tools, reasoning }: Dialect, withTools: boolean): string[] {
  return [
    ...(tools !== undefined && withTools ? TOOL_CONTROLS[tools] : []),
    ...(reasoning === undefined ? [] : [reasoning.open, reasoning.close]),
  ];
}

function contentReader(dialect: Dialect, tools: readonly string[] | undefined, emit: Emit): TextReader {
  const format = tools === undefined ? undefined : dialect.tools;
  switch (format) {
    case 'hermes':
      return new HermesReader(new PartWriter(emit));
    case 'mistral':
      return new MistralReader(new PartWriter(emit));
    case 'llama3': {
      const names = new Set(tools);
      return new LlamaReader(new PartWriter(emit, (name) => names.has(name)), names);
    }
    case undefined:
      return {
        push: (text) => {
          if (text !== '') emit({ kind: 'content', text });
        },
        end: () => {},
      };
  }
}

/** Adds a part, joined with the last one where they are of one kind. */
export function append(parts: AnswerPart[], part: AnswerPart): void {
  const last = parts.at(-1);
  if (last === undefined || last.kind !== part.kind || part.kind === 'call' || last.kind === 'call') parts.push(part);
  else parts[parts.length - 1] = { ...last, text: last.text + part.text };
}
