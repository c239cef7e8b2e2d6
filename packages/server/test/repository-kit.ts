import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';

/** A repository of files, given by their paths in it, for the time of one test. */
export function makeRepository(t: TestContext, files: Readonly<Record<string, string>>): string {
  const directory = mkdtempSync(join(tmpdir(), 'rose-repository-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  write(directory, files);
  return directory;
}

/** Add files or put others in their place. */
export function write(directory: string, files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    const file = join(directory, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }
}

/** The configuration of a model with one input and one output of any length; `more` is further text of its own. */
export function config(type: string, more = 'max_batch_size: 0'): string {
  return `backend: "typescript"
input { name: "IN" data_type: ${type} dims: -1 }
output { name: "OUT" data_type: ${type} dims: -1 }
${more}`;
}

/** A model that answers each request with what `expression` makes of `request`, an object of outputs. */
export function model(expression: string, members = ''): string {
  return `import { ModelError, shared, tensor, texts } from '@rose/server/backend';
export default class {
  ${members}
  async execute(requests) {
    return Promise.all(requests.map(async (request) => ({ outputs: ${expression} })));
  }
}`;
}

/** OUT is IN. */
export const IDENTITY: string = model("{ OUT: request.input('IN') }");

/** The body of a request with one INT32 input of one dimension. */
export function numbers(...data: number[]): object {
  return { inputs: [{ name: 'IN', datatype: 'INT32', shape: [data.length], data }] };
}
