import { mulLeaf } from './arithmetic.ts';
import { coalesce } from './coalesce.ts';
import { compose } from './compose.ts';
import { isBasis } from './basis.ts';
import { LayoutError } from './error.ts';
import { Layout } from './layout.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import { compactMajor } from './order.ts';
import { flatten, leavesOf, unwrap, wrap } from './tuple.ts';

interface Mode {
  readonly extent: Leaf;
  readonly stride: Leaf;
  /** Colexicographic number of the coordinate that is 1 in this mode and 0 elsewhere. */
  readonly place: Leaf;
}

function modesOf(name: string, layout: Layout): Mode[] {
  const merged = coalesce(layout);
  const strides = wrap(merged.stride);
  let place: Leaf = 1;
  return (wrap(merged.shape) as readonly Leaf[]).map((extent, i) => {
    const stride = strides[i] as Leaf;
    if (isBasis(stride)) throw new LayoutError(`${name}: ${String(layout)} maps to coordinates`);
    const mode = { extent, stride, place };
    place = mulLeaf(place, extent);
    return mode;
  });
}

/**
 * A layout `R` with `layout(R(i)) = i` for all `i < size(R)`, as large as the run of modes from stride 1 on allows.
 * Modes that do not continue the run, and those of dynamic stride, are skipped.
 */
export function rightInverse(layout: Layout): Layout {
  const shape: Leaf[] = [1];
  const stride: Leaf[] = [0];
  let next: Leaf = 1;
  const known = modesOf('right_inverse', layout).filter((mode) => !isDynamic(mode.stride));
  for (const mode of known.sort((a, b) => (a.stride as number) - (b.stride as number))) {
    if (mode.stride !== next) continue;
    shape.push(mode.extent);
    stride.push(mode.place);
    next = mulLeaf(mode.extent, mode.stride);
  }
  return coalesce(new Layout(shape, stride));
}

/**
 * A quasi-inverse: `layout(R(layout(i))) = layout(i)`; the left inverse where the layout is injective. Throws where a
 * stride is dynamic, or is no multiple of what the smaller ones span.
 */
export function leftInverse(layout: Layout): Layout {
  const modes = modesOf('left_inverse', layout);
  if (modes.some((mode) => isDynamic(mode.stride))) {
    throw new LayoutError(`left_inverse: ${String(layout)} has a dynamic stride; it needs known ones`);
  }
  modes.sort((a, b) => (a.stride as number) - (b.stride as number));
  const shape: Leaf[] = [];
  const stride: Leaf[] = [0];
  let spanned = 1;
  for (const mode of modes) {
    const step = mode.stride as number;
    if (step === 0) continue;
    if (step < 0 || step % spanned !== 0) {
      throw new LayoutError(
        `left_inverse: in ${String(layout)} the stride ${step} is not a positive multiple of ${spanned}, the span of the smaller strides`,
      );
    }
    shape.push(step / spanned);
    stride.push(mode.place);
    spanned = step;
  }
  shape.push(modes.at(-1)!.extent);
  return coalesce(new Layout(shape, stride));
}

/** The layout of the coordinates that `layout` maps to 0 through modes of stride 0. */
export function nullspace(layout: Layout): Layout {
  const extents = leavesOf(layout.shape);
  const places = leavesOf(compactMajor(flatten(layout.shape)));
  const zeros = leavesOf(layout.stride).flatMap((stride, i) => (stride === 0 ? [i] : []));
  if (zeros.length === 0) return new Layout(1, 0);
  return new Layout(unwrap<Leaf>(zeros.map((i) => extents[i])), unwrap<Leaf>(zeros.map((i) => places[i])));
}

/**
 * The largest layout `R` with `a(R(i)) = i` and `b(R(i)) = i`: contiguous elements that correspond in both, which one
 * instruction may move.
 */
export function commonLayout(a: Layout, b: Layout): Layout {
  const inverse = rightInverse(b);
  const common = coalesce(compose(a, inverse)).modes()[0];
  if (common.stride !== 1 || isDynamic(common.shape)) return new Layout(1, 0);
  return compose(inverse, common);
}

/** Number of those elements. */
export function commonVector(a: Layout, b: Layout): number {
  const common = coalesce(compose(a, rightInverse(b))).modes()[0];
  return common.stride === 1 && typeof common.shape === 'number' ? common.shape : 1;
}
