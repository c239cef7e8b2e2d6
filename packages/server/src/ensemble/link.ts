import type { ModelConfig, ModelEnsembling_Step as Step } from '../grpc/proto/model_config_pb.js';
import { datatypeOf } from '../repository/signature.ts';
import { configType, type DataType } from '../triton/datatype.ts';
import { invalid } from '../triton/errors.ts';
import { fullShape, type ModelSignature } from '../triton/model.ts';
import { printShape } from '../triton/tensor.ts';

/** The model that a step runs. */
export type FindPart = (step: Step) => ModelSignature;

/** A tensor of an ensemble, as the first model that names it declares it. */
interface Node {
  /** The model, for messages. */
  readonly owner: string;
  readonly datatypes: readonly DataType[];
  readonly dims: readonly number[];
  /** With the batch dimension. */
  readonly full: readonly number[];
  readonly before: Node[];
  readonly after: Node[];
  /** Of the step that writes it; shared by all that the step writes. */
  step: { label: number | undefined } | undefined;
  decoupled: boolean;
  /** Tensors with the same label come equally often; undefined: not visited yet. */
  label: number | undefined;
}

/**
 * Hold an ensemble against the models that it is made of, with Triton's texts.
 * @returns whether any of its responses comes from a decoupled model, which makes the ensemble decoupled too
 * @throws TritonError
 */
export function linkEnsemble(config: ModelConfig, find: FindPart): boolean {
  const { name, maxBatchSize } = config;
  const nodes = new Map<string, Node>();
  const sink = node(name, 0, [], []);
  for (const { name: tensor, dataType, dims, reshape } of config.input) {
    nodes.set(tensor, node(name, maxBatchSize, [datatypeOf(dataType)], (reshape?.shape ?? dims).map(Number)));
  }
  for (const { name: tensor, dataType, dims, reshape } of config.output) {
    const output =
      nodes.get(tensor) ?? node(name, maxBatchSize, [datatypeOf(dataType)], (reshape?.shape ?? dims).map(Number));
    nodes.set(tensor, output);
    connect(output, sink);
  }
  const steps = config.schedulingChoice.case === 'ensembleScheduling' ? config.schedulingChoice.value.step : [];
  for (const step of steps) {
    const part = find(step);
    if (part.maxBatchSize !== 0 && part.maxBatchSize < maxBatchSize) {
      throw invalid(
        `ensemble ${name} allows maximum batch size ${maxBatchSize}, but it contains model ${step.modelName} which ` +
          `only allows maximum batch size to be ${part.maxBatchSize}`,
      );
    }
    mapInputs(name, step, part, nodes);
    mapOutputs(name, step, part, nodes);
  }
  const inputs = config.input.map((input) => nodes.get(input.name) as Node);
  return label(name, inputs);
}

function mapInputs(ensemble: string, { modelName, inputMap }: Step, part: ModelSignature, nodes: Map<string, Node>) {
  for (const [input, tensor] of Object.entries(inputMap)) {
    if (part.inputs.some(({ name }) => name === input)) continue;
    const mapped = `ensemble tensor ${tensor} is mapping to non-existing input ${input}`;
    throw invalid(`in ensemble ${ensemble}, ${mapped} in model ${modelName}`);
  }
  for (const { name, datatypes, dims, optional } of part.inputs) {
    const tensor = Object.hasOwn(inputMap, name) ? inputMap[name] : undefined;
    if (tensor !== undefined) add(ensemble, tensor, node(modelName, part.maxBatchSize, datatypes, dims), nodes);
    else if (!optional) {
      throw invalid(
        `in ensemble ${ensemble}, input ${name} in model ${modelName} is not mapped to any ensemble tensors`,
      );
    }
  }
}

function mapOutputs(
  ensemble: string,
  { modelName, inputMap, outputMap }: Step,
  part: ModelSignature,
  nodes: Map<string, Node>,
): void {
  const step = { label: undefined };
  for (const [output, tensor] of Object.entries(outputMap)) {
    const declared = part.outputs.find(({ name }) => name === output);
    if (declared === undefined) {
      const mapped = `ensemble tensor ${tensor} is mapped from non-existing output ${output}`;
      throw invalid(`in ensemble ${ensemble}, ${mapped} in model ${modelName}`);
    }
    const { datatype, dims } = declared;
    const written = add(ensemble, tensor, node(modelName, part.maxBatchSize, [datatype], dims), nodes);
    written.step = step;
    written.decoupled = part.decoupled;
    for (const input of Object.values(inputMap)) connect(nodes.get(input) as Node, written);
  }
}

function node(owner: string, maxBatchSize: number, datatypes: readonly DataType[], dims: readonly number[]): Node {
  const full = fullShape({ maxBatchSize }, dims);
  const links = { before: [], after: [], step: undefined, decoupled: false, label: undefined };
  return { owner, datatypes, dims, full, ...links };
}

function connect(before: Node, after: Node): void {
  before.after.push(after);
  after.before.push(before);
}

/** A further declaration of a tensor must agree with the first. */
function add(ensemble: string, tensor: string, declared: Node, nodes: Map<string, Node>): Node {
  const first = nodes.get(tensor);
  if (first === undefined) {
    nodes.set(tensor, declared);
    return declared;
  }
  const differ = (what: string, a: string, b: string): Error =>
    invalid(
      `in ensemble ${ensemble}, ensemble tensor ${tensor}: inconsistent ${what}: ${a} is inferred from model ` +
        `${first.owner} while ${b} is inferred from model ${declared.owner}`,
    );
  if (!first.datatypes.some((datatype) => declared.datatypes.includes(datatype))) {
    throw differ('data type', configType(first.datatypes[0]), configType(declared.datatypes[0]));
  }
  // A model without a batch dimension may have its size among its own dimensions.
  if (!agree(first.dims, declared.dims) && !agree(first.full, declared.full)) {
    throw differ('shape', printShape(first.full), printShape(declared.full));
  }
  return first;
}

/** Whether two shapes can be the same; -1 is any size. */
export function agree(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i] || dim === -1 || b[i] === -1);
}

/** Follow the tensors from the inputs: what meets in a step must come equally often. */
function label(ensemble: string, inputs: readonly Node[]): boolean {
  const queue = [...inputs];
  for (const input of queue) input.label = 0;
  let labels = 0;
  for (const current of queue) {
    for (const next of current.after) {
      if (next.label !== undefined || next.before.some((before) => before.label === undefined)) continue;
      const [{ label: before }] = next.before;
      if (next.before.some((other) => other.label !== before)) {
        const problem = 'receives inputs originated from different decoupled models';
        throw invalid(`in ensemble ${ensemble}, step of model '${next.owner}' ${problem}`);
      }
      next.label = next.step?.label ?? (next.decoupled ? ++labels : before);
      if (next.step !== undefined) next.step.label = next.label;
      queue.push(next);
    }
  }
  return labels > 0;
}
