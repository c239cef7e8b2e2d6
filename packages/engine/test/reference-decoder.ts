import { round } from '@rose/kernels';
import type { Checkpoint, CheckpointTensor } from '../src/checkpoint/checkpoint.ts';
import { convert } from '../src/device/cuda/convert.ts';
import { ropeTables } from '../src/model/rope.ts';
import { buildPlan } from '../src/plan/build.ts';
import type { CacheOperation, LinearOperation } from '../src/plan/plan.ts';

/**
 * A decoder in float64 whose numbers are rounded where a GPU's are: what lies in buffers to bfloat16, inputs of products of
 * e4m3 to e4m3 by their scales, keys and values likewise. Sums are exact, so that a GPU's differ by float32's roundings, by
 * what e4m3's tensor cores cut off, and wherever these make a rounding to 8 bits come out the other way.
 */
export interface ReferenceFormats {
  /** Matrices of blocks that are stored in 16 bits have scales of rows, too. */
  readonly quantize: boolean;
  readonly cache: 'bf16' | 'fp8';
}

type Rows = Float64Array[];

const LARGEST = 448;

/** Logits of the rows of a sequence that are asked for. */
export async function referenceLogits(
  checkpoint: Checkpoint,
  tokens: Int32Array,
  wanted: readonly number[],
  formats: ReferenceFormats,
): Promise<Float32Array[]> {
  const { spec } = checkpoint;
  const { operations } = buildPlan(spec);
  const byName = new Map(checkpoint.tensors.map((tensor) => [tensor.parameter.name, tensor]));
  const buffers = new Map<string, Rows>();
  const at = (name: string): Rows => buffers.get(name)!;
  const vector = async (name: string): Promise<Float64Array> => (await read(byName.get(name)!))[0];
  const kept = new Map<number, { keys: Rows; values: Rows }>();
  let logits: Rows = [];

  for (const [i, operation] of operations.entries()) {
    const next = operations[i + 1];
    switch (operation.kind) {
      case 'embed': {
        const table = await read(byName.get(operation.tokens)!);
        buffers.set(
          operation.output,
          Array.from(tokens, (token) => table[token].map(bf16)),
        );
        break;
      }
      case 'norm': {
        const { input, add, sum, output, norm } = operation;
        const weight = (await vector(`${operation.weights}.weight`)).map(bf16);
        const s = at(input).map((row, r) => (add === undefined ? row : row.map((v, j) => bf16(v + at(add)[r][j]))));
        if (sum !== undefined) buffers.set(sum, s);
        // A norm that makes e4m3 makes it of what it has not rounded before.
        const last = next?.kind === 'linear' && scalesOf(next, byName, formats) === 'dynamic' ? identity : bf16;
        buffers.set(
          output,
          s.map((row) => {
            const r = 1 / Math.sqrt(row.reduce((all, v) => all + v * v, 0) / row.length + norm.epsilon);
            return row.map((v, j) => last(v * r * weight[j]));
          }),
        );
        break;
      }
      case 'linear': {
        const rows = await product(operation, at(operation.input), byName, formats);
        // Gates and additions are a part of the product.
        const inside = next?.kind === 'gate' || next?.kind === 'norm' || next?.kind === 'sample';
        buffers.set(operation.output, inside ? rows : rows.map((row) => row.map(bf16)));
        break;
      }
      case 'gate': {
        const { size, input, output, activation } = operation;
        if (activation !== 'silu') throw new Error(`no ${activation} here`);
        const gated = at(input).map((row) =>
          row.subarray(0, size).map((g, j) => bf16((g / (1 + Math.exp(-g))) * row[size + j])),
        );
        buffers.set(output, gated);
        break;
      }
      case 'cache':
        kept.set(operation.layer, await turn(operation, at(operation.qkv), vector, checkpoint, formats));
        break;
      case 'attention': {
        const { heads, kvHeads, headDim, scale } = operation.attention;
        const { keys, values } = kept.get(operation.layer)!;
        const mixed = at(operation.qkv).map((row, position) => {
          const y = new Float64Array(heads * headDim);
          for (let h = 0; h < heads; h++) {
            const from = Math.floor((h * kvHeads) / heads) * headDim;
            const q = row.subarray(h * headDim, (h + 1) * headDim);
            const scores = keys.slice(0, position + 1).map((key) => {
              return scale * q.reduce((all, v, j) => all + v * key[from + j], 0);
            });
            const top = Math.max(...scores);
            const powers = scores.map((score) => Math.exp(score - top));
            const sum = powers.reduce((all, power) => all + power, 0);
            for (let j = 0; j < headDim; j++) {
              const weighed = powers.reduce((all, power, t) => all + power * values[t][from + j], 0);
              y[h * headDim + j] = bf16(weighed / sum);
            }
          }
          return y;
        });
        buffers.set(operation.output, mixed);
        break;
      }
      case 'gather':
        buffers.set(
          operation.output,
          wanted.map((row) => at(operation.input)[row]),
        );
        break;
      case 'sample':
        logits = at(operation.logits);
        break;
      case 'pool':
      case 'normalize':
        throw new Error('only decoders');
    }
  }
  return logits.map((row) => Float32Array.from(row));
}

const identity = (value: number): number => value;
const bf16 = (value: number): number => round('bf16', value);

