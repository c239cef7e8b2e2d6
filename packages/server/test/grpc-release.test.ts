import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { ServerHttp2Stream } from 'node:http2';
import { test } from 'node:test';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import { serveGrpc } from './grpc-client.ts';
import { until } from './serving.ts';

test('nothing hangs on the stream of a call that is over, be it answered or refused', async (t) => {
  const { call } = await serveGrpc(t, GRPCInferenceService);
  const streams: ServerHttp2Stream[] = [];
  const started = (message: unknown): void =>
    void streams.push((message as { readonly stream: ServerHttp2Stream }).stream);
  subscribe('http2.server.stream.start', started);
  t.after(() => unsubscribe('http2.server.stream.start', started));
  assert.equal((await call(GRPCInferenceService, 'ServerLive')).live, true);
  await assert.rejects(call(GRPCInferenceService, 'ModelConfig', { name: 'nobody' }));
  assert.equal(streams.length, 2);
  await until(
    // A late error has somebody who hears it.
    () => streams.every((stream) => stream.closed && stream.eventNames().join() === 'error'),
    'the streams are released',
  );
});
