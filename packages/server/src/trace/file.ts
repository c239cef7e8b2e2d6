import { open, writeFile, type FileHandle } from 'node:fs/promises';

/** A trace file: one JSON array, whole after every write, and numbered ones beside it. Writes happen in their order. */
export class TraceFile {
  readonly path: string;
  readonly #onError: (error: unknown) => void;
  #last: Promise<void> = Promise.resolve();
  #handle: FileHandle | undefined;
  /** Where the array ends. */
  #end = 0;
  #index = 0;

  /** @param onError told what could not be written */
  constructor(path: string, onError: (error: unknown) => void) {
    this.path = path;
    this.#onError = onError;
  }

  /** @param objects JSON objects, separated by commas */
  append(objects: string): void {
    this.#then(async () => {
      this.#handle ??= await open(this.path, 'w');
      const bytes = Buffer.from(`${this.#end === 0 ? '[' : ','}${objects}]`);
      await this.#handle.write(bytes, 0, bytes.length, this.#end);
      this.#end += bytes.length - 1;
    });
  }

  /** Write `PATH.0`, `PATH.1`... */
  writeNext(objects: string): void {
    const path = `${this.path}.${this.#index++}`;
    this.#then(() => writeFile(path, `[${objects}]`));
  }

  async close(): Promise<void> {
    this.#then(async () => this.#handle?.close());
    await this.#last;
  }

  #then(write: () => Promise<void>): void {
    this.#last = this.#last.then(write).catch(this.#onError);
  }
}
