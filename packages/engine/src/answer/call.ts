import { JsonReader, parseString } from './json.ts';
import { isSpace } from './parts.ts';

/** Keys that a call may have, besides its name, before it is known to be one. */
const ARGUMENTS = new Set(['arguments', 'parameters']);
const OTHERS = new Set(['type', 'id']);

export interface CallListener {
  /** The call's name is known. False: this is no call. */
  name(name: string): boolean;
  arguments(text: string): void;
}

/**
 * Reads one call of a tool: an object with `name` and `arguments` (or `parameters`), in any order. The arguments go out
 * as they come, once the name is known.
 *
 * - `no call`: what was read is something else, and nothing was said of it;
 * - `broken`: the name was told, but the JSON went wrong with this character.
 */
export class CallReader {
  readonly #json = new JsonReader();
  readonly #listener: CallListener;
  #named = false;
  #hasArguments = false;
  /** Arguments that came before the name, or a string of JSON that is not complete. */
  #waiting = '';
  /** The value that is being read, for the name and for arguments that are a string. */
  #value = '';
  #reading: 'name' | 'arguments' | 'string of arguments' | undefined;

  constructor(listener: CallListener) {
    this.#listener = listener;
  }

  get named(): boolean {
    return this.#named;
  }

  push(character: string): 'more' | 'done' | 'no call' | 'broken' {
    const json = this.#json;
    const wasDone = json.done;
    const before = json.beforeValue && !isSpace(character) ? json.key : undefined;
    if (wasDone || !json.push(character)) return this.#fail();
    if (json.depth === 0 && !json.done) return this.#fail();
    if (before !== undefined && !this.#begin(before, character)) return this.#fail();
    if (this.#reading !== undefined && !this.#read(character)) return this.#fail();
    if (!json.done) return 'more';
    if (!this.#named) return 'no call';
    if (!this.#hasArguments) this.#listener.arguments('{}');
    return 'done';
  }

  #fail(): 'no call' | 'broken' {
    return this.#named ? 'broken' : 'no call';
  }

  /** The value of a key of the outermost object begins. */
  #begin(key: string, character: string): boolean {
    this.#value = '';
    if (key === 'name') {
      this.#reading = 'name';
      return character === '"' && !this.#named;
    }
    if (ARGUMENTS.has(key)) {
      this.#reading = character === '"' ? 'string of arguments' : 'arguments';
      const first = !this.#hasArguments;
      this.#hasArguments = true;
      return first;
    }
    return this.#named || OTHERS.has(key);
  }

  #read(character: string): boolean {
    // A value of the outermost object ends where the object itself goes on.
    const ended = this.#json.depth <= 1 && this.#json.key === undefined;
    const outside = ended && (character === ',' || isSpace(character) || this.#json.depth === 0);
    switch (this.#reading) {
      case 'name': {
        this.#value += character;
        if (!ended) return true;
        this.#reading = undefined;
        const name = parseString(this.#value.slice(1, -1));
        if (name === undefined || name === '' || !this.#listener.name(name)) return false;
        this.#named = true;
        this.#arguments('');
        return true;
      }
      case 'string of arguments': {
        this.#value += character;
        if (!ended) return true;
        this.#reading = undefined;
        const text = parseString(this.#value.slice(1, -1));
        if (text === undefined) return false;
        this.#arguments(text);
        return true;
      }
      case 'arguments':
        // Only a number is followed by what ends it.
        if (!outside) this.#arguments(character);
        if (ended) this.#reading = undefined;
        return true;
      case undefined:
        return true;
    }
  }

  #arguments(text: string): void {
    this.#waiting += text;
    if (!this.#named || this.#waiting === '') return;
    this.#listener.arguments(this.#waiting);
    this.#waiting = '';
  }
}
