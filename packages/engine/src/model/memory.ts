import { parametersOf, sizeOf, type Parameter } from './parameters.ts';
import { taskOf, type AttentionSpec, type BlockSpec, type HeadSpec, type ModelSpec, type RopeSpec } from './spec.ts';

/** How weights are held: as `f32` or `bf16`, or in groups of 32 inputs with a float32 scale each. */
export type WeightFormat = 'f32' | 'bf16' | 'int8' | 'int4';

/** Inputs that share one scale in `int8` and `int4`. */
export const QUANTIZATION_GROUP = 32;

/** Number of weights of a model; a tied output matrix counts once. */
export function parameterCount(spec: ModelSpec): number {
  return sum(parametersOf(spec), sizeOf);
}

/**
 * Bytes of all weights in a format, without a device's padding. `int8` and `int4` hold for matrices, the output matrix
 * among them; tables stay bfloat16 then (a tied embedding is kept twice: quantized as output matrix, bfloat16 for
 * lookups). Vectors are float32 always.
 */
export function weightBytes(spec: ModelSpec, format: WeightFormat): number {
  const quantized = format === 'int8' || format === 'int4';
  const tiedCopy = quantized && spec.head.kind === 'logits' && spec.head.tied;
  const output: Parameter = { name: 'head.logits', kind: 'matrix', shape: [spec.vocabSize, spec.hiddenSize] };
  return sum(tiedCopy ? [...parametersOf(spec), output] : parametersOf(spec), (parameter) => {
    if (parameter.kind === 'vector') return 4 * sizeOf(parameter);
    if (parameter.kind === 'table' && quantized) return 2 * sizeOf(parameter);
    return matrixBytes(parameter.shape[0], parameter.shape[1], format);
  });
}

function matrixBytes(outputs: number, inputs: number, format: WeightFormat): number {
  if (format === 'f32') return 4 * outputs * inputs;
  if (format === 'bf16') return 2 * outputs * inputs;
  const row = format === 'int8' ? inputs : Math.ceil(inputs / 2);
  return outputs * (row + 4 * Math.ceil(inputs / QUANTIZATION_GROUP));
}

/** Bytes that each token of a running sequence keeps: keys and values of every layer. Encoders keep none. */
export function contextTokenBytes(spec: ModelSpec, cacheDtype: 'f32' | 'bf16'): number {
  if (spec.head.kind !== 'logits') return 0;
  const element = cacheDtype === 'bf16' ? 2 : 4;
  return sum(spec.blocks, ({ mixer }) => 2 * mixer.kvHeads * mixer.headDim * element);
}

/** The lines that `rose info` prints: what the model is, its parameters, and the memory it needs. */
export function describe(spec: ModelSpec): string[] {
  const rows: [string, string][] = [
    ['architecture', `${spec.architecture} (${taskOf(spec)})`],
    ['parameters', count(parameterCount(spec))],
    ['width', `${spec.hiddenSize}, vocabulary ${spec.vocabSize.toLocaleString('en-US')}`],
    ['context', `${spec.contextLength.toLocaleString('en-US')} tokens${positions(spec)}`],
    ...grouped(spec.blocks).map(({ layers, block }): [string, string] => [
      layers,
      `${attention(block.mixer)}; ${channel(block)}; ${norms(block)}`,
    ]),
    ['head', head(spec.head)],
    ['weights', formats.map((format) => `${format} ${size(weightBytes(spec, format))}`).join(', ')],
  ];
  if (spec.head.kind === 'logits') {
    rows.push(
      ['per token', caches.map((dtype) => `${size(contextTokenBytes(spec, dtype))} (${dtype} cache)`).join(', ')],
      [
        'full context',
        caches
          .map((dtype) => `${size(contextTokenBytes(spec, dtype) * spec.contextLength)} (${dtype} cache)`)
          .join(', '),
      ],
    );
  }
  const column = Math.max(...rows.map(([name]) => name.length)) + 2;
  return rows.map(([name, text]) => name.padEnd(column) + text);
}

