import { choiceOf, numberOf } from '../ir/attributes.ts';
import type { Node } from '../ir/ir.ts';
import { FLOAT_FORMATS, type SmallFloat } from '../types/numeric.ts';
import { elementAt, putElement } from './access.ts';
import { combine } from './combine.ts';
import { destinations, eachLane, multicastOf } from './copies.ts';
import { startTransfer, type Span } from './engine.ts';
import { located, locate, sharedTarget } from './locate.ts';
import type { Cta, Warp } from './machine.ts';
import { groupsOf } from './warp-state.ts';
import { mapAt } from './map-ops.ts';
import { completeBytes } from './mbarriers.ts';
import { SHARED_BASE } from './memory.ts';
import type { Handler } from './program.ts';
import { readNumber, type Operand } from './registers.ts';
import type { TensorMapState } from './tensor-maps.ts';

/** Tensor copies: boxes between global memory and swizzled tiles of shared memory (PTX ISA 9.0, "Tensor copy"). */

/** Bits of the address that are exchanged: 16-byte pieces [4, 4 + n) by rows of 128 bytes [7, 7 + n). */
const SWIZZLE_MASKS = { none: 0, '32': 0x10, '64': 0x30, '128': 0x70 } as const;

/** An address in shared memory after a swizzle: the hardware exchanges by absolute addresses. */
export function swizzled(address: number, swizzle: keyof typeof SWIZZLE_MASKS): number {
  return address ^ ((address >>> 3) & SWIZZLE_MASKS[swizzle]);
}

/** The first element of a box; for im2col also how far the filter's element lies from its corner. */
interface Start {
  readonly at: readonly number[];
  readonly offsets?: readonly number[];
}

type VisitRun = (packed: number, global: number, bytes: number) => void;

/** Visits a box's elements as runs of bytes: offset in the packed box, and byte in the tensor's region or -1 outside. */
function visitBox(map: TensorMapState, start: Start, visit: VisitRun): void {
  if (map.description.im2col) visitPixels(map, start, visit);
  else visitTiles(map, start.at, visit);
}

/**
 * im2col: pixels one after the other, from the start on through the box between the corners, row by row and image by
 * image; of each the channels from the start's on. PTX ISA, "im2col mode".
 */
function visitPixels(
  { description, elementBytes, strides, steps, start }: TensorMapState,
  { at, offsets }: Start,
  visit: VisitRun,
): void {
  const { shape, box, im2col } = description;
  const [channels, pixels] = box;
  const pixel = [...at];
  const images = shape.length - 1;
  for (let i = 0; i < pixels; i++) {
    let row = start;
    let inside = true;
    for (let d = 1; d <= images; d++) {
      const place = pixel[d] + (d < images ? (offsets?.[d - 1] ?? 0) : 0);
      if (place < 0 || place >= shape[d]) inside = false;
      row += place * strides[d];
    }
    const first = i * channels * elementBytes;
    for (let c = 0; c < channels; c++) {
      const channel = at[0] + c;
      const has = inside && channel >= 0 && channel < shape[0];
      visit(first + c * elementBytes, has ? row + channel * elementBytes : -1, elementBytes);
    }
    let d = 1;
    for (; d < images; d++) {
      pixel[d] += steps[d];
      if (pixel[d] <= shape[d] - 1 + im2col!.upper[d - 1]) break;
      pixel[d] = im2col!.lower[d - 1];
    }
    if (d === images) pixel[d]++;
  }
}

/** @param starts coordinates of the box's first element */
function visitTiles(map: TensorMapState, starts: readonly number[], visit: VisitRun): void {
  const { description, elementBytes, strides, steps, start } = map;
  const { box, shape } = description;
  const counts = box.map((size, i) => Math.ceil(size / steps[i]));
  const index = counts.map(() => 0);
  let packed = 0;
  for (;;) {
    let row = start;
    let inside = true;
    for (let i = 1; i < counts.length; i++) {
      const at = starts[i] + index[i] * steps[i];
      if (at < 0 || at >= shape[i]) inside = false;
      row += at * strides[i];
    }
    if (inside && steps[0] === 1 && starts[0] >= 0 && starts[0] + counts[0] <= shape[0]) {
      visit(packed, row + starts[0] * elementBytes, counts[0] * elementBytes);
    } else {
      for (let i = 0; i < counts[0]; i++) {
        const at = starts[0] + i * steps[0];
        const has = inside && at >= 0 && at < shape[0];
        visit(packed + i * elementBytes, has ? row + at * elementBytes : -1, elementBytes);
      }
    }
    packed += counts[0] * elementBytes;
    let dimension = 1;
    for (; dimension < counts.length; dimension++) {
      if (++index[dimension] < counts[dimension]) break;
      index[dimension] = 0;
    }
    if (dimension >= counts.length) return;
  }
}

