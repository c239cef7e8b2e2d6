import { isLayout } from './composed.ts';
import { LayoutError } from './error.ts';
import { Layout } from './layout.ts';
import { asLayout, formatValue, isList, type Value } from './notation-value.ts';
import { print } from './print.ts';
import { toSVG, toSVGThreadValues } from './svg.ts';

/** The picture of a layout, or of what `make_layout_tv` gives: the extents of a tile and its thread-value layout. */
export function drawValue(value: Value): string {
  if (isList(value) && value.length === 2 && value[1] instanceof Layout) {
    const [tile, layout] = value;
    const [rows, columns] = isList(tile) ? tile : [];
    if (typeof rows !== 'number' || typeof columns !== 'number') {
      throw new LayoutError(`a picture needs a tile of two known extents, not ${formatValue(tile)}`);
    }
    return toSVGThreadValues(layout, [rows, columns]);
  }
  if (!isLayout(value)) throw new LayoutError(`only layouts can be drawn, not ${formatValue(value)}`);
  return toSVG(value);
}

/** The table of a layout's indices. */
export function tableOfValue(value: Value): string {
  return print(asLayout(value));
}
