import { combine, compare, loop, newSlot, readSlot, special, when, writeSlot, type Int } from '../atoms/record.ts';

/**
 * A grid of fewer CTAs than tiles that stays: CTA i computes tiles i, i + CTAs, i + 2 CTAs, ... What is set up before
 * it (barriers, descriptors) is set up once, and loads of the next tile can run beside the end of this one.
 *
 * @param ctas CTAs of a cluster, which work on the same tiles; a power of two
 */
export function persistentTiles(count: Int, body: (tile: Int) => void, ctas: number = 1): void {
  const tile = newSlot('i32', 'tile');
  const shift = Math.log2(ctas);
  if (!Number.isInteger(shift))
    throw new RangeError(`tiles are walked by clusters of a power of two CTAs, not ${ctas}`);
  const clusters = (of: Int): Int => (shift === 0 ? of : combine('shr', of, shift));
  writeSlot(tile, clusters(special('ctaid.x')));
  loop(
    `tiles${tile.id}`,
    (leave) => {
      const current = readSlot(tile);
      when(compare('ge', current, count), leave);
      body(current);
    },
    () => writeSlot(tile, combine('add', readSlot(tile), clusters(special('nctaid.x')))),
  );
}

/**
 * The row and column of a tile of a matrix, so that tiles that run at one time share operands in L2: bands of `band` rows
 * of tiles, walked column by column.
 *
 * @param tile number of the tile, from 0
 * @param rows of tiles, known while tracing
 * @param columns of tiles
 */
export function bandedTile(tile: Int, rows: number, columns: Int, band: number): { row: Int; column: Int } {
  const height = Math.min(band, rows);
  if (!Number.isInteger(height) || height < 1)
    throw new RangeError(`a band has at least one row of tiles, not ${band}`);
  const perBand = combine('mul', columns, height);
  const bandNumber = combine('div', tile, perBand);
  const inside = combine('rem', tile, perBand);
  const first = combine('mul', bandNumber, height);
  if (rows % height === 0) {
    return { row: combine('add', first, combine('rem', inside, height)), column: combine('div', inside, height) };
  }
  // The last band may be lower.
  const actual = combine('min', combine('sub', rows, first), height);
  return { row: combine('add', first, combine('rem', inside, actual)), column: combine('div', inside, actual) };
}
