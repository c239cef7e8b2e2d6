import { composition, leftInverse, logicalProduct, rightInverse, zippedDivide } from './algebra.ts';
import { mulLeaf } from './arithmetic.ts';
import { coalesce, filter } from './coalesce.ts';
import { compose, withShape } from './compose.ts';
import type { AnyLayout } from './composed.ts';
import { LayoutError } from './error.ts';
import { Layout, concatLayouts, makeLayout } from './layout.ts';
import type { Leaf } from './leaf.ts';
import type { Part } from './local.ts';
import { zipLayout } from './product.ts';
import { upcast } from './recast.ts';
import { sameFunction } from './same.ts';
import { slice, sliceAndOffset } from './slice.ts';
import type { Tiler } from './tiler.ts';
import { makeLayoutTV } from './tv.ts';
import { _, append, prepend, productEach, repeat, type IntTuple } from './tuple.ts';

/** What the algebra needs to know of a copy instruction. All three layouts have the same size. */
export interface CopyAtomLayouts {
  /** Threads that execute it together: thread -> thread index. */
  readonly threads: Layout;
  /** (thread, value) -> element, as each thread names its source. */
  readonly source: Layout;
  /** (thread, value) -> element, as each thread names its destination. */
  readonly destination: Layout;
  /** The one of the two that numbers the values; usually the side that lies in registers. */
  readonly reference: Layout;
}

/** A copy instruction spread over threads and values of a tile. */
export class TiledCopy {
  readonly atom: CopyAtomLayouts;
  /** (thread, value) -> colexicographic number of the element in the tile. */
  readonly layoutTV: Layout;
  /** The tile, one tiler for each mode of what is copied. */
  readonly tiler: Tiler;

  /** Throws a `LayoutError` unless threads and values are whole multiples of the atom's. */
  constructor(atom: CopyAtomLayouts, layoutTV: Layout, tiler: Tiler) {
    for (const [mode, what] of ['threads', 'values'].entries()) {
      const tiled = layoutTV.mode(mode).size;
      const own = atom.reference.mode(mode).size;
      if (typeof tiled === 'number' && typeof own === 'number' && tiled % own !== 0) {
        throw new LayoutError(`a tiled copy of ${tiled} ${what} cannot be made of an atom with ${own} ${what}`);
      }
    }
    this.atom = atom;
    this.layoutTV = layoutTV;
    this.tiler = tiler;
  }

  /** Number of threads. */
  get size(): Leaf {
    return this.layoutTV.mode(0).size;
  }

  /** Extents of the tile. */
  get tileShape(): readonly Leaf[] {
    return tilerSizes(this.tiler);
  }

  /** (M,N,...) to (thread, value, (RestM,RestN,...)), values as the source numbers them. */
  threadValuesS(layout: AnyLayout): AnyLayout {
    return this.#toThreads(zippedDivide(layout, this.tiler), this.atom.source);
  }

  /** As `threadValuesS`, as the destination numbers them. */
  threadValuesD(layout: AnyLayout): AnyLayout {
    return this.#toThreads(zippedDivide(layout, this.tiler), this.atom.destination);
  }

  /** What thread `thread` reads: (value, RestM, RestN, ...), and where it begins. */
  partitionS(layout: AnyLayout, thread: Leaf): Part {
    return this.#partition(this.threadValuesS(layout), thread, layout);
  }

  /** What thread `thread` writes. */
  partitionD(layout: AnyLayout, thread: Leaf): Part {
    return this.#partition(this.threadValuesD(layout), thread, layout);
  }

  /** (thread, value) -> element of the tile, as the source numbers them. */
  get layoutSTV(): Layout {
    return this.#tileTV(this.atom.source);
  }

  get layoutDTV(): Layout {
    return this.#tileTV(this.atom.destination);
  }

