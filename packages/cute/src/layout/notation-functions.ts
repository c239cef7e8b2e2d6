import type { NotationFunction } from './notation-define.ts';
import { LAYOUT_FUNCTIONS } from './notation-layouts.ts';
import { MODE_FUNCTIONS } from './notation-modes.ts';
import { TUPLE_FUNCTIONS } from './notation-tuples.ts';

function byName(functions: readonly NotationFunction[]): Record<string, NotationFunction> {
  return Object.fromEntries(functions.map((fn) => [fn.usage.slice(0, fn.usage.indexOf('(')), fn]));
}

const NAMED = byName([...LAYOUT_FUNCTIONS, ...MODE_FUNCTIONS, ...TUPLE_FUNCTIONS]);

/** Other names under which CuTe, or its Python form, knows the same function. */
const ALIASES: Readonly<Record<string, string>> = {
  make_shape: 'make_tuple',
  make_stride: 'make_tuple',
  make_coord: 'make_tuple',
  make_tile: 'make_tuple',
  make_step: 'make_tuple',
  Shape: 'make_tuple',
  Stride: 'make_tuple',
  Coord: 'make_tuple',
  Tile: 'make_tuple',
  Step: 'make_tuple',
  slice_: 'slice',
  inner_partition: 'local_tile',
  group_modes: 'group',
  make_identity_tensor: 'make_identity_layout',
};

/** All functions of the notation by name. */
export const FUNCTIONS: Readonly<Record<string, NotationFunction>> = {
  ...NAMED,
  ...Object.fromEntries(Object.entries(ALIASES).map(([alias, name]) => [alias, NAMED[name]])),
};

/** The name that was probably meant, as the end of a sentence. */
export function suggestion(name: string): string {
  if (name.length < 3) return '';
  const near = Object.keys(FUNCTIONS).find((known) => distance(known, name.toLowerCase()) <= 2);
  return near === undefined ? '' : `; did you mean ${near}?`;
}

/** Letters to insert, leave out or change until `a` is `b`. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_value, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const change = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, row[j] + 1, next[j - 1] + 1));
    }
    row = next;
  }
  return row[b.length];
}
