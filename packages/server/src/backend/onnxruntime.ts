import { fileURLToPath } from 'node:url';
import { TritonError } from '../triton/errors.ts';
import type { Backend } from './backend.ts';
import { instancesBackend } from './typescript.ts';

const FILE = 'model.onnx';
const MODEL = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? './onnx-model.worker.ts' : './onnx-model.worker.js', import.meta.url),
);

const instances: Backend = instancesBackend([FILE], () => MODEL);

/** Models in ONNX, which onnxruntime-node runs where it is installed: a class of ours in place of the user's. */
export const onnxruntimeBackend: Backend = {
  ...instances,
  complete: (config, directory, signal) => {
    if (config.optimization?.executionAccelerators !== undefined) {
      const which = `execution_accelerators of model '${config.name}'`;
      throw new TritonError(501, `${which} are not supported: onnxruntime runs it on the CPU`);
    }
    return instances.complete(config, directory, signal);
  },
};