/** Where the scales of a product's input come from; undefined: it is no product of e4m3. */
function scalesOf(
  { weights }: LinearOperation,
  byName: ReadonlyMap<string, CheckpointTensor>,
  { quantize }: ReferenceFormats,
): 'dynamic' | 'stored' | undefined {
  const fp8 = byName.get(`${weights[0]}.weight`)?.fp8;
  if (fp8 === undefined) return quantize && weights[0].startsWith('blocks.') ? 'dynamic' : undefined;
  return fp8.input === undefined ? 'dynamic' : 'stored';
}

/** x W^T + bias. */
async function product(
  operation: LinearOperation,
  x: Rows,
  byName: ReadonlyMap<string, CheckpointTensor>,
  formats: ReferenceFormats,
): Promise<Rows> {
  const parts = operation.weights.map((name) => byName.get(`${name}.weight`) ?? byName.get(name)!);
  const scales = scalesOf(operation, byName, formats);
  const read16 = async (part: CheckpointTensor): Promise<Rows> => (await read(part)).map((row) => row.map(bf16));
  const matrices = await Promise.all(parts.map((part) => (part.fp8 ? read(part) : read16(part))));
  const w = scales !== undefined && !parts[0].fp8 ? matrices.flat().map((row) => narrowed(row)) : matrices.flat();
  const inputs = await Promise.all(parts.map(async ({ fp8 }) => fp8?.input?.read()));
  const stored = scales === 'stored' ? Math.max(...inputs.map((values) => values![0])) : undefined;
  const group = parts[0].fp8?.kind === 'block' ? 128 : undefined;
  const bias = operation.bias
    ? (await Promise.all(operation.weights.map((name) => read(byName.get(`${name}.bias`)!)))).flatMap(([b]) => [...b])
    : [];
  return x.map((row) => {
    const own = scales === undefined ? row : narrowed(row, stored, group);
    return Float64Array.from(w, (of, o) => of.reduce((all, v, j) => all + v * own[j], 0) + bf16(bias[o] ?? 0));
  });
}

/** A row as e4m3 times its scale: one that is given, or that of its largest magnitude, or of each group's. */
function narrowed(row: Float64Array, scale?: number, group = row.length): Float64Array {
  const all = new Float64Array(row.length);
  for (let first = 0; first < row.length; first += group) {
    const own = row.subarray(first, first + group);
    const by = scale ?? Math.fround(own.reduce((most, v) => Math.max(most, Math.abs(v)), 2 ** -100) / LARGEST);
    all.set(
      own.map((v) => round('e4m3', v / by) * by),
      first,
    );
  }
  return all;
}

/** Queries in their place, keys and values as the pages hold them, [heads * head] a row. */
async function turn(
  { layer, heads, kvHeads, headDim, rope, qkNorm }: CacheOperation,
  qkv: Rows,
  vector: (name: string) => Promise<Float64Array>,
  { spec, cacheScales }: Checkpoint,
  { cache }: ReferenceFormats,
): Promise<{ keys: Rows; values: Rows }> {
  const [qNorm, kNorm] = qkNorm ? [await vector(`${qkNorm.q}.weight`), await vector(`${qkNorm.k}.weight`)] : [];
  const tables = rope && ropeTables(rope, spec.contextLength);
  const stored = cacheScales.get(layer);
  const keyScale = stored === undefined ? 1 : (await stored.keys.read())[0];
  const valueScale = stored === undefined ? 1 : (await stored.values.read())[0];
  const keep = (value: number, scale: number): number =>
    cache === 'fp8' ? round('e4m3', value / scale) * scale : bf16(value);
  const turned = (head: Float64Array, position: number, weight: Float64Array | undefined): Float64Array => {
    const r = 1 / Math.sqrt(head.reduce((all, v) => all + v * v, 0) / headDim + (qkNorm?.norm.epsilon ?? 0));
    const x = weight === undefined ? head.slice() : head.map((v, j) => v * r * bf16(weight[j]));
    const y = x.slice();
    const half = rope === undefined ? 0 : rope.dim / 2;
    for (let j = 0; j < half; j++) {
      const [cos, sin] = [tables!.cos[position * half + j], tables!.sin[position * half + j]];
      y[j] = x[j] * cos - x[j + half] * sin;
      y[j + half] = x[j + half] * cos + x[j] * sin;
    }
    return y;
  };
  const keys: Rows = [];
  const values: Rows = [];
  qkv.forEach((row, position) => {
    const head = (h: number): Float64Array => row.subarray(h * headDim, (h + 1) * headDim);
    for (let h = 0; h < heads; h++) head(h).set(turned(head(h), position, qNorm).map(bf16));
    const of = Array.from({ length: kvHeads }, (_, h) => [...turned(head(heads + h), position, kNorm)]).flat();
    keys.push(Float64Array.from(of, (v) => keep(v, keyScale)));
    values.push(row.slice((heads + kvHeads) * headDim).map((v) => keep(v, valueScale)));
  });
  return { keys, values };
}

/** A tensor's rows; a vector is one row. Of e4m3: each element times its scale. */
async function read(tensor: CheckpointTensor): Promise<Rows> {
  const bytes = new Uint8Array(tensor.byteLength);
  await tensor.read(bytes, 0);
  const wide = convert(bytes, tensor.dtype, 'f32');
  const values = new Float32Array(wide.buffer, wide.byteOffset, wide.byteLength / 4);
  const width = tensor.parameter.shape.at(-1)!;
  return Array.from({ length: values.length / width }, (_, i) =>
    Float64Array.from(values.subarray(i * width, (i + 1) * width)),
  );
}
