import type { GenerateEvent, Prompt, ServedModel } from '@rose/engine';
import { LegacyLogprobsWriter, promptLogprobs, type LegacyLogprobs } from './logprobs.ts';
import { usageOf, type Usage } from './usage.ts';

/** A piece of one choice: what a chunk of a stream says of it, and what adds up to the whole. */
export interface ChoicePiece {
  readonly index: number;
  readonly text: string;
  readonly logprobs: LegacyLogprobs | null;
  readonly finish_reason: string | null;
  readonly stop_reason?: string | number | null;
  readonly prompt_logprobs?: ReturnType<typeof promptLogprobs>;
}

/** What a body says of how its choices are told. */
export interface ChoiceFields {
  readonly n?: number | null | undefined;
  readonly echo?: boolean | null | undefined;
  readonly logprobs?: number | null | undefined;
  readonly prompt_logprobs?: number | null | undefined;
  readonly skip_special_tokens?: boolean | null | undefined;
}

/** The choices of a completion, numbered through all its prompts: n for each. */
export class Choices {
  readonly #model: ServedModel;
  readonly #body: ChoiceFields;
  readonly #prompts: readonly Prompt[];
  readonly #count: number;
  readonly #writers: LegacyLogprobsWriter[] = [];
  #promptTokens = 0;
  #cachedTokens = 0;
  #generatedTokens = 0;

  constructor(model: ServedModel, body: ChoiceFields, prompts: readonly Prompt[]) {
    this.#model = model;
    this.#body = body;
    this.#prompts = prompts;
    this.#count = body.n ?? 1;
  }

  /** Whether log-probabilities are told. */
  get told(): boolean {
    return typeof this.#body.logprobs === 'number';
  }

  /** Tokens of all choices so far. */
  get usage(): Usage {
    return usageOf(this.#promptTokens, this.#generatedTokens, this.#cachedTokens);
  }

  /** What an event says of the choices of the prompt numbered `source`. */
  async take(source: number, event: GenerateEvent): Promise<ChoicePiece[]> {
    if (event.kind === 'start') {
      this.#promptTokens += event.promptTokens;
      this.#cachedTokens += event.cachedTokens;
      return await this.#begin(source, event);
    }
    const index = source * this.#count + event.index;
    if (event.kind === 'end') {
      this.#generatedTokens += event.generatedTokens;
      const end = { finish_reason: event.reason, stop_reason: event.stop ?? null };
      return [{ index, text: '', logprobs: null, ...end }];
    }
    const { text, tokens } = event;
    const logprobs = this.told ? this.#writer(index).write(tokens) : null;
    return text === '' && logprobs === null ? [] : [{ index, text, logprobs, finish_reason: null }];
  }

  /** What stands before the answers, which is the same for all of a prompt. */
  async #begin(source: number, { prompt, judged }: Extract<GenerateEvent, { kind: 'start' }>): Promise<ChoicePiece[]> {
    const { echo, prompt_logprobs: most } = this.#body;
    const own = judged !== undefined && typeof most === 'number';
    if (echo !== true && !own) return [];
    const { text: codec, vocabulary } = this.#model;
    const given = this.#prompts[source];
    const keepSpecial = this.#body.skip_special_tokens === false;
    const echoed = given.kind === 'text' ? given.text : await codec.decode(prompt, { keepSpecial });
    const judgement = own ? { prompt_logprobs: promptLogprobs(judged, vocabulary, most) } : {};
    return Array.from({ length: this.#count }, (_, i) => {
      const index = source * this.#count + i;
      const logprobs =
        echo === true && judged !== undefined && this.told ? this.#writer(index).writePrompt(prompt, judged) : null;
      return { index, text: echo === true ? echoed : '', logprobs, finish_reason: null, ...judgement };
    });
  }

  #writer(index: number): LegacyLogprobsWriter {
    const { skip_special_tokens: skip, logprobs } = this.#body;
    return (this.#writers[index] ??= new LegacyLogprobsWriter(this.#model.vocabulary, skip === false, logprobs ?? 0));
  }
}
