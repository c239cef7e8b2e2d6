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
  [['serve', '--quantize', 'int3'], 2, /Allowed choices are int8, int4/],
  [['serve', '--device', 'gpu'], 2, /Give cpu, cuda or cuda:N/],
  [['serve', '--no-grpc', '--grpc-port', '1'], 2, /--grpc-port and --no-grpc contradict each other/],
  [['serve', '--port', '65535'], 2, /no port after 65535 for gRPC/],
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
  [['serve', '--device', 'cuda'], 5, /the device cuda is not there yet/],
  [['generate', 'x', '--device', 'cuda:1'], 5, /the device cuda:1 is not there yet/],
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
