import type { RegionPlace, RegionUse } from '../shared-memory/regions.ts';
import { elementOf, type DataType } from './datatype.ts';
import { invalid } from './errors.ts';
import { printProduct, tensorFromBytes, type Tensor } from './tensor.ts';

/** An input that lies in a region of shared memory. It is read only where it has the size that its shape says. */
export function tensorFromRegion(
  use: RegionUse,
  place: RegionPlace,
  { name, datatype, shape }: { readonly name: string; readonly datatype: DataType; readonly shape: readonly number[] },
  model: string,
): Tensor {
  if (datatype !== 'BYTES') {
    const expected = printProduct([...shape, elementOf(datatype).size]);
    if (String(place.bytes) !== expected) {
      throw invalid(
        `input byte size mismatch for input '${name}' for model '${model}'. Expected ${expected}, got ${place.bytes}`,
      );
    }
  }
  return tensorFromBytes(name, datatype, shape, use.input(place), model);
}
