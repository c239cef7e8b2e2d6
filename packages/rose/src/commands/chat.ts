import { createInterface, type Interface } from 'node:readline/promises';
import { Command } from 'commander';
import type { ChatMessage, ServedModel } from '@rose/engine';
import { explain, exitCodeOf, ExitCode } from '../errors.ts';
import { withModel } from '../models.ts';
import {
  addDeviceOptions,
  addSamplingOptions,
  samplingRequest,
  type DeviceOptions,
  type SamplingOptions,
} from '../options.ts';
import { bold, dim, say } from '../output.ts';
import { streamAnswer } from './generate.ts';

type Options = DeviceOptions & SamplingOptions & { system?: string };

/** `rose chat`: a conversation on the terminal, or one turn for each line of stdin. */
export function chatCommand(): Command {
  const command = new Command('chat')
    .description('talk with a model')
    .argument('[model]', 'a model that generates text', 'tiny-chat')
    .option('--system <text>', 'what the model should know or be, before the first message');
  addSamplingOptions(command);
  return addDeviceOptions(command)
    .addHelpText(
      'after',
      '\nOn a terminal Ctrl-C stops an answer and /help lists the commands. Otherwise each line of stdin is a message:\n' +
        '  echo "Tell me a story about a bear" | rose chat',
    )
    .action(chat);
}

const COMMANDS = `/reset  forget the conversation
/exit   leave (Ctrl-D does so too)
Ctrl-C stops an answer.`;

async function chat(name: string, options: Options): Promise<void> {
  await withModel(name, 'generate', options, async (model, signal) => {
    const lines = createInterface({
      input: process.stdin,
      // People's words are not results: what they type is echoed beside the prompt, on stderr.
      output: process.stderr,
      terminal: process.stdin.isTTY && process.stderr.isTTY,
      prompt: bold('> '),
    });
    signal.addEventListener('abort', () => lines.close(), { once: true });
    try {
      await new Conversation(model, lines, signal, options).run();
    } finally {
      lines.close();
    }
  });
}

class Conversation {
  readonly #model: ServedModel;
  readonly #lines: Interface;
  readonly #ended: AbortSignal;
  readonly #options: Options;
  readonly #interactive: boolean;
  #messages: ChatMessage[] = [];
  /** Ctrl-D may come while an answer runs; lines typed before it still count. */
  #closed = false;
  /** Stops the answer that is under way. */
  #answering: AbortController | undefined;

  constructor(model: ServedModel, lines: Interface, ended: AbortSignal, options: Options) {
    this.#model = model;
    this.#lines = lines;
    this.#ended = ended;
    this.#options = options;
    this.#interactive = lines.terminal;
    this.#reset();
  }

  async run(): Promise<void> {
    this.#lines.once('close', () => (this.#closed = true));
    if (this.#interactive) {
      say(dim(`${this.#model.name} (${this.#model.spec.contextLength} tokens of context); /help lists the commands`));
      this.#lines.on('SIGINT', () => this.#interrupt());
      this.#lines.prompt();
    }
    for await (const line of this.#lines) {
      if (!(await this.#take(line.trim()))) return;
      if (this.#ended.aborted) return;
      if (this.#interactive && !this.#closed) this.#lines.prompt();
    }
    if (this.#interactive && !this.#ended.aborted) say('');
  }

  /** Ctrl-C: stop the answer, or else what has been typed, or else the conversation. */
  #interrupt(): void {
    if (this.#answering) {
      this.#answering.abort();
    } else if (this.#lines.line === '') {
      this.#lines.close();
    } else {
      this.#lines.write(null, { ctrl: true, name: 'e' });
      this.#lines.write(null, { ctrl: true, name: 'u' });
    }
  }

  /** Returns false to leave. */
  async #take(line: string): Promise<boolean> {
    if (line === '') return true;
    if (line === '/exit' || line === '/quit') return false;
    if (line === '/reset') this.#reset();
    else if (line === '/help') say(COMMANDS);
    else if (this.#interactive && line.startsWith('/')) say(`there is no command ${line}\n${COMMANDS}`);
    else await this.#answer(line);
    return true;
  }

  #reset(): void {
    const { system } = this.#options;
    this.#messages = system === undefined ? [] : [{ role: 'system', content: system }];
  }

  async #answer(content: string): Promise<void> {
    this.#answering = new AbortController();
    const messages: ChatMessage[] = [...this.#messages, { role: 'user', content }];
    try {
      const answer = await streamAnswer(this.#model, {
        ...samplingRequest(this.#options),
        prompt: { kind: 'messages', messages, addGenerationPrompt: true },
        signal: AbortSignal.any([this.#ended, this.#answering.signal]),
      });
      this.#messages = [...messages, { role: 'assistant', content: answer }];
    } catch (error) {
      // A person can say something else, or shorter; a script should know.
      if (!this.#interactive || exitCodeOf(error) !== ExitCode.usage) throw error;
      say(`${explain(error)} (/reset forgets the conversation.)`);
    } finally {
      this.#answering = undefined;
    }
  }
}
