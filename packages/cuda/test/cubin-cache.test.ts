import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { cacheDirectory, CubinCache, cubinKey, type Compiled } from '../src/index.ts';
import { temporaryFolder } from './fake/folder.ts';

function entry(bytes: number, fill: number): Compiled {
  const kernels = [{ name: 'k', registers: fill, stackBytes: 0, spillStoreBytes: 0, spillLoadBytes: 0 }];
  return { cubin: new Uint8Array(bytes).fill(fill), kernels, log: 'ptxas info : é' };
}

const KEY = cubinKey('ptx', 'sm_90a', 'driver 13000');

test('an entry comes back as it went in', () => {
  using folder = temporaryFolder();
  const cache = new CubinCache({ directory: join(folder.path, 'deep', 'down') });
  assert.equal(cache.get(KEY), undefined);
  cache.put(KEY, entry(1000, 7));
  assert.deepEqual(cache.get(KEY), entry(1000, 7));
  cache.put(KEY, entry(10, 8));
  assert.deepEqual(cache.get(KEY), entry(10, 8));
  assert.deepEqual(readdirSync(cache.directory), [`${KEY}.cubin`]);
});

test('a damaged entry counts as absent and is removed, wherever the damage is', () => {
  using folder = temporaryFolder();
  const cache = new CubinCache({ directory: folder.path });
  const path = join(folder.path, `${KEY}.cubin`);
  cache.put(KEY, entry(100, 1));
  const whole = readFileSync(path);
  const damaged = [
    Buffer.alloc(0),
    Buffer.from('hello'),
    whole.subarray(0, 30),
    whole.subarray(0, -1),
    Buffer.concat([whole, Buffer.from([0])]),
    ...[0, 7, 8, 9, 20, 45, whole.length - 1].map((at) => {
      const copy = Buffer.from(whole);
      copy[at] ^= 1;
      return copy;
    }),
  ];
  for (const bytes of damaged) {
    writeFileSync(path, bytes);
    const found = cache.get(KEY);
    assert.equal(found, undefined);
    assert.ok(!existsSync(path));
    cache.put(KEY, entry(100, 1));
    assert.deepEqual(cache.get(KEY), entry(100, 1));
  }
});

test('the entries used longest ago go first, and what dead processes left', () => {
  using folder = temporaryFolder();
  const roomy = new CubinCache({ directory: folder.path });
  const old = (name: string, hours: number): void => {
    const time = new Date(Date.now() - hours * 3_600_000);
    utimesSync(join(folder.path, name), time, time);
  };
  for (const name of ['a', 'b', 'c']) roomy.put(name, entry(1000, 1));
  writeFileSync(join(folder.path, 'x.cubin.1.tmp'), 'left');
  writeFileSync(join(folder.path, 'y.cubin.1.tmp'), 'being written');
  old('a.cubin', 3);
  old('b.cubin', 2);
  old('c.cubin', 1);
  old('x.cubin.1.tmp', 2);
  assert.ok(roomy.get('a'), 'using an entry makes it young');
  new CubinCache({ directory: folder.path, maxBytes: 2 * 1300 }).put('d', entry(1000, 1));
  assert.deepEqual(readdirSync(folder.path).sort(), ['a.cubin', 'd.cubin', 'y.cubin.1.tmp']);
});

test('a directory that cannot be written costs the cache and one warning', () => {
  using folder = temporaryFolder();
  const file = join(folder.path, 'file');
  writeFileSync(file, '');
  const warnings: string[] = [];
  const cache = new CubinCache({ directory: join(file, 'cubin'), onWarning: (message) => warnings.push(message) });
  cache.put(KEY, entry(10, 1));
  cache.put(KEY, entry(10, 1));
  assert.equal(cache.get(KEY), undefined);
  assert.equal(warnings.length, 1);
  assert.match(
    warnings[0],
    /^compiled kernels cannot be kept in .*: every start compiles them again; set ROSE_CACHE_DIR/,
  );
});

