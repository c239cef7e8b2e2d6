import type { HostData, Word } from './ffi.ts';

/**
 * The functions of cuBLASLt that Rose calls, with the words they take; each gives a cublasStatus_t, but for
 * `cublasLtGetVersion`, which gives the version. Signatures, numbers and offsets: `cublasLt.h` of CUDA 12 and 13.
 */
export const CUBLASLT_TABLE = {
  cublasLtGetVersion: '',
  cublasLtCreate: 'data',
  cublasLtDestroy: 'word',
  cublasLtMatmulDescCreate: 'data i32 i32',
  cublasLtMatmulDescDestroy: 'word',
  cublasLtMatmulDescSetAttribute: 'word i32 data size',
  cublasLtMatrixLayoutCreate: 'data i32 size size size',
  cublasLtMatrixLayoutDestroy: 'word',
  cublasLtMatmulPreferenceCreate: 'data',
  cublasLtMatmulPreferenceDestroy: 'word',
  cublasLtMatmulPreferenceSetAttribute: 'word i32 data size',
  cublasLtMatmulAlgoGetHeuristic: 'word word word word word word word i32 data data',
  cublasLtMatmul: 'word word data word word word word data word word word word data word size word',
} as const;

export type CublasLtName = keyof typeof CUBLASLT_TABLE;
export type CublasLtCalls = Readonly<Record<CublasLtName, (...values: HostData[]) => number>>;

/** The words of one row. */
export function cublasLtWords(name: CublasLtName): Word[] {
  return CUBLASLT_TABLE[name].split(' ').filter(Boolean) as Word[];
}

/** cudaDataType_t. */
export const DATA_TYPE = { f32: 0, f16: 2, bf16: 14, e4m3: 28 } as const;
/** cublasComputeType_t: products and sums in float32. */
export const COMPUTE_32F = 68;
/** cublasOperation_t. */
export const TRANSPOSE = 1;
/** cublasLtMatmulDescAttributes_t. */
export const DESCRIPTION = {
  transposeA: 3,
  scaleA: 17,
  scaleB: 18,
  fastAccumulation: 25,
  scaleModeA: 31,
  scaleModeB: 32,
} as const;
/** cublasLtMatmulMatrixScale_t. */
export const SCALE_MODE = { scalar: 0, outerVector: 3, vector128: 4, block128x128: 5 } as const;
/** cublasLtMatmulPreferenceAttributes_t. */
export const PREFERENCE = { maxWorkspaceBytes: 1 } as const;
/** cublasLtMatmulHeuristicResult_t; the algorithm itself is its first 64 bytes. */
export const HEURISTIC = { bytes: 96, workspaceBytes: 64, status: 72 } as const;

interface Status {
  readonly name: string;
  readonly meaning: string;
}

const STATUSES: Readonly<Record<number, Status>> = {
  1: { name: 'NOT_INITIALIZED', meaning: 'the library could not start on this device' },
  3: { name: 'ALLOC_FAILED', meaning: 'the library could not allocate its own memory' },
  7: { name: 'INVALID_VALUE', meaning: 'an argument is out of range' },
  8: { name: 'ARCH_MISMATCH', meaning: 'the GPU is too old for this product' },
  11: { name: 'MAPPING_ERROR', meaning: 'the library could not use GPU memory' },
  13: { name: 'EXECUTION_FAILED', meaning: 'the product failed on the device' },
  14: { name: 'INTERNAL_ERROR', meaning: 'the library failed inside' },
  15: { name: 'NOT_SUPPORTED', meaning: 'the library has no algorithm for these types, shapes and alignments' },
};

/** Name and meaning of a cublasStatus_t. */
export function cublasStatus(code: number): Status {
  const { name, meaning } = STATUSES[code] ?? { name: String(code), meaning: 'a status that Rose does not know' };
  return { name: `CUBLAS_STATUS_${name}`, meaning };
}
