import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

/** ONNX's numbers of element types. */
export const ONNX = { FLOAT: 1, INT64: 7, STRING: 8, BOOL: 9, FLOAT16: 10 } as const;

export interface OnnxValue {
  readonly name: string;
  readonly type: number;
  /** A text is a dimension of any size. */
  readonly shape: readonly (number | string)[];
}

export interface OnnxNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

type Write = (writer: BinaryWriter) => void;

/** A message inside another. */
function field(writer: BinaryWriter, number: number, write: Write): void {
  writer.tag(number, WireType.LengthDelimited).fork();
  write(writer);
  writer.join();
}

const text = (writer: BinaryWriter, number: number, value: string): unknown =>
  writer.tag(number, WireType.LengthDelimited).string(value);
const integer = (writer: BinaryWriter, number: number, value: number): unknown =>
  writer.tag(number, WireType.Varint).int64(value);

/** A model in ONNX: field numbers are those of onnx.proto. */
export function onnxFile(
  inputs: readonly OnnxValue[],
  outputs: readonly OnnxValue[],
  nodes: readonly OnnxNode[],
): Buffer {
  const value =
    ({ name, type, shape }: OnnxValue): Write =>
    (writer) => {
      text(writer, 1, name);
      field(writer, 2, (typeProto) =>
        field(typeProto, 1, (tensor) => {
          integer(tensor, 1, type);
          field(tensor, 2, (dims) => {
            for (const dim of shape) {
              field(dims, 1, (one) => (typeof dim === 'number' ? integer(one, 1, dim) : text(one, 2, dim)));
            }
          });
        }),
      );
    };
  const writer = new BinaryWriter();
  integer(writer, 1, 8);
  field(writer, 7, (graph) => {
    for (const node of nodes) {
      field(graph, 1, (one) => {
        for (const name of node.inputs) text(one, 1, name);
        for (const name of node.outputs) text(one, 2, name);
        text(one, 4, node.op);
      });
    }
    text(graph, 2, 'graph');
    for (const input of inputs) field(graph, 11, value(input));
    for (const output of outputs) field(graph, 12, value(output));
  });
  field(writer, 8, (opset) => {
    text(opset, 1, '');
    integer(opset, 2, 13);
  });
  return Buffer.from(writer.finish());
}
