import type { ModelConfig } from '../grpc/proto/model_config_pb.js';
import { TritonError } from '../triton/errors.ts';

/** Fields that Rose does not do and whose author counts on an effect, as a configuration's author writes them. */
function* fieldsOf(config: ModelConfig): Generator<readonly [set: boolean, field: string]> {
  yield [config.batchInput.length > 0, 'batch_input'];
  yield [config.batchOutput.length > 0, 'batch_output'];
  yield [(config.modelRepositoryAgents?.agents.length ?? 0) > 0, 'model_repository_agents'];
  yield [config.runtime !== '', 'runtime'];
  yield [Object.keys(config.ccModelFilenames).length > 0, 'cc_model_filenames'];
  yield [Object.keys(config.metricTags).length > 0, 'metric_tags'];
  yield [(config.modelMetrics?.metricControl.length ?? 0) > 0, 'model_metrics'];
  yield [(config.modelOperations?.opLibraryFilename.length ?? 0) > 0, 'model_operations'];
  yield [config.optimization?.executionAccelerators !== undefined, 'optimization.execution_accelerators'];
  for (const { profile, passive, secondaryDevices } of config.instanceGroup) {
    yield [profile.length > 0, 'instance_group.profile'];
    yield [passive, 'instance_group.passive'];
    yield [secondaryDevices.length > 0, 'instance_group.secondary_devices'];
  }
  for (const { isNonLinearFormatIo } of config.input) yield [isNonLinearFormatIo, 'input.is_non_linear_format_io'];
  for (const { isNonLinearFormatIo } of config.output) yield [isNonLinearFormatIo, 'output.is_non_linear_format_io'];
  const { schedulingChoice } = config;
  if (schedulingChoice.case !== 'ensembleScheduling') return;
  for (const { modelNamespace } of schedulingChoice.value.step) {
    yield [modelNamespace !== '', 'ensemble_scheduling.step.model_namespace'];
  }
}

/**
 * Refuse what would have no effect.
 * @throws TritonError 501 that names the field
 */
export function refuseUnsupported(config: ModelConfig): void {
  for (const [set, field] of fieldsOf(config)) {
    if (!set) continue;
    throw new TritonError(501, `${field} of model '${config.name}' is not supported by Rose: leave it out`);
  }
}
