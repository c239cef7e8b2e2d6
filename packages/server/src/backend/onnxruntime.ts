import { fileURLToPath } from 'node:url';
import type { Backend } from './backend.ts';
import { instancesBackend } from './typescript.ts';

const FILE = 'model.onnx';
const MODEL = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? './onnx-model.worker.ts' : './onnx-model.worker.js', import.meta.url),
);

/** Models in ONNX, which onnxruntime-node runs where it is installed: a class of ours in place of the user's. */
export const onnxruntimeBackend: Backend = instancesBackend([FILE], () => MODEL);
