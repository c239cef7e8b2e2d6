import type { ModelSpec } from '../../model/spec.ts';
import { splits, UNIT, type FusedOperation } from './fuse.ts';
import { NARROW, NARROW_SCALES } from './narrow.ts';

/** Scratch of attention's launches for answers; see `partSizes`. */
export const ATTENTION_SCRATCH = ['parts', 'stats'] as const;
/** Zeros between launches, so never anybody else's place. */
export const ATTENTION_COUNTERS = 'arrived';

/** What an operation's launches read and write of a step's buffers. Scratch counts as written. */
export function usesOf(
  operation: FusedOperation,
  spec: ModelSpec,
): { readonly reads: readonly string[]; readonly writes: readonly string[] } {
  switch (operation.kind) {
    case 'embed':
      return { reads: [], writes: [operation.output] };
    case 'norm':
      return { reads: named(operation.input, operation.add), writes: withScales([operation.output]) };
    case 'linear':
      return {
        reads: withScales(named(operation.input, operation.residual)),
        writes: [operation.output].flat(),
      };
    case 'quantise':
      return { reads: [operation.input], writes: withScales([NARROW]) };
    case 'cache':
      return { reads: ['qkv'], writes: ['q'] };
    case 'attention': {
      const { rope, qkNorm } = operation.attention;
      const beside = splits({ rope, qkNorm: qkNorm && { norm: qkNorm, q: '', k: '' } }, spec);
      return {
        reads: beside ? ['q', 'keys', 'values'] : ['q'],
        writes: [operation.output, ...(spec.head.kind === 'logits' ? ATTENTION_SCRATCH : [])],
      };
    }
    case 'gather':
    case 'pool':
      return { reads: [operation.input], writes: [operation.output] };
    case 'normalize':
      return { reads: [operation.input], writes: [UNIT] };
  }
}

/**
 * For each operation the buffers whose contents count while it runs: what it reads or writes, and what was written before
 * and is read later. Two buffers that are never in one of these sets may lie in the same place.
 * @param head number of the operation from which on the operations run more than once in a step (targets are judged some
 * at a time): what they read of the ones before stays until the end
 * @param result read when all is done
 */
export function liveBuffers(
  operations: readonly FusedOperation[],
  spec: ModelSpec,
  head: number,
  result: string,
): readonly ReadonlySet<string>[] {
  const uses = operations.map((operation) => usesOf(operation, spec));
  const writtenByHead = new Set(uses.slice(head).flatMap(({ writes }) => writes));
  const readByHead = uses.slice(head).flatMap(({ reads }) => reads);
  const after = new Set([result, ATTENTION_COUNTERS, ...readByHead.filter((name) => !writtenByHead.has(name))]);
  const live: Set<string>[] = [];
  for (const { reads, writes } of uses.toReversed()) {
    live.unshift(new Set([...after, ...reads, ...writes]));
    for (const name of writes) after.delete(name);
    for (const name of reads) after.add(name);
  }
  return live;
}

function withScales(names: readonly string[]): readonly string[] {
  return names.includes(NARROW) ? [...names, NARROW_SCALES] : names;
}

function named(...names: readonly (string | undefined)[]): string[] {
  return names.filter((name) => name !== undefined);
}
