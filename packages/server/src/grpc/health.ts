import { create } from '@bufbuild/protobuf';
import type { ServerWritableStream } from '@grpc/grpc-js';
import type { ServerContext } from '../context.ts';
import {
  HealthCheckResponse_ServingStatus as Status,
  HealthCheckResponseSchema,
  type HealthCheckRequest,
  type HealthCheckResponse,
} from './proto/health_pb.js';

/** How often a watched status is looked at. */
const PERIOD_MS = 1000;

/** Readiness, whatever service is named: clients of Triton name none, or its own. */
export async function checkHealth({ models }: ServerContext): Promise<HealthCheckResponse> {
  const status = (await models.ready()) ? Status.SERVING : Status.NOT_SERVING;
  return create(HealthCheckResponseSchema, { status });
}

/** Answers at once and after every change, until the client goes. */
export async function watchHealth(
  context: ServerContext,
  call: ServerWritableStream<HealthCheckRequest, HealthCheckResponse>,
): Promise<void> {
  let last: Status | undefined;
  const gone = new Promise<void>((resolve) => call.once('cancelled', resolve));
  while (!call.cancelled) {
    const response = await checkHealth(context);
    if (response.status !== last) call.write(response);
    last = response.status;
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([gone, new Promise((resolve) => (timer = setTimeout(resolve, PERIOD_MS)))]);
    clearTimeout(timer);
  }
}
