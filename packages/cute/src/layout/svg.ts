import { LayoutError } from './error.ts';
import type { AnyLayout } from './composed.ts';
import { isDynamic } from './leaf.ts';
import { checkCells, tableExtents, tableIndex } from './print.ts';
import { isTuple, tupleText, type IntTuple } from './tuple.ts';

const CELL = 34;
const MARGIN = 26;
/** Width of a letter of the font, rounded up. */
const LETTER = 6.25;

/** Eight light colours that are told apart, by index or by thread. */
const COLOURS = ['#ffb3ba', '#ffdfba', '#fffdba', '#c9f7c0', '#bae8ff', '#c7c6ff', '#f0c6f5', '#d9d9d9'];

interface Cell {
  readonly lines: readonly string[];
  readonly colour: string;
}

/** The picture of a layout of two modes: the index in each cell, coloured by the index modulo 8. */
export function toSVG(layout: AnyLayout): string {
  const [rows, columns] = tableExtents(layout);
  checkCells('a picture', rows, columns);
  return draw(String(layout), rows, columns, (i, j) => {
    const index = tableIndex(layout, i, j);
    return { lines: [tupleText(index)], colour: typeof index === 'number' ? colourOf(index) : '#ffffff' };
  });
}

/**
 * The picture of a (thread, value) layout over a tile of `rows` by `columns`: each element names the threads and values
 * that hold it, coloured by the thread. Elements that nobody holds stay white.
 */
export function toSVGThreadValues(layoutTV: AnyLayout, tiler: readonly [rows: number, columns: number]): string {
  const [threads, values] = tableExtents(layoutTV);
  const [rows, columns] = tiler;
  checkCells('a picture', rows, columns);
  checkCells('a picture of threads and values', threads, values);
  const held = new Map<number, { thread: number; value: number }[]>();
  for (let thread = 0; thread < threads; thread += 1) {
    for (let value = 0; value < values; value += 1) {
      const element = elementOf(tableIndex(layoutTV, thread, value), rows);
      if (element >= rows * columns) {
        throw new LayoutError(
          `thread ${thread}, value ${value} of ${String(layoutTV)} lies outside ${rows} x ${columns}`,
        );
      }
      const holders = held.get(element) ?? [];
      holders.push({ thread, value });
      held.set(element, holders);
    }
  }
  return draw(`${String(layoutTV)} over (${rows},${columns})`, rows, columns, (i, j) => {
    const holders = held.get(i + j * rows) ?? [];
    const first = holders[0];
    if (first === undefined) return { lines: [], colour: '#ffffff' };
    const more = holders.length > 1 ? '+' : '';
    return { lines: [`T${first.thread}${more}`, `V${first.value}`], colour: colourOf(first.thread) };
  });
}

/** The number of an element in the tile, from its number or from its coordinate. */
function elementOf(index: IntTuple, rows: number): number {
  if (isDynamic(index)) throw new LayoutError('a picture needs known strides');
  if (!isTuple(index)) return index;
  const [row, column] = index;
  if (index.length !== 2 || typeof row !== 'number' || typeof column !== 'number') {
    throw new LayoutError(`${tupleText(index)} is not a row and a column`);
  }
  return row + column * rows;
}

function colourOf(index: number): string {
  return COLOURS[((index % COLOURS.length) + COLOURS.length) % COLOURS.length];
}

function draw(title: string, rows: number, columns: number, cell: (row: number, column: number) => Cell): string {
  const cells = Array.from({ length: rows }, (_row, i) => Array.from({ length: columns }, (_column, j) => cell(i, j)));
  // The longest label and the title must fit.
  const longest = cells.flat().reduce((most, { lines }) => Math.max(most, ...lines.map((line) => line.length)), 0);
  const wide = Math.max(CELL, Math.ceil(longest * LETTER) + 6);
  const width = Math.max(MARGIN + columns * wide + 2, Math.ceil(title.length * LETTER) + 8);
  const height = 2 * MARGIN + rows * CELL + 2;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="monospace" font-size="10" text-anchor="middle">`,
    `<title>${escape(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    `<text x="4" y="14" text-anchor="start">${escape(title)}</text>`,
  ];
  for (let j = 0; j < columns; j += 1) parts.push(text(MARGIN + j * wide + wide / 2, 2 * MARGIN - 6, String(j)));
  for (let i = 0; i < rows; i += 1) {
    const y = 2 * MARGIN + i * CELL;
    parts.push(text(MARGIN / 2, y + CELL / 2 + 4, String(i)));
    for (let j = 0; j < columns; j += 1) {
      const x = MARGIN + j * wide;
      const { lines, colour } = cells[i][j];
      parts.push(`<rect x="${x}" y="${y}" width="${wide}" height="${CELL}" fill="${colour}" stroke="#000000"/>`);
      for (const [k, line] of lines.entries()) {
        parts.push(text(x + wide / 2, y + CELL / 2 + 4 + (k - (lines.length - 1) / 2) * 12, line));
      }
    }
  }
  return `${[...parts, '</svg>'].join('\n')}\n`;
}

function text(x: number, y: number, content: string): string {
  return `<text x="${x}" y="${y}">${escape(content)}</text>`;
}

function escape(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
