import type { Job } from '../scheduling/job.ts';
import { malformed } from '../triton/errors.ts';
import { fullShape, type ModelSignature, type ModelResponse } from '../triton/model.ts';
import { printShape } from '../triton/tensor.ts';

/** Check what a model made against its configuration: a client must not get what metadata does not say. */
export function acceptResponse(signature: ModelSignature, job: Job, { outputs }: ModelResponse): void {
  for (const { name, datatype, shape } of outputs) {
    const where = `output '${name}' of model '${signature.name}'`;
    const spec = signature.outputs.find((candidate) => candidate.name === name);
    if (spec === undefined) throw malformed(`the model made an unexpected ${where}`);
    if (spec.datatype !== datatype) throw malformed(`${where} is ${datatype}; its configuration says ${spec.datatype}`);
    const expected = fullShape(signature, spec.dims);
    const fits =
      shape.length === expected.length &&
      shape.every((dim, i) => expected[i] === -1 || expected[i] === dim) &&
      (signature.maxBatchSize === 0 || shape[0] === job.rows);
    if (fits) continue;
    const batch = signature.maxBatchSize > 0 ? ` for a request of batch size ${job.rows}` : '';
    throw malformed(`${where} has shape ${printShape(shape)}${batch}; its configuration says ${printShape(expected)}`);
  }
}
