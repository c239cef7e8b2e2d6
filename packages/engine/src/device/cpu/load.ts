import { setImmediate } from 'node:timers/promises';
import type { Arena, Cpu, PackedMatrix, SourceDtype } from '@rose/cpu';
import type { Checkpoint, CheckpointTensor } from '../../checkpoint/checkpoint.ts';
import { sizeOf } from '../../model/parameters.ts';
import { buildPlan } from '../../plan/build.ts';
import type { DeviceModel } from '../device.ts';
import { planMemory, tableBytes, tableDtype, type CpuLoadOptions, type MemoryPlan } from './memory.ts';
import { CpuModel } from './model.ts';

/** The smallest page that a system gives memory in. */
const SYSTEM_PAGE = 4096;
const TOUCH_AT_ONCE = 8 * 1024 ** 2;
const WIDENED =
  'its weights of 8 bits are widened to float32 on the CPU, and activations stay float32; --quantize int8 takes a quarter of the memory';

/** A model's weights in an arena, under the names the plan uses. */
export interface CpuWeights {
  /** By the group's key: the plan's weight names joined with `+`. */
  readonly matrices: ReadonlyMap<string, { readonly matrix: PackedMatrix; readonly bias: number }>;
  readonly tables: ReadonlyMap<string, { readonly pointer: number; readonly dtype: 'f32' | 'bf16' }>;
  /** float32, by parameter name. */
  readonly vectors: ReadonlyMap<string, number>;
}

/** Plan the memory, make the arena, stream the weights into it and compile the plan. */
export async function loadCpuModel(cpu: Cpu, checkpoint: Checkpoint, options: CpuLoadOptions): Promise<DeviceModel> {
  const plan = buildPlan(checkpoint.spec);
  const memory = planMemory(checkpoint, plan, options, cpu);
  const arena = await cpu.createArena(memory.arenaBytes);
  try {
    await touch(arena);
    options.onPhase?.('memory');
    const weights = await loadWeights(arena, memory, options);
    options.onPhase?.('weights');
    const narrow = checkpoint.tensors.some(({ fp8 }) => fp8 !== undefined);
    const notes = narrow && options.quantize === undefined ? [WIDENED] : [];
    return new CpuModel(arena, checkpoint.spec, plan, memory, weights, options.cacheDtype, notes);
  } catch (error) {
    arena.close();
    throw error;
  }
}

/**
 * The system finds memory when it is first written to, which may take it milliseconds for every two megabytes. A step
 * that was the first to use a page of keys would wait for that in each layer, so it is done here, before anything runs.
 */
async function touch(arena: Arena): Promise<void> {
  for (let begin = 0; begin < arena.capacity; begin += TOUCH_AT_ONCE) {
    const bytes = arena.u8(begin, Math.min(TOUCH_AT_ONCE, arena.capacity - begin));
    for (let at = 0; at < bytes.length; at += SYSTEM_PAGE) bytes[at] = 0;
    // Another model may be in the middle of its answers.
    await setImmediate();
  }
}

async function loadWeights(arena: Arena, memory: MemoryPlan, options: CpuLoadOptions): Promise<CpuWeights> {
  const matrices = new Map<string, { matrix: PackedMatrix; bias: number }>();
  const tables = new Map<string, { pointer: number; dtype: 'f32' | 'bf16' }>();
  const vectors = new Map<string, number>();
  /** What happens to a piece of a tensor: rows [firstRow, firstRow + rows) lie row-major at `source`. */
  const sinks: { tensor: CheckpointTensor; store: (firstRow: number, rows: number, source: number) => void }[] = [];

  for (const group of memory.groups) {
    const matrix = arena.matrix(group.outputs, group.inputs, group.format);
    const bias = group.biases.length > 0 ? arena.alloc(4 * group.outputs) : 0;
    matrices.set(group.key, { matrix, bias });
    let below = 0;
    group.tensors.forEach((tensor, i) => {
      const offset = below;
      below += tensor.parameter.shape[0];
      sinks.push({
        tensor,
        store: (firstRow, rows, source) => arena.pack(matrix, offset + firstRow, rows, source, tensor.dtype),
      });
      if (bias !== 0) sinks.push({ tensor: group.biases[i], store: widenTo(group.biases[i], bias + 4 * offset) });
    });
  }
  for (const tensor of memory.tables) {
    const dtype = tableDtype(tensor, options);
    const pointer = arena.alloc(tableBytes(tensor, options));
    tables.set(tensor.parameter.name, { pointer, dtype });
    const width = tensor.parameter.shape[1];
    const store = dtype === 'f32' ? widenTo(tensor, pointer) : copyTo(pointer, 2 * width);
    sinks.push({ tensor, store });
  }
  for (const tensor of memory.vectors) {
    const pointer = arena.alloc(4 * sizeOf(tensor.parameter));
    vectors.set(tensor.parameter.name, pointer);
    sinks.push({ tensor, store: widenTo(tensor, pointer) });
  }

  const total = sinks.reduce((bytes, { tensor }) => bytes + tensor.byteLength, 0);
  let done = 0;
  const mark = arena.used;
  const staging = arena.alloc(memory.staging);
  const half = memory.staging / 2;
  let pending: (() => void) | undefined;
  let side = 0;
  for (const { tensor, store } of sinks) {
    const rowBytes = tensor.byteLength / tensor.parameter.shape[0];
    const rowsAtOnce = Math.max(1, Math.floor(half / rowBytes));
    for (let first = 0; first < tensor.parameter.shape[0]; first += rowsAtOnce) {
      const rows = Math.min(rowsAtOnce, tensor.parameter.shape[0] - first);
      const source = staging + side * half;
      const reading = tensor.read(arena.u8(source, rows * rowBytes), first * rowBytes);
      // While the disk fills one half, the team packs the other.
      try {
        pending?.();
      } finally {
        await reading;
      }
      pending = () => store(first, rows, source);
      side = 1 - side;
      done += rows * rowBytes;
      options.onProgress?.(done, total);
    }
  }
  pending?.();
  arena.release(mark);
  return { matrices, tables, vectors };

  function widenTo(tensor: CheckpointTensor, pointer: number): (first: number, rows: number, source: number) => void {
    const width = sizeOf(tensor.parameter) / tensor.parameter.shape[0];
    const dtype: SourceDtype = tensor.dtype;
    return (first, rows, source) => arena.widen(source, dtype, rows * width, pointer + 4 * first * width);
  }

  function copyTo(pointer: number, rowBytes: number): (first: number, rows: number, source: number) => void {
    return (first, rows, source) => {
      arena.u8(pointer + first * rowBytes, rows * rowBytes).set(arena.u8(source, rows * rowBytes));
    };
  }
}
