import type { TritonModel } from '../triton/model.ts';
import type { Duration } from './statistics.ts';

/** A version's statistics as the protocol's JSON, which is protobuf's own for both protocols. */
export function modelStatistics({ name, version, statistics }: TritonModel): object {
  const of = statistics;
  return {
    name,
    version,
    last_inference: of.lastInference,
    inference_count: of.inferenceCount,
    execution_count: of.executionCount,
    inference_stats: {
      success: duration(of.success),
      fail: duration(of.fail),
      queue: duration(of.queue),
      compute_input: duration(of.computeInput),
      compute_infer: duration(of.computeInfer),
      compute_output: duration(of.computeOutput),
      cache_hit: duration(of.cacheHit),
      cache_miss: duration(of.cacheMiss),
    },
    batch_stats: [...of.batches]
      .sort(([a], [b]) => a - b)
      .map(([size, batch]) => ({
        batch_size: size,
        compute_input: duration(batch.computeInput),
        compute_infer: duration(batch.computeInfer),
        compute_output: duration(batch.computeOutput),
      })),
    memory_usage: [],
    response_stats: Object.fromEntries(
      [...of.responses].map(([index, response]) => [
        index,
        {
          compute_infer: duration(response.computeInfer),
          compute_output: duration(response.computeOutput),
          success: duration(response.success),
          fail: duration(response.fail),
          empty_response: duration(response.emptyResponse),
          cancel: duration(response.cancel),
        },
      ]),
    ),
  };
}

function duration({ count, ns }: Duration): object {
  return { count, ns };
}
