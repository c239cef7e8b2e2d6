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

/** A directory of its own for the temporary files of one test; gives its path. */
export function useTemporaryDirectory(t: TestContext): string {
  const before = process.env.TMPDIR;
  const directory = join(makeRepository(t, {}), 'tmp');
  mkdirSync(directory);
  process.env.TMPDIR = directory;
  t.after(() => {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  });
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

/** A step in a configuration: the model, then which tensor is which input and output. */
export function step(name: string, inputs: Record<string, string>, outputs: Record<string, string>, more = ''): string {
  const map = (kind: string, entries: Record<string, string>): string =>
    Object.entries(entries)
      .map(([key, value]) => `${kind}_map { key: "${key}" value: "${value}" }`)
      .join(' ');
  return `step { model_name: "${name}" model_version: -1 ${map('input', inputs)} ${map('output', outputs)} ${more} }`;
}

/** An ensemble with input IN and output OUT. */
export function ensemble(steps: string, more = 'max_batch_size: 0', type = 'TYPE_INT32'): string {
  return `${config(type, more).replace('backend: "typescript"', 'platform: "ensemble"')}
    ensemble_scheduling { ${steps} }`;
}

/** Files of a repository: a model's configuration, and its code unless it is an ensemble. */
export type Models = Readonly<Record<string, readonly [config: string, source?: string]>>;

/** A repository of models, each with the one version 1. */
export function modelFiles(t: TestContext, models: Models): string {
  const files = Object.entries(models).flatMap(([name, [text, source]]) => [
    [`${name}/config.pbtxt`, text],
    source === undefined ? [`${name}/1/.empty`, ''] : [`${name}/1/model.ts`, source],
  ]);
  return makeRepository(t, Object.fromEntries(files) as Record<string, string>);
}
