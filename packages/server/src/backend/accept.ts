import type { Job } from '../scheduling/job.ts';
import { malformed } from '../triton/errors.ts';
import { fits, fullShape, type ModelSignature, type ModelResponse } from '../triton/model.ts';
import { printShape } from '../triton/tensor.ts';

/** Check what a model made against its configuration: a client must not get what metadata does not say. */
export function acceptResponse(signature: ModelSignature, job: Job, { outputs }: ModelResponse): void {
  for (const { name, datatype, shape } of outputs) {
    const spec = signature.outputs.find((candidate) => candidate.name === name);
    const where = (): string => `output '${name}' of model '${signature.name}'`;
    if (spec === undefined) throw malformed(`the model made an unexpected ${where()}`);
    if (spec.datatype !== datatype)
      throw malformed(`${where()} is ${datatype}; its configuration says ${spec.datatype}`);
    if (fits(signature, spec.dims, shape) && (signature.maxBatchSize === 0 || shape[0] === job.rows)) continue;
    const expected = fullShape(signature, spec.dims);
    const batch = signature.maxBatchSize > 0 ? ` for a request of batch size ${job.rows}` : '';
    throw malformed(
      `${where()} has shape ${printShape(shape)}${batch}; its configuration says ${printShape(expected)}`,
    );
  }
}
