import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { RoseError } from '../errors.ts';

/** No configuration file comes near this; a tokenizer is not read here. A sharded index of 100k tensors is 10 MB. */
const MAX_JSON_BYTES = 64_000_000;

/**
 * A JSON file of a model directory, checked against a schema; undefined if there is no such file. Throws a RoseError
 * that names the file and each offending field.
 */
export async function readJson<T extends z.ZodType>(
  directory: string,
  file: string,
  schema: T,
): Promise<z.output<T> | undefined> {
  const path = join(directory, file);
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new RoseError('invalid', `${path}: cannot be read (${code})`, { cause });
  }
  if (bytes.byteLength > MAX_JSON_BYTES) {
    throw new RoseError('invalid', `${path}: ${bytes.byteLength} bytes is too much for this file`);
  }
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new RoseError('invalid', `${path}: not valid JSON: ${why}`, { cause });
  }
  return checkJson(path, schema, value);
}

/** `value` as the schema's type. Throws a RoseError that lists the fields that do not fit. */
export function checkJson<T extends z.ZodType>(path: string, schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value, { error: describeIssue });
  if (result.success) return result.data;
  const issues = result.error.issues.map(({ path: field, message }) => {
    const name = field.map(String).join('.');
    return name === '' ? message : `"${name}": ${message}`;
  });
  throw new RoseError('invalid', `${path}: ${shorten(issues, '; ', 5)}`);
}

/** zod's own sentence, with "is missing" for what is not there and what was found for what is. */
function describeIssue(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.input === undefined) return 'is missing';
  const found = JSON.stringify(issue.input)?.slice(0, 80);
  if (issue.code === 'invalid_type') return `should be ${expectedOf(issue)}, is ${found}`;
  if (issue.code === 'too_small')
    return `should be ${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}, is ${found}`;
  if (issue.code === 'too_big')
    return `should be ${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}, is ${found}`;
  return undefined;
}

function expectedOf(issue: { expected?: string }): string {
  return issue.expected === 'int' ? 'a whole number' : `of type ${issue.expected}`;
}

/** The first few of a list, and how many more there are. */
export function shorten(items: readonly string[], separator: string = ', ', most: number = 6): string {
  if (items.length <= most) return items.join(separator);
  return `${items.slice(0, most).join(separator)}${separator}and ${items.length - most} more`;
}
