import { readFileSync } from 'node:fs';
import type { Choice, KernelCase } from '@rose/kernels';
import { CommandError, ExitCode } from '../errors.ts';

/** A case of a kernel by its name, as lists of shapes have it. */
export interface Shape extends KernelCase {
  readonly kernel: string;
}

const FIELDS = ['kernel', 'dims', 'options'];

/**
 * A list of shapes: JSON, `[{ "kernel": "linear", "dims": { "rows": [512, 2048], "columns": 4096, "depth": 4096 },
 * "options": { "leaves": [1, 8] } }]`. Where a value is a list, there is a shape for each, and for each with each. Throws
 * CommandError.
 */
export function readShapes(path: string): Shape[] {
  const wrong = (what: string, cause?: unknown): CommandError => {
    return new CommandError(ExitCode.usage, `${path}: ${what}.`, { cause });
  };
  let list: unknown;
  try {
    list = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw wrong(`no list of shapes can be read (${(error as Error).message})`, error);
  }
  if (!Array.isArray(list)) throw wrong('a list of shapes is a JSON array of objects');
  return list.flatMap((item: unknown, i) => {
    const at = `shape ${i + 1}`;
    if (!isRecord(item)) throw wrong(`${at} is no object`);
    const unknown = Object.keys(item).find((name) => !FIELDS.includes(name));
    if (unknown !== undefined) throw wrong(`${at} has ${unknown}; there are ${FIELDS.join(', ')}`);
    const { kernel, dims, options = {} } = item;
    if (typeof kernel !== 'string') throw wrong(`${at} names no kernel`);
    if (!isRecord(dims) || !isRecord(options))
      throw wrong(`${at} needs dims, sizes by name; options are an object, too`);
    return product(options).flatMap((chosen) =>
      product(dims).map((sizes): Shape => ({ kernel, dims: sizes as Record<string, number>, options: chosen })),
    );
  });
}

/** Each value of one name with each of the others. */
function product(lists: Readonly<Record<string, unknown>>): Record<string, Choice>[] {
  return Object.entries(lists).reduce<Record<string, Choice>[]>(
    (before, [name, value]) =>
      before.flatMap((one) => (Array.isArray(value) ? value : [value]).map((v: Choice) => ({ ...one, [name]: v }))),
    [{}],
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
