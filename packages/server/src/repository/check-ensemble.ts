import type { ModelConfig, ModelEnsembling, ModelEnsembling_Step as Step } from '../grpc/proto/model_config_pb.js';
import { invalid } from '../triton/errors.ts';

/** The platform of a model that is made of others. */
export const ENSEMBLE_PLATFORM = 'ensemble';

/** A tensor inside an ensemble, and how it hangs together with others. */
interface Node {
  readonly name: string;
  written: boolean;
  ready: boolean;
  /** Tensors that must be there for it to be written. */
  readonly before: Node[];
  /** Tensors that are written from it. */
  readonly after: Node[];
}

/** Refuse an ensemble that cannot run whatever its parts are, with Triton's texts. */
export function checkEnsemble(config: ModelConfig, { step: steps }: ModelEnsembling): void {
  const { name } = config;
  if (config.platform !== ENSEMBLE_PLATFORM) {
    throw invalid(
      `ensemble scheduling cannot be set for model '${name}' whose platform is not ${ENSEMBLE_PLATFORM}: ` +
        `write platform: "${ENSEMBLE_PLATFORM}"`,
    );
  }
  const foreign: readonly (readonly [boolean, string])[] = [
    [config.instanceGroup.length > 0, 'instance group should'],
    [config.optimization !== undefined, 'optimization should'],
    [config.modelWarmup.length > 0, 'model_warmup can'],
  ];
  const asked = foreign.find(([set]) => set);
  if (asked !== undefined) throw invalid(`${asked[1]} not be specified for ensemble '${name}'`);
  if (steps.length === 0) throw invalid(`must specify 'step' for ensemble '${name}'`);
  const nodes = graphOf(name, steps);
  for (const input of config.input) {
    const node = nodes.get(input.name);
    if (node === undefined) throw invalid(`ensemble input '${input.name}' for ensemble '${name}' is not used`);
    node.ready = true;
  }
  spread(config.input.map((input) => nodes.get(input.name) as Node));
  for (const output of config.output) {
    const node = nodes.get(output.name);
    if (node === undefined) throw invalid(`ensemble output '${output.name}' for ensemble '${name}' is not used`);
    if (!node.ready) throw notWritten(name, node);
  }
  const outputs = new Set(config.output.map((output) => output.name));
  for (const node of nodes.values()) {
    if (outputs.has(node.name) || (node.ready && node.after.length > 0)) continue;
    throw invalid(`ensemble tensor '${node.name}' is unused in ensemble '${name}'`);
  }
}

function graphOf(ensemble: string, steps: readonly Step[]): Map<string, Node> {
  const nodes = new Map<string, Node>();
  const nodeOf = (name: string): Node => {
    let node = nodes.get(name);
    if (node === undefined) nodes.set(name, (node = { name, written: false, ready: false, before: [], after: [] }));
    return node;
  };
  steps.forEach(({ modelName, inputMap, outputMap }, i) => {
    const missing = [
      modelName === '' && 'model_name',
      Object.keys(inputMap).length === 0 && 'input_map',
      Object.keys(outputMap).length === 0 && 'output_map',
    ].find((field) => field !== false);
    if (missing !== undefined) throw invalid(`must specify '${missing}' in step ${i} of ensemble '${ensemble}'`);
    const outputs = Object.values(outputMap).map((tensor) => {
      const node = nodeOf(tensor);
      if (node.written) {
        const rule = 'can appear in an output map only once for ensemble';
        throw invalid(`ensemble tensor '${tensor}' ${rule} '${ensemble}' step ${i}`);
      }
      node.written = true;
      return node;
    });
    for (const tensor of Object.values(inputMap)) {
      const input = nodeOf(tensor);
      for (const output of outputs) {
        output.before.push(input);
        input.after.push(output);
      }
    }
  });
  return nodes;
}

/** Mark what can be written once these are there. */
function spread(ready: Node[]): void {
  for (const node of ready) {
    for (const next of node.after) {
      if (next.ready || next.before.some((before) => !before.ready)) continue;
      next.ready = true;
      ready.push(next);
    }
  }
}

/** Names the tensor at which the way to an output begins to be missing. */
function notWritten(ensemble: string, output: Node): Error {
  const seen = new Set<Node>();
  let source = output;
  for (;;) {
    const earlier = source.before.find((node) => !node.ready && !seen.has(node));
    if (earlier === undefined) break;
    seen.add(earlier);
    source = earlier;
  }
  const text = `output '${output.name}' for ensemble '${ensemble}' is not written`;
  if (source === output) return invalid(text);
  return invalid(`${text}: at least one of its depending tensors, '${source.name}', is not connected`);
}
