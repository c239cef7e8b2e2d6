import { ComposedLayout } from './composed.ts';
import { LayoutError } from './error.ts';
import { makeLayout } from './layout.ts';
import { upcast } from './recast.ts';
import { Swizzle } from './swizzle.ts';
import type { AnyLayout } from './composed.ts';

/** Bytes of a row whose 16-byte pieces are exchanged; 16 is CuTe's `INTER`: nothing is exchanged. */
export type SwizzleSpan = 128 | 64 | 32 | 16;

/**
 * The atom of Hopper's shared memory, (MN, K) -> offset in elements: eight rows, contiguous in K or in MN. In bits it is
 * `S<log2(span / 16),7,3> o (8,8 span):(8 span,1)`; CuTe writes the same swizzle `S<.,4,3>` on byte addresses.
 *
 * @param elementBits bits of an element, a divisor of 128
 */
export function smemLayoutAtom(major: 'k' | 'mn', span: SwizzleSpan, elementBits: number): AnyLayout {
  if (128 % elementBits !== 0) throw new LayoutError(`an element of ${elementBits} bits does not divide 16 bytes`);
  const row = span * 8;
  const bits = major === 'k' ? makeLayout([8, row], 'right') : makeLayout([row, 8]);
  return upcast(new ComposedLayout(new Swizzle(Math.log2(span / 16), 7, 3), 0, bits), elementBits);
}
