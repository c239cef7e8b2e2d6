import type { ArrayOf, DataType } from './datatype.ts';
import { InferenceError } from './errors.ts';
import type { ParameterValue, Parameters } from './request.ts';
import type { Tensor } from './tensor.ts';

export interface OutputTensor {
  readonly name: string;
  readonly datatype: DataType;
  readonly shape: readonly number[];
  /** Undefined: the server wrote it to shared memory. */
  readonly data: ArrayOf[DataType] | undefined;
  readonly parameters: Parameters;
}

/** What a model answered. Its arrays are views of the message, which stays in memory as long as they do. */
export class InferResponse {
  readonly model: string;
  readonly version: string;
  /** The request's; may be empty. */
  readonly id: string;
  readonly parameters: Readonly<Record<string, ParameterValue>>;
  readonly outputs: readonly OutputTensor[];

  constructor(parts: Pick<InferResponse, 'model' | 'version' | 'id' | 'parameters' | 'outputs'>) {
    this.model = parts.model;
    this.version = parts.version;
    this.id = parts.id;
    this.parameters = parts.parameters;
    this.outputs = parts.outputs;
  }

  /** Whether nothing follows for its request, on a stream. */
  get final(): boolean {
    return this.parameters['triton_final_response'] !== false;
  }

  /**
   * An output of a type that the caller knows.
   * @throws InferenceError `protocol` where the response has no such output, or one of another type
   */
  output<D extends DataType>(name: string, datatype: D): Tensor<D> {
    const output = this.outputs.find((candidate) => candidate.name === name);
    if (output === undefined) {
      const names = this.outputs.map((candidate) => candidate.name).join(', ');
      throw new InferenceError('protocol', `the response has no output '${name}'; it has ${names || 'none'}`);
    }
    if (output.datatype !== datatype) {
      throw new InferenceError('protocol', `output '${name}' is ${output.datatype}, not ${datatype}`);
    }
    if (output.data === undefined) {
      throw new InferenceError('protocol', `output '${name}' is in shared memory, not in the response`);
    }
    return output as unknown as Tensor<D>;
  }

  /** Texts of a BYTES output. */
  texts(name: string): string[] {
    const decoder = new TextDecoder();
    return this.output(name, 'BYTES').data.map((element) => decoder.decode(element));
  }
}
