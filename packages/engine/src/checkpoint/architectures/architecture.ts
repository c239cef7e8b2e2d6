import type { ModelSpec } from '../../model/spec.ts';

/**
 * How the checkpoints of one architecture are written: the only place where its name, its configuration's fields and
 * its tensors' names are known. A new model is a new one of these (and new fields of the spec, if it needs any).
 */
export interface Architecture {
  /** As `architectures` in config.json has it. */
  readonly name: string;
  /**
   * The spec and the names of one checkpoint. `config` is config.json as parsed; nothing of it has been checked. Throws
   * a RoseError naming the field: `invalid` for what makes no sense, `unsupported` for what Rose does not do.
   */
  read(config: unknown, directory: string): Promise<ArchitectureReading>;
}

export interface ArchitectureReading {
  readonly spec: ModelSpec;
  readonly names: TensorNames;
  /** What a user should know about how the files were understood. */
  readonly notes: readonly string[];
}

/** Names of a checkpoint's tensors. */
export interface TensorNames {
  /**
   * What may stand before the names of the model's body: a body saved on its own has no prefix. The first one under
   * which `anchor` is found holds for the whole checkpoint.
   */
  readonly prefixes: readonly string[];
  /** A tensor of the body that every checkpoint has. */
  readonly anchor: string;
  /**
   * From a parameter's name in Rose, without `.weight` or `.bias` and with `*` for a block's number, to the tensor's
   * name without these. `body`: after the prefix. `head`: without prefix.
   */
  readonly body: Readonly<Record<string, string>>;
  readonly head: Readonly<Record<string, string>>;
  /** Spellings of `.weight` and `.bias` in other tools, tried in this order. */
  readonly suffixes: { readonly weight: readonly string[]; readonly bias: readonly string[] };
  /** Tensors that are left out on purpose, whatever stands before them, and why. */
  readonly ignored: readonly IgnoredTensors[];
}

export interface IgnoredTensors {
  readonly pattern: RegExp;
  readonly reason: string;
}
