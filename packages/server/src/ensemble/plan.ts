import type { ModelConfig } from '../grpc/proto/model_config_pb.js';

/** One model's turn in an ensemble. */
export interface Step {
  readonly model: string;
  /** Undefined: the server chooses. */
  readonly version: number | undefined;
  /** The ensemble's tensor for each of the model's inputs. */
  readonly inputs: ReadonlyMap<string, string>;
  /** The ensemble's tensor for each of the model's outputs that is used. */
  readonly outputs: ReadonlyMap<string, string>;
}

/** Which steps run, and what each tensor is for. */
export interface Course {
  readonly steps: readonly Step[];
  /** Steps that read a tensor. */
  readonly readers: ReadonlyMap<string, readonly Step[]>;
  /** Outputs to answer with. */
  readonly outputs: ReadonlySet<string>;
}

/** An ensemble as its configuration describes it. */
export class EnsemblePlan {
  readonly name: string;
  readonly decoupled: boolean;
  /** Whether shapes have a batch dimension. */
  readonly batched: boolean;
  readonly inputs: readonly string[];
  /** Without the batch dimension, by name. */
  readonly outputs: ReadonlyMap<string, readonly number[]>;
  readonly steps: readonly Step[];
  /** Requests that a step may work on at a time, those of all clients together; 0: any number. */
  readonly maxInflight: number;
  readonly #whole: Course;

  constructor(config: ModelConfig) {
    const { name, input, output, schedulingChoice } = config;
    const scheduling = schedulingChoice.case === 'ensembleScheduling' ? schedulingChoice.value : undefined;
    this.name = name;
    this.decoupled = config.modelTransactionPolicy?.decoupled ?? false;
    this.batched = config.maxBatchSize > 0;
    this.inputs = input.map((tensor) => tensor.name);
    this.outputs = new Map(
      output.map((tensor) => [tensor.name, (tensor.reshape?.shape ?? tensor.dims).map(Number)] as const),
    );
    this.steps = (scheduling?.step ?? []).map(({ modelName, modelVersion, inputMap, outputMap }) => ({
      model: modelName,
      version: modelVersion < 0n ? undefined : Number(modelVersion),
      inputs: new Map(Object.entries(inputMap)),
      outputs: new Map(Object.entries(outputMap)),
    }));
    this.maxInflight = scheduling?.maxInflightRequests ?? 0;
    this.#whole = course(this.steps, new Set(this.outputs.keys()));
  }

  /** @param wanted outputs that the client asks for; undefined: all. Steps that only serve others are left out. */
  course(wanted: ReadonlySet<string> | undefined): Course {
    if (wanted === undefined || [...this.outputs.keys()].every((name) => wanted.has(name))) return this.#whole;
    const needed = new Set(wanted);
    const steps = new Set<Step>();
    for (const tensor of needed) {
      const writer = this.steps.find(({ outputs }) => [...outputs.values()].includes(tensor));
      if (writer === undefined) continue;
      steps.add(writer);
      for (const input of writer.inputs.values()) needed.add(input);
    }
    return course(
      this.steps.filter((step) => steps.has(step)),
      wanted,
    );
  }
}

function course(steps: readonly Step[], outputs: ReadonlySet<string>): Course {
  const readers = new Map<string, Step[]>();
  for (const step of steps) {
    for (const tensor of new Set(step.inputs.values())) readers.set(tensor, [...(readers.get(tensor) ?? []), step]);
  }
  return { steps, readers, outputs };
}
