import { RoseError } from '../../errors.ts';
import type { Activation } from '../../model/spec.ts';

/**
 * The names under which transformers knows the activations (`ACT2FN`). The three tanh forms of GELU are the same
 * formula with its constants written differently.
 */
const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_python: 'gelu',
  gelu_new: 'gelu_tanh',
  gelu_fast: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  gelu_accurate: 'gelu_tanh',
  relu: 'relu',
};

/** `hidden_act` of config.json. */
export function activationOf(name: string, path: string): Activation {
  if (Object.hasOwn(ACTIVATIONS, name)) return ACTIVATIONS[name];
  throw new RoseError(
    'unsupported',
    `${path}: "hidden_act": Rose has no activation "${name}" (it has ${Object.keys(ACTIVATIONS).join(', ')})`,
  );
}
