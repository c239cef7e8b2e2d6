/**
 * The structs of `cuda.h` that cross the border, as byte offsets on a 64-bit system (checked against CUDA 13's header
 * with a C++ compiler; unchanged since 12.0).
 */
export const LAUNCH_CONFIG = {
  bytes: 56,
  grid: 0,
  block: 12,
  sharedBytes: 24,
  stream: 32,
  attributes: 40,
  attributeCount: 48,
} as const;

/** CUlaunchAttribute: the id, padding to 8, and a union of 64 bytes. */
export const LAUNCH_ATTRIBUTE = { bytes: 72, id: 0, value: 8 } as const;

export const LAUNCH_ATTRIBUTE_ID = {
  cooperative: 2,
  clusterDimension: 4,
  programmaticStreamSerialization: 6,
  priority: 8,
} as const;

/** CUDA_KERNEL_NODE_PARAMS (version 2). */
export const KERNEL_NODE_PARAMS = {
  bytes: 72,
  function: 0,
  grid: 8,
  block: 20,
  sharedBytes: 32,
  kernelParams: 40,
  kernel: 56,
  context: 64,
} as const;

export const MEM_POOL_PROPS = {
  bytes: 88,
  allocationType: 0,
  handleTypes: 4,
  locationType: 8,
  locationId: 12,
  maxSize: 24,
} as const;

export const MEM_ACCESS = { bytes: 12, locationType: 0, locationId: 4, flags: 8 } as const;

export const TENSOR_MAP = { bytes: 128, align: 64 } as const;
export const IPC_HANDLE_BYTES = 64;

/** Writes an address or another number below 2^53 as 64 bits. */
export function setWord(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Reads 64 bits that hold a number below 2^53. */
export function getWord(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 0x1_0000_0000;
}
