/**
 * What is recorded, and what receives it.
 *
 * @module
 */
import type { Cost, Grid } from "../kernel/declaration.ts";
import type { CompiledKernel } from "../kernel/pipeline_cache.ts";

/** Bytes of one slot of uniform parameters: the largest offset alignment that WebGPU allows. */
export const slotBytes = 256;

/** One dispatch as a kernel records it. */
export interface DispatchRecord {
  readonly kernel: CompiledKernel;
  readonly entries: readonly GPUBufferBinding[];
  /** Writes the uniform parameters into a slot of {@linkcode slotBytes}. */
  readonly pack: (view: DataView) => void;
  readonly grid: Grid;
  /** The row of a profile that the dispatch counts toward. */
  readonly name: string;
  /** Given when {@linkcode Sink.needsCost} is set. */
  readonly cost: Cost | undefined;
}

/** One copy between buffers. */
export interface CopyRecord {
  readonly source: GPUBuffer;
  readonly sourceOffset: number;
  readonly target: GPUBuffer;
  readonly targetOffset: number;
  readonly bytes: number;
}

/** A dispatch whose bind group and parameters are resolved. */
export interface ResolvedDispatch {
  readonly record: DispatchRecord;
  readonly group: GPUBindGroup;
  /** Index of its parameters in the {@linkcode ParamSlots} that it is encoded with. */
  readonly slot: number;
}

/** One command of a captured program. */
export type ProgramCommand = ResolvedDispatch | CopyRecord;

/** A uniform buffer of parameter slots, ready to bind. */
export interface ParamSlots {
  readonly group: GPUBindGroup;
  /** Byte offset of each slot. Deno reads a dynamic offset faster from a typed array. */
  readonly offsets: Uint32Array;
}

/** Receives what is recorded. */
export interface Sink {
  /** Whether dispatches must carry their cost. */
  readonly needsCost: boolean;
  dispatch(record: DispatchRecord): void;
  copy(record: CopyRecord): void;
  /**
   * Repeats the commands of a program, with the parameters of the program.
   *
   * @throws {GpuError} where the sink cannot: while another program is captured
   */
  replay(commands: readonly ProgramCommand[], params: ParamSlots): void;
  /** Hands everything received to the device, where the sink encodes for it. Does not wait. */
  submit?(): void;
}

/** The uniform parameters of a dispatch, packed. */
export function packedParams({ pack }: DispatchRecord): Uint8Array<ArrayBuffer> {
  const params = new Uint8Array(slotBytes);
  pack(new DataView(params.buffer));
  return params;
}
