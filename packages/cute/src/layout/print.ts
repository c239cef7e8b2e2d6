import type { AnyLayout } from './composed.ts';
import { LayoutError } from './error.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import { tupleText, type IntTuple } from './tuple.ts';

/** A table or a picture with more cells than this serves nobody. */
const MOST_CELLS = 65_536;

/** Refuses what would be too large to look at; `what` begins the sentence. */
export function checkCells(what: string, rows: number, columns: number): void {
  if (rows * columns <= MOST_CELLS) return;
  throw new LayoutError(`${what} of ${rows} x ${columns} cells is too large; ${MOST_CELLS} cells at most`);
}

/** Numbers of rows and columns of a layout's picture: its modes 0 and 1; a layout of one mode is a column. */
export function tableExtents(layout: AnyLayout): readonly [rows: number, columns: number] {
  if (layout.rank > 2) {
    throw new LayoutError(`${String(layout)} has ${layout.rank} modes; a table has two: slice or group it first`);
  }
  const rows = layout.rank === 0 ? 1 : layout.mode(0).size;
  const columns = layout.rank === 2 ? layout.mode(1).size : 1;
  return [known(layout, rows), known(layout, columns)];
}

function known(layout: AnyLayout, extent: Leaf): number {
  if (isDynamic(extent)) throw new LayoutError(`${String(layout)} has a dynamic extent; a table needs known ones`);
  return extent;
}

/** The index at row and column of the table. */
export function tableIndex(layout: AnyLayout, row: number, column: number): IntTuple {
  return layout.rank === 2 ? layout.coordAt(row, column) : layout.coordAt(row);
}

/** The indices of a layout of two modes as a table, as CuTe's `print_layout` draws it. */
export function print(layout: AnyLayout): string {
  const [rows, columns] = tableExtents(layout);
  checkCells('a table', rows, columns);
  const cells = Array.from({ length: rows }, (_row, i) =>
    Array.from({ length: columns }, (_column, j) => tupleText(tableIndex(layout, i, j))),
  );
  const width = cells.flat().reduce((most, cell) => Math.max(most, cell.length), String(columns - 1).length);
  const label = Math.max(2, String(rows - 1).length);
  const margin = label + 2;
  const rule = `${' '.repeat(margin)}${`+${'-'.repeat(width + 2)}`.repeat(columns)}+`;
  const head = Array.from({ length: columns }, (_column, j) => `  ${String(j).padStart(width)} `).join('');
  const lines = [String(layout), `${' '.repeat(margin)}${head}`, rule];
  for (const [i, row] of cells.entries()) {
    lines.push(`${String(i).padStart(label)}  ${row.map((cell) => `| ${cell.padStart(width)} `).join('')}|`, rule);
  }
  return `${lines.join('\n')}\n`;
}