/** Calls for each piece of at most 16 bytes: where it lies in shared memory (offset from `tile`, swizzled), and globally. */
function visitTile(
  map: TensorMapState,
  boxes: readonly Start[],
  tile: number,
  visit: (shared: number, global: number, bytes: number) => void,
): void {
  const swizzle = map.description.swizzle ?? 'none';
  let first = 0;
  for (const starts of boxes) {
    visitBox(map, starts, (packed, global, bytes) => {
      for (let i = 0; i < bytes;) {
        const address = SHARED_BASE + tile + first + packed + i;
        const size = Math.min(bytes - i, 16 - (address % 16));
        visit(swizzled(address, swizzle) - SHARED_BASE, global < 0 ? -1 : global + i, size);
        i += size;
      }
    });
    first += map.boxBytes;
  }
}

interface TileOperands {
  readonly coordinates: readonly Operand[];
  readonly offsets: readonly Operand[];
  readonly mode: 'tile' | 'im2col' | 'four';
  /** Operands that it takes. */
  readonly count: number;
}

function tileOperands(node: Node, args: readonly Operand[], first: number): TileOperands {
  const mode = choiceOf(node, 'mode', ['tile', 'im2col', 'gather4', 'scatter4'], 'tile');
  const rank = numberOf(node, 'rank');
  const count = mode === 'tile' || mode === 'im2col' ? rank : 5;
  const shifts = mode === 'im2col' && node.op === 'tma_load' ? rank - 2 : 0;
  return {
    coordinates: args.slice(first, first + count),
    offsets: args.slice(first + count, first + count + shifts),
    mode: mode === 'tile' || mode === 'im2col' ? mode : 'four',
    count: count + shifts,
  };
}

/** First elements of the boxes: one, or those of four rows. Undefined after a finding. */
function boxesOf(
  warp: Warp,
  lane: number,
  node: Node,
  map: TensorMapState,
  { coordinates, offsets, mode }: TileOperands,
): Start[] | undefined {
  const values = coordinates.map((operand) => readNumber(warp, operand, lane));
  const { box, shape, im2col } = map.description;
  const wanted = mode === 'four' ? 2 : values.length;
  if (shape.length !== wanted) {
    warp.report('tensor-map', `${node.op} has ${wanted} coordinates and the tensor map ${shape.length} dimensions`, [
      warp.place(node.op, lane),
    ]);
    return undefined;
  }
  if ((mode === 'im2col') !== (im2col !== undefined)) {
    const given = im2col ? 'for im2col' : 'for tiles';
    warp.report('tensor-map', `${node.op} of mode ${mode} goes through a tensor map ${given}`, [
      warp.place(node.op, lane),
    ]);
    return undefined;
  }
  if (mode !== 'four') return [{ at: values, offsets: offsets.map((operand) => readNumber(warp, operand, lane)) }];
  if (box[1] !== 1) {
    warp.report('tensor-map', `a gather or scatter of four rows needs a box of one row, not ${box[1]}`, [
      warp.place(node.op, lane),
    ]);
    return undefined;
  }
  return values.slice(1).map((row) => ({ at: [values[0], row] }));
}

const NAN_BYTES: Partial<Record<string, number[]>> = {
  f32: [0xff, 0xff, 0xff, 0x7f],
  tf32: [0xff, 0xff, 0xff, 0x7f],
  f64: [255, 255, 255, 255, 255, 255, 255, 127],
};

/** One element that says "outside". */
function fillOf(map: TensorMapState): Uint8Array {
  const bytes = new Uint8Array(map.elementBytes);
  if (map.description.outside !== 'nan') return bytes;
  const { element } = map.description;
  const known = NAN_BYTES[element];
  if (known) bytes.set(known);
  else {
    const bits = FLOAT_FORMATS[element as SmallFloat].nan;
    for (let i = 0; i < bytes.length; i++) bytes[i] = bits >>> (8 * i);
  }
  return bytes;
}

const REPORTS_ELSEWHERE =
  'a copy reports to a barrier of the CTA that it fills; only one of ctaGroup 2 may report to the other CTA of its pair';

/**
 * The CTA whose barrier counts the bytes that come to `to`: with cta_group 2 that of its pair which has the named barrier's
 * place in its own pair, else itself. PTX ISA, "cp.async.bulk.tensor".
 */
function reportsTo(node: Node, to: Cta, named: Cta, multicast: boolean): Cta | undefined {
  if (numberOf(node, 'cta_group', 0) === 2) {
    const told = to.cluster.ctas[(to.rank & ~1) | (named.rank & 1)];
    return multicast || told === named ? told : undefined;
  }
  return multicast || to === named ? to : undefined;
}

