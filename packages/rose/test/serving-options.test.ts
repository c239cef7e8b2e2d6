import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { addGrpcOptions, grpcOptions, type GrpcFlags } from '../src/grpc.ts';
import { addLogOptions, logOptions, traceOptions, type LogFlags } from '../src/logs.ts';
import { addMetricsOptions, metricsOptions, type MetricsFlags } from '../src/metrics.ts';
import { accessOptions, addSecurityOptions, tlsOptions, type SecurityFlags } from '../src/security.ts';
import { start } from './rose.ts';

function parsed<Flags>(add: (command: Command) => Command, ...args: string[]): Flags {
  const command = add(new Command())
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  return command.parse(args, { from: 'user' }).opts() as Flags;
}

test('gRPC and metrics follow the port of HTTP, unless they are told another or none', () => {
  const grpc = (port: number, ...args: string[]): ReturnType<typeof grpcOptions> =>
    grpcOptions(parsed<GrpcFlags>(addGrpcOptions, ...args), port);
  const metrics = (port: number, ...args: string[]): ReturnType<typeof metricsOptions> =>
    metricsOptions(parsed<MetricsFlags>(addMetricsOptions, ...args), port);
  assert.equal(grpc(8000)?.port, 8001);
  assert.equal(grpc(0)?.port, 0);
  assert.equal(grpc(8000, '--no-grpc'), undefined);
  const aged = grpc(8000, '--grpc-max-connection-age', '5', '--grpc-max-connection-age-grace', '6');
  assert.deepEqual([aged?.maxConnectionAgeMs, aged?.maxConnectionAgeGraceMs], [5, 6]);
  assert.throws(
    () => grpc(8000, '--grpc-max-connection-age-grace', '6'),
    /no effect without --grpc-max-connection-age/,
  );
  assert.throws(() => grpc(65_535), /no port after 65535/);
  assert.deepEqual(metrics(8000), { port: 8002, intervalMs: 2000, onHttp: false });
  assert.deepEqual(metrics(8000, '--allow-metrics', 'false'), {});
  assert.equal(metrics(8000, '--metrics-address', '10.0.0.1').host, '10.0.0.1');
  assert.throws(() => metrics(65_534), /no port after 65535 for metrics/);
  assert.throws(() => metrics(1, '--allow-metrics', 'false', '--http-metrics'), /contradict each other/);
});

test('traces and the log', () => {
  const trace = (...settings: string[]): ReturnType<typeof traceOptions> =>
    traceOptions(parsed<LogFlags>(addLogOptions, ...settings.flatMap((setting) => ['--trace-config', setting])));
  assert.deepEqual(trace(), {});
  assert.deepEqual(
    trace('triton,file=a=b.json', 'level=TIMESTAMPS', 'level=TENSORS', 'rate=5', 'count=-1', 'triton,log-frequency=7'),
    { file: 'a=b.json', level: ['TIMESTAMPS', 'TENSORS'], rate: 5, count: -1, logFrequency: 7 },
  );
  assert.deepEqual(trace('mode=triton', 'level=OFF'), { level: [] });
  assert.throws(() => trace('level=TIMESTAMPS'), /traces need a file/);
  const refused = /Rose does not send traces of OpenTelemetry; it writes Triton's own files, mode=triton/;
  assert.throws(() => trace('mode=opentelemetry'), refused);
  assert.throws(() => trace('opentelemetry,url=http://localhost:4318'), refused);
  assert.throws(() => trace('level=ALL'), /a level is OFF, TIMESTAMPS or TENSORS/);
  assert.throws(() => trace('rate=-1'), /a whole number of at least 0/);
  const settings =
    /there is no such setting; there are triton,file=FILE, level=TIMESTAMPS .*, rate=N, count=N, triton,log-/;
  for (const unknown of ['rate', 'foo=1', 'triton,foo=1']) assert.throws(() => trace(unknown), settings);
  assert.deepEqual(logOptions(parsed(addLogOptions, '--log-info', 'false', '--log-verbose', '2', '--log-file', 'f')), {
    info: false,
    warning: true,
    error: true,
    verbose: 2,
    format: 'default',
    file: 'f',
  });
});

test('keys, restrictions and certificates', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rose-keys-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'keys');
  const access = (...args: string[]): ReturnType<typeof accessOptions> =>
    accessOptions(parsed<SecurityFlags>(addSecurityOptions, ...args));
  writeFileSync(file, '# for the team\n  one \n\ntwo\r\n');
  assert.deepEqual(access('--api-key', 'zero', '--api-key-file', file).apiKeys, ['zero', 'one', 'two']);
  writeFileSync(file, '# nobody\n');
  assert.throws(() => access('--api-key-file', file), /has no keys/);
  assert.throws(() => access('--api-key-file', join(directory, 'none')), /cannot read/);
  assert.throws(() => access('--api-key', 'a b'), /visible ASCII characters/);
  assert.throws(() => access('--api-key', ''), /visible ASCII characters/);
  assert.deepEqual(access('--http-restricted-api', 'trace,logging:admin-key=a=b').httpRestrictions, [
    { categories: ['trace', 'logging'], header: 'admin-key', value: 'a=b' },
  ]);
  assert.throws(() => access('--http-restricted-api', 'trace'), /write GROUPS:NAME=VALUE/);
  assert.throws(() => access('--grpc-restricted-protocol', 'tracing:a=b'), /there is no group 'tracing', only health/);
  const twice = ['--grpc-restricted-protocol', 'trace:a=b', '--grpc-restricted-protocol', 'health,trace:c=d'];
  assert.throws(() => access(...twice), /'trace' is restricted twice/);
  assert.equal(tlsOptions(parsed(addSecurityOptions)), undefined);
  assert.throws(
    () => tlsOptions(parsed(addSecurityOptions, '--tls-key', file)),
    /both --tls-certificate and --tls-key/,
  );
});

test('rose serve with TLS, a key and limits', async () => {
  const pem = (name: string): string =>
    fileURLToPath(new URL(`../../server/test/certificates/${name}.pem`, import.meta.url));
  const repository = fileURLToPath(new URL('../../../examples/model-repository', import.meta.url));
  const tls = ['--tls-certificate', pem('server'), '--tls-key', pem('server.key')];
  const running = start(
    [
      'serve',
      '--port',
      '0',
      ...tls,
      '--api-key',
      'sesame',
      '--http-max-input-size',
      '1000',
      '--log-verbose',
      '1',
    ].concat(['--model-repository', repository, '--model-control-mode', 'explicit', '--load-model', 'simple']),
  );
  const [, url] = await running.until(/listening on (https:\S+)/);
  const get = (path: string, headers: Record<string, string>): Promise<number | undefined> =>
    new Promise((resolve, reject) => {
      const options = { headers, ca: readFileSync(pem('ca')) };
      request(url + path, options, (response) => resolve(response.resume().statusCode))
        .on('error', reject)
        .end();
    });
  assert.equal(await get('/v2', {}), 401);
  assert.equal(await get('/v2', { authorization: 'Bearer sesame' }), 200);
  assert.equal(await get('/v2/health/ready', {}), 200);
  await running.until(/"url":"\/v2","status":401/);
  await running.until(/metrics https:/);
  running.process.kill('SIGTERM');
  assert.equal((await running.ended).code, 0);
});
