import activation from './activation.ts';
import argmax from './argmax.ts';
import attentionCombine from './attention_combine.ts';
import attentionDecode from './attention_decode.ts';
import attentionPrefill from './attention_prefill.ts';
import attentionPrefillWgmma from './attention_prefill_wgmma.ts';
import attentionRows from './attention_rows.ts';
import cast from './cast.ts';
import embedding from './embedding.ts';
import layernorm from './layernorm.ts';
import linear from './linear.ts';
import linearF32 from './linear_f32.ts';
import linearFp8 from './linear_fp8.ts';
import linearFp8Mma from './linear_fp8_mma.ts';
import linearFp8Small from './linear_fp8_small.ts';
import linearGrouped from './linear_grouped.ts';
import linearGroupedMma from './linear_grouped_mma.ts';
import linearGroupedSmall from './linear_grouped_small.ts';
import linearMma from './linear_mma.ts';
import linearSmall from './linear_small.ts';
import linearTcgen05 from './linear_tcgen05.ts';
import moeCombine from './moe_combine.ts';
import moeSort from './moe_sort.ts';
import normalize from './normalize.ts';
import pool from './pool.ts';
import qkRopeCache from './qk_rope_cache.ts';
import quantise from './quantise.ts';
import quantiseBlocks from './quantise_blocks.ts';
import rmsnorm from './rmsnorm.ts';
import sample from './sample.ts';
import sampleHistory from './sample_history.ts';
import sampleLogprobs from './sample_logprobs.ts';
import softmax from './softmax.ts';
import topk from './topk.ts';
import transpose from './transpose.ts';
import unpack from './unpack.ts';
import type { KernelModule } from './spec.ts';

/** Rose's kernels, each with its specification, CPU reference and roofline. */
export const KERNELS: readonly KernelModule[] = [
  activation,
  argmax,
  attentionCombine,
  attentionDecode,
  attentionPrefill,
  attentionPrefillWgmma,
  attentionRows,
  cast,
  embedding,
  layernorm,
  linear,
  linearF32,
  linearFp8,
  linearFp8Mma,
  linearFp8Small,
  linearGrouped,
  linearGroupedMma,
  linearGroupedSmall,
  linearMma,
  linearSmall,
  linearTcgen05,
  moeCombine,
  moeSort,
  normalize,
  pool,
  qkRopeCache,
  quantise,
  quantiseBlocks,
  rmsnorm,
  sample,
  sampleHistory,
  sampleLogprobs,
  softmax,
  topk,
  transpose,
  unpack,
];

export * from './check-parameters.ts';
export * from './check.ts';
export * from './spec.ts';
export * from './tuning-table.ts';
export { shippedTables, tableName, tuningsFor, type TuningFiles } from './tuning-files.ts';
export { seededRandom } from './support/random.ts';
export { bytesOf, decode, encode, halfUlp, isStorable, round } from './support/storage.ts';
export { decodeStages } from './support/decode-mma.ts';
export { decodeItems, splitTokens, type DecodeItems } from './support/decode-items.ts';
export { leavesOf, linearKernelFor } from './support/linear.ts';
export { interleaveGate } from './support/linear-epilogue.ts';
export { groupedKernelFor } from './support/linear-grouped.ts';
export { GROUP as FP8_GROUP, groupsOf, linearFp8KernelFor, scalePitch } from './support/linear-fp8.ts';
export { SAMPLE_FACTS, SAMPLE_TOP, SAMPLE_WORDS, SampleFact, SampleField } from './support/sample-params.ts';
export { pitchOf as sampleRowPitch } from './support/sample-held.ts';
export { HEADS as ATTENTION_HEADS } from './support/attention.ts';
export { SEGMENT_WORDS } from './unpack.ts';
