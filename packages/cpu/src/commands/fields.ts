import type { Activation } from '../api.ts';

/** Activations by their number in a command. */
export const ACTIVATIONS: readonly Activation[] = ['silu', 'gelu', 'gelu_tanh', 'relu', 'tanh'];
