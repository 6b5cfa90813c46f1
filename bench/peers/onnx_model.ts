/**
 * ONNX models of single operations, written as protobuf (onnx.proto).
 *
 * @module
 */
import type { PeerTask } from "../cases/task.ts";
import { operandShapes } from "../cases/task.ts";
import { importPackage } from "./peer.ts";

/** A writer of protobuf messages, as the package pbf makes it. */
interface Writer {
  writeVarintField(tag: number, value: number): void;
  writeStringField(tag: number, text: string): void;
  writeBytesField(tag: number, bytes: Uint8Array): void;
  writeMessage<T>(tag: number, write: (value: T, writer: Writer) => void, value: T): void;
  finish(): Uint8Array<ArrayBuffer>;
}

/** Data type FLOAT of TensorProto, and attribute types INT and INTS of AttributeProto. */
const float = 1, intAttribute = 2, intsAttribute = 7;

interface Operation {
  readonly type: string;
  /** Default: ONNX itself. */
  readonly domain?: string;
  readonly attributes: Readonly<Record<string, number | readonly number[]>>;
}

/** The operation that performs a task on operands in this project's layout. */
function operationOf(task: PeerTask): Operation {
  switch (task.op) {
    case "matmul":
      return task.transposeB ? { type: "Gemm", attributes: { transB: 1 } } : { type: "MatMul", attributes: {} };
    case "conv2d": {
      const { kernel, stride } = task, side = kernel >> 1;
      return {
        type: "Conv",
        attributes: { kernel_shape: [kernel, kernel], pads: [side, side, side, side], strides: [stride, stride] },
      };
    }
    case "attention":
      return { type: "MultiHeadAttention", domain: "com.microsoft", attributes: { num_heads: task.heads } };
  }
}

/** Names of the operands. */
export const operandNames = ["a", "b", "c"] as const;

/**
 * The number of operands that change between runs: the others are weights, which an engine may pack
 * once.
 */
export function inputsOf(task: PeerTask): number {
  return task.op === "attention" ? 3 : 1;
}

/** The model of a task, with its weights inside; the result is named "y". */
export async function onnxModel(
  task: PeerTask,
  operands: readonly Float32Array<ArrayBuffer>[],
): Promise<Uint8Array<ArrayBuffer>> {
  const { PbfWriter } = await importPackage("npm:pbf@5.1.2");
  const writer: Writer = new PbfWriter();
  writer.writeVarintField(1, 8); // ir_version
  writer.writeMessage(7, writeGraph, { task, operands });
  for (const [domain, version] of [["", 17], ["com.microsoft", 1]] as const) {
    writer.writeMessage(8, (_, opset) => {
      opset.writeStringField(1, domain);
      opset.writeVarintField(2, version);
    }, domain);
  }
  return writer.finish();
}

function writeGraph(
  { task, operands }: { task: PeerTask; operands: readonly Float32Array<ArrayBuffer>[] },
  graph: Writer,
): void {
  const shapes = operandShapes(task), inputs = inputsOf(task);
  graph.writeMessage(1, writeNode, { operation: operationOf(task), inputs: operandNames.slice(0, shapes.length) });
  graph.writeStringField(2, task.op);
  shapes.forEach((dims, i) => {
    const name = operandNames[i];
    if (i < inputs) graph.writeMessage(11, writeValueInfo, { name, dims });
    else graph.writeMessage(5, writeTensor, { name, dims, values: operands[i] });
  });
  graph.writeMessage(12, writeValueInfo, { name: "y" });
}

function writeNode({ operation, inputs }: { operation: Operation; inputs: readonly string[] }, node: Writer): void {
  for (const name of inputs) node.writeStringField(1, name);
  node.writeStringField(2, "y");
  node.writeStringField(4, operation.type);
  for (const [name, value] of Object.entries(operation.attributes)) {
    node.writeMessage(5, (_, attribute) => {
      attribute.writeStringField(1, name);
      if (typeof value === "number") attribute.writeVarintField(3, value);
      else value.forEach((each) => attribute.writeVarintField(8, each));
      attribute.writeVarintField(20, typeof value === "number" ? intAttribute : intsAttribute);
    }, name);
  }
  if (operation.domain !== undefined) node.writeStringField(7, operation.domain);
}

/** A name with its type; results have no shape, which the engine infers. */
function writeValueInfo({ name, dims }: { name: string; dims?: readonly number[] }, info: Writer): void {
  info.writeStringField(1, name);
  info.writeMessage(2, (_, type) => {
    type.writeMessage(1, (_, tensor) => {
      tensor.writeVarintField(1, float);
      if (dims === undefined) return;
      tensor.writeMessage(2, (_, shape) => {
        for (const dim of dims) shape.writeMessage(1, (_, each) => each.writeVarintField(1, dim), dim);
      }, dims);
    }, name);
  }, name);
}

function writeTensor(
  { name, dims, values }: { name: string; dims: readonly number[]; values: Float32Array<ArrayBuffer> },
  tensor: Writer,
): void {
  for (const dim of dims) tensor.writeVarintField(1, dim);
  tensor.writeVarintField(2, float);
  tensor.writeStringField(8, name);
  tensor.writeBytesField(9, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
}
