import { choiceOf, numberOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import type { Node } from '../ir/ir.ts';
import { FLOAT_FORMATS, type SmallFloat } from '../types/numeric.ts';
import { elementAt, putElement } from './access.ts';
import { combine } from './combine.ts';
import { destinations, eachLane, multicastOf } from './copies.ts';
import { startTransfer, type Span } from './engine.ts';
import { located, locate, MAP_WINDOW, sharedTarget } from './locate.ts';
import { groupsOf, type Warp } from './machine.ts';
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

/** The map that a generic address means; undefined after a finding. */
function mapAt(warp: Warp, lane: number, operand: Operand, node: Node): TensorMapState | undefined {
  const address = readNumber(warp, operand, lane);
  const map = warp.cta.cluster.machine.maps[(address - MAP_WINDOW) / 128];
  if (!map) {
    warp.report(
      'tensor-map',
      `${node.op} takes the address of a tensor map parameter; maps in memory are not simulated`,
      [warp.place(node.op, lane)],
    );
  }
  return map;
}

/**
 * Visits a box's elements as runs of bytes: offset in the packed box, and byte in the tensor's region or -1 outside.
 *
 * @param starts coordinates of the box's first element
 */
function visitBox(
  map: TensorMapState,
  starts: readonly number[],
  visit: (packed: number, global: number, bytes: number) => void,
): void {
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
  boxes: readonly (readonly number[])[],
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
  readonly mode: 'tile' | 'four';
}

function tileOperands(node: Node, args: readonly Operand[], first: number): TileOperands {
  const mode = choiceOf(node, 'mode', ['tile', 'im2col', 'gather4', 'scatter4'], 'tile');
  if (mode === 'im2col') throw new KernelError(`${node.op} with im2col is not simulated`, node.position);
  const count = mode === 'tile' ? numberOf(node, 'rank') : 5;
  return { coordinates: args.slice(first, first + count), mode: mode === 'tile' ? 'tile' : 'four' };
}

/** First elements of the boxes: one, or those of four rows. Undefined after a finding. */
function boxesOf(
  warp: Warp,
  lane: number,
  node: Node,
  map: TensorMapState,
  { coordinates, mode }: TileOperands,
): number[][] | undefined {
  const values = coordinates.map((operand) => readNumber(warp, operand, lane));
  const { box } = map.description;
  const wanted = mode === 'tile' ? values.length : 2;
  if (box.length !== wanted) {
    warp.report('tensor-map', `${node.op} has ${wanted} coordinates and the tensor map ${box.length} dimensions`, [
      warp.place(node.op, lane),
    ]);
    return undefined;
  }
  if (mode === 'tile') return [values];
  if (box[1] !== 1) {
    warp.report('tensor-map', `a gather or scatter of four rows needs a box of one row, not ${box[1]}`, [
      warp.place(node.op, lane),
    ]);
    return undefined;
  }
  return values.slice(1).map((row) => [values[0], row]);
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

/** Tiles lie at multiples of 128 bytes. */
const TILE_ALIGN = 128;

const load: Handler = (node, program) => {
  const args = node.args.map((value) => program.registers.of(value));
  const [to, map, barrier] = args;
  const tile = tileOperands(node, args, 3);
  const mask = multicastOf(node, program, 3 + tile.coordinates.length);
  return eachLane((warp, lane) => {
    const state = mapAt(warp, lane, map, node);
    const boxes = state && boxesOf(warp, lane, node, state, tile);
    if (!state || !boxes) return;
    const bytes = state.boxBytes * boxes.length;
    const address = readNumber(warp, to, lane);
    if (!locate(warp, lane, to.type, address, { bytes, align: TILE_ALIGN, writes: true })) return;
    const targets = destinations(warp, lane, address, mask);
    const place = sharedTarget(warp, readNumber(warp, barrier, lane)).address - SHARED_BASE;
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
        for (const { cta } of targets) completeBytes(cta, place, { node, warp, lane }, bytes, counter);
      },
    });
  });
};

const store: Handler = (node, program) => {
  const args = node.args.map((value) => program.registers.of(value));
  const [map, from] = args;
  const tile = tileOperands(node, args, 2);
  const reduce = node.attributes['reduce'];
  return eachLane((warp, lane) => {
    const state = mapAt(warp, lane, map, node);
    const boxes = state && boxesOf(warp, lane, node, state, tile);
    if (!state || !boxes) return;
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
  tensormap_prefetch: () => () => {},
};