  /**
   * Views a thread's fragment of another tiling, (V, M, N), in the order this copy numbers its values. Throws unless the
   * atom's side (`'source'` or `'destination'`) is its reference, for only then are the values the same.
   */
  retile(fragment: Layout, side: 'source' | 'destination'): Layout {
    if (!sameFunction(this.atom[side], this.atom.reference)) {
      throw new LayoutError(
        `retile: the ${side} of this atom is not its reference, so its values lie in other threads`,
      );
    }
    const rank = fragment.rank;
    const values = fragment.mode(0).size;
    const perThread = mulLeaf(this.size, values);
    if (typeof perThread !== 'number') throw new LayoutError('retile needs known numbers of threads and values');
    const tile = withShape(rightInverse(this.layoutTV), [...this.tileShape]);
    const order = upcast(tile, perThread) as Layout;
    const vmn = logicalProduct(makeLayout(values), rightInverse(order));
    const atoms = zippedDivide(vmn, makeLayout(this.atom.reference.mode(1).size));
    const tiled = zippedDivide(fragment, prepend<Leaf>(productEach(order.shape), values) as Tiler);
    const ordered = composition(tiled, [atoms, _]);
    return slice([_, append<Leaf | typeof _>(0, _, rank)], ordered);
  }

  #toThreads(tiled: AnyLayout, side: Layout): AnyLayout {
    const { reference } = this.atom;
    const toSide = compose(rightInverse(reference), side);
    const atoms = zippedDivide(this.layoutTV, [reference.mode(0).size, reference.mode(1).size]);
    const turned = compose(atoms, [toSide, _]);
    const threadValue = coalesce(zipLayout(turned), [1, [1, 1]]);
    return slice([[_, _], _], composition(tiled, [threadValue, _]));
  }

  #partition(threads: AnyLayout, thread: Leaf, of: AnyLayout): Part {
    return sliceAndOffset([thread, _, repeat<Leaf | typeof _>(of.rank, _)], threads);
  }

  #tileTV(side: Layout): Layout {
    const tile = makeLayout([[...this.tileShape], 1]);
    return slice([_, _, 0], this.#toThreads(tile, side) as Layout);
  }
}

function tilerSizes(tiler: Tiler): readonly Leaf[] {
  const parts: readonly Tiler[] = Array.isArray(tiler) ? tiler : [tiler];
  return parts.map((part) => {
    if (part instanceof Layout) return part.size;
    if (part === _) throw new LayoutError('the tile of a copy has known extents, not _');
    return makeLayout(part as IntTuple).size;
  });
}

/** A tiled copy from (m, n) -> thread and (m, n) -> value. */
export function makeTiledCopy(atom: CopyAtomLayouts, threads: Layout, values: Layout = makeLayout(1)): TiledCopy {
  const { tiler, layout } = makeLayoutTV(threads, values);
  return new TiledCopy(atom, layout, tiler);
}

/** A tiled copy from the addresses that threads and values have: (thread, value) -> index of `data`. */
export function makeCotiledCopy(atom: CopyAtomLayouts, addresses: Layout, data: Layout): TiledCopy {
  const offEnd = new Layout(1, 0);
  const toData = compose(concatLayouts(leftInverse(data), offEnd), addresses);
  const values = toData.mode(1);
  if (!sameFunction(compose(concatLayouts(data, offEnd), values), addresses.mode(1))) {
    throw new LayoutError(
      `make_cotiled_copy: ${String(addresses)} points at elements that ${String(data)} does not have`,
    );
  }
  return activeTile(atom, toData, productEach(data.shape));
}

/** The tile that `toData`, (thread, value) -> element of `shape`, touches, and the layout in that tile. */
export function activeTile(atom: CopyAtomLayouts, toData: Layout, shape: readonly Leaf[]): TiledCopy {
  const zeros = shape.map(() => 0);
  const tiler = shape.map((_extent, i) => filter(compose(new Layout(shape, zeros.with(i, 1)), toData)));
  const toShape = compose(makeLayout(shape), tiler);
  return new TiledCopy(atom, compose(leftInverse(toShape), toData), tiler);
}

/** A tiled copy with the threads and values of another one's source. */
export function makeTiledCopyS(atom: CopyAtomLayouts, copy: TiledCopy): TiledCopy {
  return new TiledCopy(atom, copy.layoutSTV, copy.tiler);
}

export function makeTiledCopyD(atom: CopyAtomLayouts, copy: TiledCopy): TiledCopy {
  return new TiledCopy(atom, copy.layoutDTV, copy.tiler);
}
