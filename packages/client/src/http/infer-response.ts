import { arrayClass, isDataType, type ArrayOf, type DataType } from '../datatype.ts';
import { InferenceError } from '../errors.ts';
import type { Parameters } from '../request.ts';
import { InferResponse, type OutputTensor } from '../response.ts';
import { fromBytes, tensor } from '../tensor.ts';

/** As the protocol has it. */
interface Head {
  readonly model_name: string;
  readonly model_version?: string;
  readonly id?: string;
  readonly parameters?: Parameters;
  readonly outputs?: readonly HeadOutput[];
}

interface HeadOutput {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly parameters?: Readonly<Record<string, number | string>>;
  readonly data?: readonly unknown[];
}

/**
 * Read the body of an answer of `/infer`.
 * @param headerLength bytes of JSON in front of the tensors; undefined: all of it is JSON
 * @throws InferenceError `protocol`
 */
export function readInferResponse(body: Uint8Array, headerLength: number | undefined): InferResponse {
  const json = new TextDecoder().decode(body.subarray(0, headerLength ?? body.length));
  let head: Head;
  try {
    head = JSON.parse(json) as Head;
  } catch (error) {
    throw new InferenceError('protocol', `the answer is not JSON: ${(error as Error).message}`, { cause: error });
  }
  let at = headerLength ?? body.length;
  const outputs = (head.outputs ?? []).map((output) => {
    const size = output.parameters?.['binary_data_size'];
    if (typeof size !== 'number') return ofJson(output);
    const start = at;
    at += size;
    if (at > body.length) throw wrong(output, `ends beyond the answer's ${body.length} bytes`);
    return read(output, (datatype) => fromBytes(datatype, output.shape, body.subarray(start, at)).data);
  });
  const { model_name: model, model_version: version = '', id = '', parameters = {} } = head;
  return new InferResponse({ model, version, id, parameters, outputs });
}

/** An output that a server gives as JSON though bytes were asked for, or that lies in shared memory. */
function ofJson(output: HeadOutput): OutputTensor {
  const data = output.data?.flat(Infinity);
  if (data === undefined) return read(output, () => undefined);
  return read(output, (datatype) => {
    if (datatype === 'BYTES') return tensor('BYTES', output.shape, data as string[]).data;
    const big = datatype === 'INT64' || datatype === 'UINT64';
    const elements = new (arrayClass(datatype))(
      new ArrayBuffer(data.length * arrayClass(datatype).BYTES_PER_ELEMENT),
      0,
      data.length,
    );
    data.forEach((element, i) => (elements[i] = big ? BigInt(element as number) : Number(element)));
    return elements;
  });
}

function read(output: HeadOutput, elements: (datatype: DataType) => ArrayOf[DataType] | undefined): OutputTensor {
  const { name, datatype, shape, parameters = {} } = output;
  if (!isDataType(datatype)) throw wrong(output, `has the unknown type ${datatype}`);
  try {
    return { name, datatype, shape, parameters, data: elements(datatype) };
  } catch (error) {
    throw wrong(output, `does not fit its type ${datatype}: ${(error as Error).message}`);
  }
}

function wrong({ name }: HeadOutput, problem: string): InferenceError {
  return new InferenceError('protocol', `output '${name}' of the answer ${problem}`);
}