/** Tiles lie at multiples of 128 bytes. */
const TILE_ALIGN = 128;

const load: Handler = (node, program) => {
  const args = node.args.map((value) => program.registers.of(value));
  const [to, map, barrier] = args;
  const tile = tileOperands(node, args, 3);
  const mask = multicastOf(node, program, 3 + tile.count);
  return eachLane((warp, lane) => {
    const state = mapAt(warp, lane, map, node);
    const boxes = state && boxesOf(warp, lane, node, state, tile);
    if (!state || !boxes) return;
    const bytes = state.boxBytes * boxes.length;
    const address = readNumber(warp, to, lane);
    if (!locate(warp, lane, to.type, address, { bytes, align: TILE_ALIGN, writes: true })) return;
    const targets = destinations(warp, lane, address, mask);
    const told = sharedTarget(warp, readNumber(warp, barrier, lane));
    const place = told.address - SHARED_BASE;
    const reports = told.cta && targets.map(({ cta }) => reportsTo(node, cta, told.cta!, mask !== undefined));
    if (!reports || reports.includes(undefined)) {
      warp.report('cluster', REPORTS_ELSEWHERE, [warp.place(node.op, lane)]);
      return;
    }
    const fill = fillOf(state);
    const { region } = state;
    const reads: Span[] = [];
    if (region.writes)
      for (const box of boxes)
        visitBox(state, box, (_, global, size) => global >= 0 && reads.push({ region, start: global, bytes: size }));
    startTransfer(warp, lane, node, {
      reads,
      writes: targets.map(({ cta, offset }) => ({ region: cta.shared, start: offset, bytes })),
      move: () => {
        for (const { cta, offset } of targets) {
          const { bytes: memory } = cta.shared;
          visitTile(state, boxes, offset, (shared, global, size) => {
            if (global >= 0) memory.set(region.bytes.subarray(global, global + size), shared);
            else for (let i = 0; i < size; i++) memory[shared + i] = fill[i % fill.length];
          });
        }
      },
      after: (counter) => {
        for (const cta of reports) completeBytes(cta!, place, { node, warp, lane }, bytes, counter);
      },
    });
  });
};

/** Measured on an H100: anything else is an illegal instruction there. Loads may begin anywhere. */
const STORE_ALIGN = 16;
const STORES_BEGIN = `a tensor copy to global memory begins at coordinates that are not negative, the first of them at a multiple of ${STORE_ALIGN} bytes`;

const store: Handler = (node, program) => {
  const args = node.args.map((value) => program.registers.of(value));
  const [map, from] = args;
  const tile = tileOperands(node, args, 2);
  const reduce = node.attributes['reduce'];
  return eachLane((warp, lane) => {
    const state = mapAt(warp, lane, map, node);
    const boxes = state && boxesOf(warp, lane, node, state, tile);
    if (!state || !boxes) return;
    for (const { at } of state.description.im2col ? [] : boxes) {
      if (at.every((coordinate) => coordinate >= 0) && (at[0] * state.elementBytes) % STORE_ALIGN === 0) continue;
      warp.report('tensor-map', `${STORES_BEGIN}, not at (${at.join(', ')})`, [warp.place(node.op, lane)]);
      return;
    }
    const bytes = state.boxBytes * boxes.length;
    const source = locate(warp, lane, from.type, readNumber(warp, from, lane), {
      bytes,
      align: TILE_ALIGN,
      writes: false,
    });
    if (!source) return;
    const offset = located;
    const { region, description, elementBytes } = state;
    // Reductions do not race with each other.
    const writes: Span[] = [];
    for (const box of reduce === undefined ? boxes : [])
      visitBox(state, box, (_, global, size) => global >= 0 && writes.push({ region, start: global, bytes: size }));
    const operation = startTransfer(warp, lane, node, {
      reads: [{ region: source, start: offset, bytes }],
      writes,
      move: () => {
        visitTile(state, boxes, offset, (shared, global, size) => {
          if (global < 0) return;
          if (typeof reduce !== 'string') {
            region.bytes.set(source.bytes.subarray(shared, shared + size), global);
            return;
          }
          for (let i = 0; i < size; i += elementBytes) {
            const type = description.element;
            const sum = combine(
              node,
              reduce,
              type === 'tf32' ? 'f32' : type,
              elementAt(region, global + i, type),
              elementAt(source, shared + i, type),
            );
            putElement(region, global + i, type, sum);
          }
        });
      },
    });
    groupsOf(warp.state.bulk, lane).open.push(operation);
  });
};

export const TMA_HANDLERS: Readonly<Record<string, Handler>> = {
  tma_load: load,
  tma_store: store,
  tma_prefetch: () => () => {},
};