const formats: readonly WeightFormat[] = ['f32', 'bf16', 'int8', 'int4'];
const caches = ['f32', 'bf16'] as const;

/** Equal layers together: `layers 0-3, 5`. */
function grouped(blocks: readonly BlockSpec[]): { layers: string; block: BlockSpec }[] {
  type Kind = { readonly block: BlockSpec; readonly runs: { first: number; last: number }[] };
  const kinds = new Map<string, Kind>();
  blocks.forEach((block, i) => {
    const key = JSON.stringify(block);
    const kind: Kind = kinds.get(key) ?? { block, runs: [] };
    kinds.set(key, kind);
    const run = kind.runs.at(-1);
    if (run?.last === i - 1) run.last = i;
    else kind.runs.push({ first: i, last: i });
  });
  return [...kinds.values()].map(({ block, runs }) => {
    const ranges = runs.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`));
    const single = runs.length === 1 && runs[0].first === runs[0].last;
    return { layers: `${single ? 'layer' : 'layers'} ${ranges.join(', ')}`, block };
  });
}

function attention({
  heads,
  kvHeads,
  headDim,
  mask,
  window,
  rope,
  qkNorm,
  qkvBias,
  outputBias,
}: AttentionSpec): string {
  const biases = [qkvBias ? 'q, k, v' : '', outputBias ? 'output' : ''].filter(Boolean).join(', ');
  return [
    `${heads} heads of ${headDim}`,
    kvHeads === heads ? '' : ` on ${kvHeads} key-value heads`,
    `, ${mask}`,
    window === undefined ? '' : `, window ${window}`,
    rope === undefined ? '' : `, ${rotary(rope)}`,
    qkNorm === undefined ? '' : ', QK norm',
    biases === '' ? '' : `, bias on ${biases}`,
  ].join('');
}

function rotary({ theta, scaling }: RopeSpec): string {
  const base = `RoPE theta ${theta.toLocaleString('en-US')}`;
  return scaling.kind === 'none' ? base : `${base} with ${scaling.kind} factor ${scaling.factor}`;
}

function channel({ channel: { size: width, activation, gated, bias } }: BlockSpec): string {
  return `${gated ? 'gated ' : ''}${activation} ${width}${bias ? ' with bias' : ''}`;
}

function norms({ normPlacement, mixerNorm: { kind, epsilon } }: BlockSpec): string {
  const name = kind === 'rms' ? 'RMS norm' : 'layer norm';
  return `${name} (${epsilon.toExponential()}) ${normPlacement === 'pre' ? 'before' : 'after'} each part`;
}

function positions({ embedding }: ModelSpec): string {
  return embedding.positions > 0 ? `, ${embedding.positions} learned positions` : '';
}

function head(head: HeadSpec): string {
  switch (head.kind) {
    case 'logits':
      return `next token${head.tied ? ', tied to the embedding' : ''}`;
    case 'embedding':
      return `one vector: ${head.pooling} pooling${head.normalize ? ', length 1' : ''}`;
    case 'classifier': {
      const labels = head.labels.length > 8 ? `${head.labels.slice(0, 8).join(', ')}...` : head.labels.join(', ');
      return `${head.labels.length} label${head.labels.length === 1 ? '' : 's'} (${labels}): ${head.pooling} pooling`;
    }
  }
}

/** `7.62 B (7,615,616,512)`. */
function count(parameters: number): string {
  const exact = parameters.toLocaleString('en-US');
  if (parameters >= 1e9) return `${(parameters / 1e9).toPrecision(3)} B (${exact})`;
  return parameters >= 1e6 ? `${(parameters / 1e6).toPrecision(3)} M (${exact})` : exact;
}

function size(bytes: number): string {
  for (const [unit, scale] of units) {
    if (bytes >= scale) return `${(bytes / scale).toPrecision(bytes >= 1000 * scale ? 4 : 3)} ${unit}`;
  }
  return `${bytes} B`;
}

const units = [
  ['GiB', 2 ** 30],
  ['MiB', 2 ** 20],
  ['KiB', 2 ** 10],
] as const;

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
