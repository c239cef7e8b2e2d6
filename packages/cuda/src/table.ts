import type { HostData, Word } from './ffi.ts';

/**
 * Every function of the driver that Rose calls, by the name the library exports, with the words it takes; each gives a
 * CUresult. Signatures: `cuda.h` of CUDA 13; all of them exist since CUDA 12.0. Where the header renames a function
 * (`cuMemAlloc` is `cuMemAlloc_v2`), the table has the name behind it.
 */
export const TABLE = {
  cuInit: 'u32',
  cuDriverGetVersion: 'data',

  cuDeviceGetCount: 'data',
  cuDeviceGet: 'data i32',
  cuDeviceGetName: 'data i32 i32',
  cuDeviceGetUuid_v2: 'data i32',
  cuDeviceTotalMem_v2: 'data i32',
  cuDeviceGetAttribute: 'data i32 i32',
  cuDeviceGetPCIBusId: 'data i32 i32',

  cuDevicePrimaryCtxRetain: 'data i32',
  cuDevicePrimaryCtxRelease_v2: 'i32',
  cuCtxSetCurrent: 'word',
  cuCtxSynchronize: '',
  cuCtxGetStreamPriorityRange: 'data data',

  cuMemGetInfo_v2: 'data data',
  cuMemGetAddressRange_v2: 'data data word',
  cuMemAlloc_v2: 'data size',
  cuMemFree_v2: 'word',
  cuMemHostAlloc: 'data size u32',
  cuMemFreeHost: 'word',
  cuMemHostGetDevicePointer_v2: 'data word u32',
  cuMemPoolCreate: 'data data',
  cuMemPoolDestroy: 'word',
  cuMemPoolSetAttribute: 'word i32 data',
  cuMemPoolGetAttribute: 'word i32 data',
  cuMemPoolTrimTo: 'word size',
  cuMemPoolSetAccess: 'word data size',
  cuMemAllocFromPoolAsync: 'data size word word',
  cuMemFreeAsync: 'word word',

  cuMemcpyHtoDAsync_v2: 'word data size word',
  cuMemcpyDtoHAsync_v2: 'data word size word',
  cuMemcpyDtoDAsync_v2: 'word word size word',
  cuMemcpyPeerAsync: 'word word word word size word',
  cuMemsetD8Async: 'word u32 size word',
  cuMemsetD16Async: 'word u32 size word',
  cuMemsetD32Async: 'word u32 size word',

  cuStreamCreateWithPriority: 'data u32 i32',
  cuStreamDestroy_v2: 'word',
  cuStreamSynchronize: 'word',
  cuStreamQuery: 'word',
  cuStreamWaitEvent: 'word word u32',
  cuStreamBeginCapture_v2: 'word i32',
  cuStreamEndCapture: 'word data',
  cuStreamIsCapturing: 'word data',
  cuStreamGetCaptureInfo_v2: 'word data data data data data',

  cuEventCreate: 'data u32',
  cuEventDestroy_v2: 'word',
  cuEventRecord: 'word word',
  cuEventSynchronize: 'word',
  cuEventQuery: 'word',
  cuEventElapsedTime: 'data word word',

  cuGraphDestroy: 'word',
  cuGraphGetNodes: 'word data data',
  cuGraphNodeGetType: 'word data',
  cuGraphKernelNodeGetParams_v2: 'word data',
  cuGraphInstantiateWithFlags: 'data word word',
  cuGraphExecKernelNodeSetParams_v2: 'word word data',
  cuGraphExecDestroy: 'word',
  cuGraphUpload: 'word word',
  cuGraphLaunch: 'word word',

  cuLinkCreate_v2: 'u32 data data data',
  cuLinkAddData_v2: 'word i32 data size text u32 data data',
  cuLinkComplete: 'word data data',
  cuLinkDestroy: 'word',
  cuModuleLoadDataEx: 'data data u32 data data',
  cuModuleUnload: 'word',
  cuModuleGetFunction: 'data word text',
  cuModuleGetGlobal_v2: 'data data word text',
  cuFuncGetAttribute: 'data i32 word',
  cuFuncSetAttribute: 'word i32 i32',
  cuOccupancyMaxActiveBlocksPerMultiprocessor: 'data word i32 size',
  cuOccupancyMaxActiveClusters: 'data word word',
  cuLaunchKernelEx: 'word word word word',

  cuTensorMapEncodeTiled: 'word i32 u32 word data data data data i32 i32 i32 i32',

  cuDeviceCanAccessPeer: 'data i32 i32',
  cuCtxEnablePeerAccess: 'word u32',
  cuCtxDisablePeerAccess: 'word',
  cuIpcGetMemHandle: 'data word',
  cuIpcOpenMemHandle_v2: 'data handle64 u32',
  cuIpcCloseMemHandle: 'word',
  cuIpcGetEventHandle: 'data word',
  cuIpcOpenEventHandle: 'data handle64',
} as const;

export type CallName = keyof typeof TABLE;

interface WordTypes {
  i32: number;
  u32: number;
  size: number;
  word: number;
  data: HostData;
  text: string;
  handle64: Uint8Array;
}

type Tuple<Words extends string> = Words extends `${infer First extends Word} ${infer Rest}`
  ? [WordTypes[First], ...Tuple<Rest>]
  : Words extends Word
    ? [WordTypes[Words]]
    : [];

/** The arguments of a call, from its row in the table. */
export type CallArguments<Name extends CallName> = Tuple<(typeof TABLE)[Name]>;

/** All functions of the table, bound. Each gives a CUresult as a number. */
export type Calls = { readonly [Name in CallName]: (...values: CallArguments<Name>) => number };

/** The words of a row. */
export function wordsOf(row: string): Word[] {
  return row === '' ? [] : (row.split(' ') as Word[]);
}
