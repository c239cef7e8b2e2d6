import assert from 'node:assert/strict';
import { createServer, type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { rose } from './rose.ts';

test('--version and --help succeed on stdout', async () => {
  const [version, help] = await Promise.all([rose(['--version']), rose(['--help'])]);
  assert.deepEqual([version.code, help.code], [0, 0]);
  assert.match(version.stdout, /^\d+\.\d+\.\d+\n$/);
  for (const command of [
    'serve',
    'chat',
    'generate',
    'embed',
    'rerank',
    'pull',
    'info',
    'devices',
    'bench',
    'layout',
    'Exit codes',
  ]) {
    assert.ok(help.stdout.includes(command), command);
  }
});

const WRONG: readonly (readonly [args: readonly string[], code: number, says: RegExp])[] = [
  [['serve', '--prot', '1'], 2, /unknown option '--prot'[^]*Did you mean --port/],
  [['serv'], 2, /unknown command 'serv'[^]*Did you mean serve/],
  [['serve', '--port', '65536'], 2, /a whole number from 0 to 65535/],
  [['serve', '--port', 'http'], 2, /a whole number from 0 to 65535/],
  [['serve', '--threads', '0'], 2, /a whole number from 1 to 256/],
  [['serve', '--quantize', 'int3'], 2, /Allowed choices are int8, int4, fp8/],
  [['serve', '--device', 'gpu'], 2, /Give cpu, cuda, cuda:N or auto/],
  [['serve', '--no-grpc', '--grpc-port', '1'], 2, /--grpc-port and --no-grpc contradict each other/],
  [['serve', '--port', '9000', '--grpc-port', '9000'], 2, /HTTP \(--port\) and gRPC \(--grpc-port\) cannot both/],
  [['serve', '--port', '9000', '--metrics-port', '9000'], 2, /HTTP \(--port\) and metrics \(--metrics-port\) cannot/],
  [
    ['serve', '--port', '9000', '--grpc-port', '9002'],
    2,
    /gRPC \(--grpc-port\) and metrics \(--metrics-port\) [^]* 9002:/,
  ],
  [['serve', '--port', '65535'], 2, /no port after 65535 for gRPC/],
  [['serve', '--port', '0', '--tls-key', 'x'], 2, /TLS needs both/],
  [['generate', 'x', '--temperature', '-1'], 2, /a number from 0 to 100/],
  [['generate'], 2, /there is no prompt/],
  [['embed'], 2, /there is no text/],
  [['rerank'], 2, /missing required argument 'query'/],
  [['kernel', 'sim'], 2, /missing required argument 'file'/],
  [['kernel', 'sim', 'rmsnorm', '--seed', 'x'], 2, /a whole number from 1/],
  [['bench', 'serve'], 2, /missing required argument 'server'/],
  [['bench', 'serve', 'x', '--jsn'], 2, /unknown option '--jsn'/],
  [
    ['serve', '--port', '0', '--served-model-name', 'a,b', 'tiny-chat'],
    2,
    /2 names \(a, b\) for 1 models \(tiny-chat\)/,
  ],
  [['serve', '--port', '0', 'tiny-chat', 'tiny-chat'], 2, /two models would be named "tiny-chat"/],
  [['info', 'tiny-chatt'], 3, /there is no model "tiny-chatt"[^]*tiny-chat, tiny-embed, tiny-rerank/],
  [['info', './no-such-directory'], 3, /there is no model/],
  [['info', new URL('.', import.meta.url).pathname], 3, /config\.json/],
  [['serve', '--device', 'cuda', '--threads', '2', '--port', '0'], 2, /--threads says how many CPU threads compute/],
  [
    ['generate', 'x', '--device', 'cuda:99'],
    5,
    /No NVIDIA driver was found|there is no GPU 99: this machine has GPU 0/,
  ],
  [
    ['generate', 'x', '--device', 'cpu', '--quantize', 'fp8'],
    3,
    /the CPU device does not have fp8 weights: it has int8 and int4/,
  ],
  [
    ['generate', 'x', '--device', 'cpu', '--dtype', 'bf16'],
    3,
    /the CPU device does not have a choice of bf16: it has auto/,
  ],
  [
    ['generate', 'x', '--device', 'cpu', '--cache-dtype', 'f16'],
    3,
    /the CPU device does not have a f16 cache: it has f32 and bf16/,
  ],
  [['serve', '--port', '0', '--host', 'no-such-host.invalid'], 4, /no-such-host\.invalid/],
];

for (const [args, code, says] of WRONG) {
  test(`rose ${args.join(' ')}: exit code ${code} and one paragraph`, async () => {
    const ended = await rose(args);
    assert.equal(ended.code, code, ended.stderr);
    assert.match(ended.stderr, says);
    assert.match(ended.stderr, /^rose: /);
    assert.doesNotMatch(ended.stderr, /\n\s+at /, 'no stack trace');
    assert.equal(ended.stdout, '');
  });
}

test('a port that is taken is said before anything is loaded', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  const { port } = other.address() as AddressInfo;
  const ended = await rose(['serve', '--port', String(port)]);
  other.close();
  assert.equal(ended.code, 4);
  assert.match(ended.stderr, new RegExp(`port ${port} on 127\\.0\\.0\\.1 is taken`));
  assert.doesNotMatch(ended.stderr, /device/);
});

test('rose devices lists the CPU, and the GPUs or why there are none', async () => {
  const [plain, json] = await Promise.all([rose(['devices']), rose(['devices', '--json'])]);
  assert.deepEqual([plain.code, json.code], [0, 0], plain.stderr);
  const { cpu, gpus, reason } = JSON.parse(json.stdout) as {
    cpu: { name: string };
    gpus: { device: string; name: string }[];
    reason?: string;
  };
  assert.ok(plain.stdout.startsWith('cpu ') && plain.stdout.includes(cpu.name));
  for (const { device, name } of gpus) assert.ok(plain.stdout.includes(`${device} `) && plain.stdout.includes(name));
  assert.equal(gpus.length === 0, reason !== undefined);
  if (reason !== undefined) assert.ok(plain.stdout.trimEnd().endsWith(reason));
});
