import type { BlockSpec, ModelSpec } from '../model/spec.ts';
import type { BufferSpec, Operation, Plan, RowKind } from './plan.ts';

/**
 * The plan of a model. The residual stream is `x`; what a block's part adds to it is `delta`, and it is added by the
 * norm that follows, so that a device can fuse the two.
 */
export function buildPlan(spec: ModelSpec): Plan {
  const buffers = new Map<string, BufferSpec>();
  const operations: Operation[] = [];
  const buffer = (name: string, rows: RowKind, width: number): string => {
    const known = buffers.get(name);
    // Blocks of different widths share a buffer as wide as the widest.
    buffers.set(name, { name, rows, width: Math.max(width, known?.width ?? 0) });
    return name;
  };

  const width = spec.hiddenSize;
  const x = buffer('x', 'tokens', width);
  const h = buffer('h', 'tokens', width);
  const delta = buffer('delta', 'tokens', width);

  operations.push({
    kind: 'embed',
    tokens: 'embedding.tokens',
    positions: spec.embedding.positions > 0 ? 'embedding.positions' : undefined,
    types: spec.embedding.types > 0 ? 'embedding.types' : undefined,
    output: x,
  });
  if (spec.embedding.norm) {
    operations.push({
      kind: 'norm',
      norm: spec.embedding.norm,
      weights: 'embedding.norm',
      input: x,
      add: undefined,
      sum: undefined,
      output: x,
    });
  }

  /** What the last part added and nothing has summed yet. */
  let pending: string | undefined;
  spec.blocks.forEach((block, layer) => {
    const at = `blocks.${layer}`;
    const part = (name: 'mixer' | 'channel', append: (input: string) => void): void => {
      const norm = name === 'mixer' ? block.mixerNorm : block.channelNorm;
      const weights = `${at}.${name}Norm`;
      if (block.normPlacement === 'pre') {
        operations.push({ kind: 'norm', norm, weights, input: x, add: pending, sum: pending && x, output: h });
        append(h);
        pending = delta;
      } else {
        append(x);
        operations.push({ kind: 'norm', norm, weights, input: x, add: delta, sum: undefined, output: x });
      }
    };
    part('mixer', (input) => appendAttention(block, layer, input));
    part('channel', (input) => appendDense(block, at, input));
  });

  let last = x;
  if (spec.finalNorm) {
    operations.push({
      kind: 'norm',
      norm: spec.finalNorm,
      weights: 'finalNorm',
      input: x,
      add: pending,
      sum: undefined,
      output: h,
    });
    last = h;
  }
  const result = appendHead();
  return Object.freeze({ buffers: [...buffers.values()], operations, result });

  function appendAttention(block: BlockSpec, layer: number, input: string): void {
    const { mixer } = block;
    const at = `blocks.${layer}.mixer`;
    const { heads, kvHeads, headDim } = mixer;
    const qkv = buffer('qkv', 'tokens', (heads + 2 * kvHeads) * headDim);
    const mixed = buffer('mixed', 'tokens', heads * headDim);
    operations.push(
      {
        kind: 'linear',
        weights: [`${at}.q`, `${at}.k`, `${at}.v`],
        bias: mixer.qkvBias,
        input,
        output: qkv,
        activation: undefined,
      },
      {
        kind: 'cache',
        layer,
        qkv,
        heads,
        kvHeads,
        headDim,
        rope: mixer.rope,
        qkNorm: mixer.qkNorm && { norm: mixer.qkNorm, q: `${at}.qNorm`, k: `${at}.kNorm` },
      },
      { kind: 'attention', layer, qkv, output: mixed, attention: mixer },
      {
        kind: 'linear',
        weights: [`${at}.output`],
        bias: mixer.outputBias,
        input: mixed,
        output: delta,
        activation: undefined,
      },
    );
  }

  function appendDense(block: BlockSpec, at: string, input: string): void {
    const { channel } = block;
    const inner = buffer('inner', 'tokens', channel.size);
    if (channel.gated) {
      const gateUp = buffer('gateUp', 'tokens', 2 * channel.size);
      const weights = [`${at}.channel.gate`, `${at}.channel.up`];
      operations.push(
        { kind: 'linear', weights, bias: channel.bias, input, output: gateUp, activation: undefined },
        { kind: 'gate', activation: channel.activation, size: channel.size, input: gateUp, output: inner },
      );
    } else {
      const weights = [`${at}.channel.up`];
      const { bias, activation } = channel;
      operations.push({ kind: 'linear', weights, bias, input, output: inner, activation });
    }
    operations.push({
      kind: 'linear',
      weights: [`${at}.channel.down`],
      bias: channel.bias,
      input: inner,
      output: delta,
      activation: undefined,
    });
  }

  function appendHead(): string {
    const { head } = spec;
    if (head.kind === 'logits') {
      const selected = buffer('selected', 'outputs', width);
      const logits = buffer('logits', 'outputs', spec.vocabSize);
      operations.push(
        { kind: 'gather', input: last, output: selected },
        {
          kind: 'linear',
          weights: [head.tied ? 'embedding.tokens' : 'head.logits'],
          bias: false,
          input: selected,
          output: logits,
          activation: undefined,
        },
        { kind: 'sample', logits },
      );
      return logits;
    }
    const pooled = buffer('pooled', 'sequences', width);
    operations.push({ kind: 'pool', pooling: head.pooling, input: last, output: pooled });
    if (head.kind === 'embedding') {
      if (head.normalize) operations.push({ kind: 'normalize', input: pooled });
      return pooled;
    }
    let features = pooled;
    if (head.pooler) {
      const dense = buffer('dense', 'sequences', width);
      const weights = ['head.pooler'];
      operations.push({ kind: 'linear', weights, bias: true, input: pooled, output: dense, activation: 'tanh' });
      features = dense;
    }
    const labels = buffer('labels', 'sequences', head.labels.length);
    const weights = ['head.classifier'];
    operations.push({ kind: 'linear', weights, bias: true, input: features, output: labels, activation: undefined });
    return labels;
  }
}
