import type { ModelSpec, NormSpec } from './spec.ts';

/**
 * A weight under its name in Rose. `matrix`: [outputs, inputs], multiplied from the right (y = x W^T). `table`: rows
 * that are looked up. `vector`: norms and biases.
 */
export interface Parameter {
  readonly name: string;
  readonly kind: 'matrix' | 'table' | 'vector';
  readonly shape: readonly number[];
}

/**
 * Every parameter a model with this spec has, in the order in which the plan first uses it. A tied output matrix is
 * not listed: it is `embedding.tokens`.
 */
export function parametersOf(spec: ModelSpec): Parameter[] {
  const list: Parameter[] = [];
  const width = spec.hiddenSize;
  const vector = (name: string, size: number): void => void list.push({ name, kind: 'vector', shape: [size] });
  const table = (name: string, rows: number): void => void list.push({ name, kind: 'table', shape: [rows, width] });
  const norm = (name: string, norm: NormSpec, size: number): void => {
    vector(`${name}.weight`, size);
    if (norm.kind === 'layer') vector(`${name}.bias`, size);
  };
  const linear = (name: string, outputs: number, inputs: number, bias: boolean): void => {
    list.push({ name: `${name}.weight`, kind: 'matrix', shape: [outputs, inputs] });
    if (bias) vector(`${name}.bias`, outputs);
  };

  table('embedding.tokens', spec.vocabSize);
  if (spec.embedding.positions > 0) table('embedding.positions', spec.embedding.positions);
  if (spec.embedding.types > 0) table('embedding.types', spec.embedding.types);
  if (spec.embedding.norm) norm('embedding.norm', spec.embedding.norm, width);

  spec.blocks.forEach((block, i) => {
    const { mixer, channel } = block;
    const at = `blocks.${i}`;
    norm(`${at}.mixerNorm`, block.mixerNorm, width);
    linear(`${at}.mixer.q`, mixer.heads * mixer.headDim, width, mixer.qkvBias);
    linear(`${at}.mixer.k`, mixer.kvHeads * mixer.headDim, width, mixer.qkvBias);
    linear(`${at}.mixer.v`, mixer.kvHeads * mixer.headDim, width, mixer.qkvBias);
    if (mixer.qkNorm) {
      norm(`${at}.mixer.qNorm`, mixer.qkNorm, mixer.headDim);
      norm(`${at}.mixer.kNorm`, mixer.qkNorm, mixer.headDim);
    }
    linear(`${at}.mixer.output`, width, mixer.heads * mixer.headDim, mixer.outputBias);
    norm(`${at}.channelNorm`, block.channelNorm, width);
    if (channel.gated) linear(`${at}.channel.gate`, channel.size, width, channel.bias);
    linear(`${at}.channel.up`, channel.size, width, channel.bias);
    linear(`${at}.channel.down`, width, channel.size, channel.bias);
  });

  if (spec.finalNorm) norm('finalNorm', spec.finalNorm, width);
  const { head } = spec;
  if (head.kind === 'logits' && !head.tied) linear('head.logits', spec.vocabSize, width, false);
  if (head.kind === 'classifier') {
    if (head.pooler) linear('head.pooler', width, width, true);
    linear('head.classifier', head.labels.length, width, true);
  }
  return list;
}

/** Number of weights in a parameter. */
export function sizeOf(parameter: Parameter): number {
  return parameter.shape.reduce((product, extent) => product * extent, 1);
}
