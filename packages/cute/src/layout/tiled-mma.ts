import { complement, composition, logicalDivide, rightInverse, tiledProduct, zippedDivide } from './algebra.ts';
import { mulLeaf } from './arithmetic.ts';
import { compose } from './compose.ts';
import { domainOf, type AnyLayout } from './composed.ts';
import { LayoutError } from './error.ts';
import { Layout, appendLayout, concatLayouts, flatCoord, makeLayout } from './layout.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import type { Part } from './local.ts';
import { sliceAndOffset } from './slice.ts';
import { TiledCopy, activeTile, type CopyAtomLayouts } from './tiled-copy.ts';
import type { Tiler } from './tiler.ts';
import { _, rankOf, repeat, type IntTuple } from './tuple.ts';

/** What the algebra needs to know of a tensor core's instruction. */
export interface MmaAtomLayouts {
  readonly shape: readonly [m: number, n: number, k: number];
  /** Threads that execute it together: thread -> thread index. */
  readonly threads: Layout;
  /** (thread, value) -> colexicographic number of the element in (M, K). */
  readonly a: Layout;
  /** (thread, value) -> element of (N, K). */
  readonly b: Layout;
  /** (thread, value) -> element of (M, N). */
  readonly c: Layout;
}

/** A matrix of a product: A is (M, K), B is (N, K), C is (M, N). */
export type Operand = 'A' | 'B' | 'C';

const MODES: Readonly<Record<Operand, readonly [first: 0 | 1, second: 1 | 2]>> = { A: [0, 2], B: [1, 2], C: [0, 1] };

/** An instruction spread over threads (`atoms` tiles it in M, N, K) and repeated over values (`permutation`). */
export class TiledMma {
  readonly atom: MmaAtomLayouts;
  /** (ThrV, ThrM, ThrN, ThrK) -> thread index. */
  readonly threadLayout: Layout;
  readonly #permutation: readonly Tiler[];

  constructor(atom: MmaAtomLayouts, atoms: Layout = makeLayout([1, 1, 1]), permutation: readonly Tiler[] = []) {
    if (atoms.rank > 3 || permutation.length > 3) throw new LayoutError('a tiled mma has the three modes M, N and K');
    this.atom = atom;
    this.threadLayout = tiledProduct(atom.threads, appendLayout(atoms, 3));
    this.#permutation = [0, 1, 2].map((mode) => {
      const given = permutation[mode] ?? _;
      return given === _ ? mulLeaf(atom.shape[mode], this.threadLayout.mode(mode + 1).size) : given;
    });
  }

  /** Number of threads. */
  get size(): Leaf {
    return this.threadLayout.size;
  }

  /** Extent of the tile in mode 0 (M), 1 (N) or 2 (K). */
  tileSize(mode: number): Leaf {
    const part = this.#permutation[mode];
    if (part instanceof Layout) return part.size;
    if (typeof part === 'number' || isDynamic(part)) return part;
    throw new LayoutError('a permutation of a tiled mma is a number or a layout for each of M, N and K');
  }

  /** An operand's layout as ((ThrV,(Thr0,Thr1)),(FrgV,(Rest0,Rest1,...))). */
  threadFragment(operand: Operand, layout: AnyLayout): AnyLayout {
    if (layout.rank < 2) throw new LayoutError(`operand ${operand} has two modes at least, ${String(layout)} has one`);
    const [first, second] = MODES[operand];
    const permuted = logicalDivide(layout, [this.#permutation[first], this.#permutation[second]]);
    const atoms = zippedDivide(permuted, [makeLayout(this.atom.shape[first]), makeLayout(this.atom.shape[second])]);
    const values = composition(atoms, [this.#atomLayout(operand), _]);
    const threads = [this.#threads(first), this.#threads(second)];
    return zippedDivide(values, [_, threads]);
  }

  /** What thread `thread` holds of an operand: (FrgV, Rest0, Rest1, ...), and where it begins. */
  partition(operand: Operand, layout: AnyLayout, thread: Leaf): Part {
    const fragment = this.threadFragment(operand, layout);
    const [first, second] = MODES[operand];
    const coord = flatCoord(this.threadLayout, thread) as readonly Leaf[];
    const rest = rankOf(domainOf(fragment).mode(1, 1).shape);
    return sliceAndOffset(
      [
        [coord[0], [coord[first + 1], coord[second + 1]]],
        [_, repeat<typeof _>(rest, _)],
      ],
      fragment,
    );
  }

  /** Shape of a thread's fragment of an operand of this shape: (V, Rest0, Rest1, ...). */
  partitionShape(operand: Operand, shape: IntTuple): IntTuple {
    return domainOf(this.partition(operand, makeLayout(shape), 0)[0]).shape;
  }

  /** (thread, value) -> element of the tile of an operand. Threads that differ only in the mode it lacks share elements. */
  layoutTV(operand: Operand): Layout {
    const [first, second] = MODES[operand];
    const tile = makeLayout([this.tileSize(first), this.tileSize(second)]);
    const fragment = this.threadFragment(operand, tile) as Layout;
    const m = this.threadLayout.mode(1).size;
    const n = this.threadLayout.mode(2).size;
    const broadcast: Readonly<Record<Operand, Tiler>> = {
      A: [_, [new Layout([m, n], [1, 0]), _]],
      B: [_, [new Layout([m, n], [0, 1]), _]],
      C: _,
    };
    const threads = broadcast[operand];
    const shared = threads === _ ? fragment : compose(fragment, [threads, _]);
    const all = concatLayouts(this.threadLayout, complement(this.threadLayout));
    const toCoord = compose(new Layout([this.size, 1], [1, 0]), rightInverse(all));
    return compose(shared, [toCoord, _]);
  }

  #atomLayout(operand: Operand): Layout {
    if (operand === 'A') return this.atom.a;
    return operand === 'B' ? this.atom.b : this.atom.c;
  }

  #threads(mode: number): Layout {
    return makeLayout(this.threadLayout.mode(mode + 1).size);
  }
}

/** A copy for operand A, B or C whose threads and values are those of the product. */
export function makeTiledCopyFor(operand: Operand, atom: CopyAtomLayouts, mma: TiledMma): TiledCopy {
  const [first, second] = MODES[operand];
  return new TiledCopy(atom, mma.layoutTV(operand), [mma.tileSize(first), mma.tileSize(second)]);
}

/** The smallest copy for C that holds whole copy atoms: for epilogues that store a part of the tile at a time. */
export function makeTiledCopyCAtom(atom: CopyAtomLayouts, mma: TiledMma): TiledCopy {
  const whole = mma.layoutTV('C');
  const values = atom.source.mode(1).size;
  const available = whole.mode(1).size;
  if (typeof values === 'number' && typeof available === 'number' && values > available) {
    throw new LayoutError(`a copy atom of ${values} values is larger than the ${available} that a thread holds of C`);
  }
  const part = compose(whole, makeLayout([whole.mode(0).size, values]));
  return activeTile(atom, part, [mma.tileSize(0), mma.tileSize(1)]);
}