test(
  'a read-only directory still serves what it has',
  { skip: process.getuid?.() === 0 ? 'root may write everywhere' : false },
  () => {
    using folder = temporaryFolder();
    new CubinCache({ directory: folder.path }).put(KEY, entry(10, 1));
    chmodSync(folder.path, 0o555);
    const warnings: string[] = [];
    const cache = new CubinCache({ directory: folder.path, onWarning: (message) => warnings.push(message) });
    assert.deepEqual(cache.get(KEY), entry(10, 1));
    cache.put('other', entry(10, 1));
    assert.equal(warnings.length, 1);
    chmodSync(folder.path, 0o755);
  },
);

test('the key depends on everything, and not on how options are written', () => {
  const keys = [
    KEY,
    cubinKey('ptx ', 'sm_90a', 'driver 13000'),
    cubinKey('ptx', 'sm_90', 'driver 13000'),
    cubinKey('ptx', 'sm_90a', 'driver 13010'),
    cubinKey('ptx', 'sm_90a', 'driver 13000', { maxRegisters: 64 }),
    cubinKey('ptx', 'sm_90a', 'driver 13000', { lineInfo: false }),
    cubinKey('ptx', 'sm_90a', 'driver 13000', { optimization: 0 }),
  ];
  assert.equal(new Set(keys).size, keys.length);
  assert.equal(
    cubinKey('ptx', 'a', 'b', { lineInfo: true, maxRegisters: 1 }),
    cubinKey('ptx', 'a', 'b', { maxRegisters: 1, lineInfo: true }),
  );
  assert.match(KEY, /^[0-9a-f]{64}$/);
});

test('the directory follows the environment and the platform', () => {
  assert.equal(cacheDirectory('cubin', { ROSE_CACHE_DIR: 'own', XDG_CACHE_HOME: 'x' }, 'linux'), join('own', 'cubin'));
  assert.equal(cacheDirectory('cubin', { XDG_CACHE_HOME: 'x' }, 'linux'), join('x', 'rose', 'cubin'));
  assert.match(cacheDirectory('cubin', {}, 'linux'), /\.cache.rose.cubin$/);
  assert.match(cacheDirectory('cubin', {}, 'darwin'), /Library.Caches.rose.cubin$/);
  assert.equal(cacheDirectory('cubin', { LOCALAPPDATA: 'l' }, 'win32'), join('l', 'rose', 'cubin'));
});

/** Puts and gets a few keys over and over, as starting servers would, and fails on any entry that is not what was put. */
const WORKER = `
  const { CubinCache } = await import(process.argv[1]);
  const problems = [];
  const cache = new CubinCache({ directory: process.argv[2], maxBytes: 60000, onWarning: (message) => problems.push(message) });
  let hits = 0;
  for (let n = 0; n < 150; n++) {
    const at = (n * n + process.pid) % 5;
    const fill = at + 1;
    const found = cache.get('key' + at);
    if (found) {
      hits++;
      if (found.cubin.length !== 5000 * fill || found.cubin.some((byte) => byte !== fill)) problems.push('wrong entry ' + at);
    }
    if (!found || n % 3 === 0) cache.put('key' + at, { cubin: new Uint8Array(5000 * fill).fill(fill), kernels: [], log: '' });
  }
  process.stdout.write(JSON.stringify({ hits, problems }));
`;

test('several processes use one directory at once', async () => {
  using folder = temporaryFolder();
  const module = new URL('../src/index.ts', import.meta.url).href;
  const run = (): Promise<{ hits: number; problems: string[] }> => {
    const child = spawn(
      process.execPath,
      ['--conditions=development', '--input-type=module', '-e', WORKER, module, folder.path],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => {
        if (code === 0) resolve(JSON.parse(text) as { hits: number; problems: string[] });
        else reject(new Error(`a process ended with ${code}`));
      });
    });
  };
  const results = await Promise.all([run(), run(), run(), run()]);
  assert.deepEqual(
    results.flatMap(({ problems }) => problems),
    [],
  );
  assert.ok(results.every(({ hits }) => hits > 0));
  assert.deepEqual(
    readdirSync(folder.path).filter((name) => name.endsWith('.tmp')),
    [],
  );
});
