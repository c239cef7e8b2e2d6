import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { resolveModel, type DownloadProgress, type ResolveOptions } from '../../src/checkpoint/hub.ts';
import { openCheckpoint } from '../../src/checkpoint/open.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { FakeHub, type FakeRepo } from './fake-hub.ts';
import { openFilesUnder, reference, roseError, temporaryDirectory } from './files.ts';

const VARIABLES = [
  'HF_HOME',
  'HF_ENDPOINT',
  'HF_TOKEN',
  'HF_TOKEN_PATH',
  'HF_HUB_OFFLINE',
  'HF_HUB_CACHE',
  'HUGGINGFACE_HUB_CACHE',
];
const outside = Object.fromEntries(VARIABLES.map((name) => [name, process.env[name]]));

let hub: FakeHub;
let home: string;
let cache: string;

beforeEach(async () => {
  hub = new FakeHub();
  await hub.start();
  home = temporaryDirectory();
  for (const name of VARIABLES) delete process.env[name];
  process.env['HF_HOME'] = home;
  process.env['HF_ENDPOINT'] = `${hub.url}/`;
  cache = join(home, 'hub', 'models--org--model');
});

afterEach(async () => {
  assert.deepEqual(openFilesUnder(home), []);
  await hub.stop();
  for (const [name, value] of Object.entries(outside)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
});

/** Retries do not wait in tests. */
function resolve(name: string = 'org/model', options: ResolveOptions = {}): Promise<string> {
  return resolveModel(name, { retryMs: 1, ...options });
}

async function refuses(code: ErrorCode, message: RegExp, name?: string, options?: ResolveOptions): Promise<void> {
  await assert.rejects(resolve(name, options), roseError(code, message));
}

function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

function blobs(): string[] {
  return existsSync(join(cache, 'blobs')) ? readdirSync(join(cache, 'blobs')).sort() : [];
}

const WEIGHTS = 'model.safetensors';

describe('a model of the hub', () => {
  let repo: FakeRepo;

  beforeEach(() => {
    repo = hub.add('org/model', reference('bert-mean'));
    // What Rose has no use for.
    for (const path of [
      'README.md',
      'pytorch_model.bin',
      'onnx/model.onnx',
      'onnx/config.json',
      'openvino_model.bin',
    ]) {
      repo.files.set(path, new Uint8Array(100));
    }
    repo.files.set('tokenizer.json', Buffer.from('{}'));
    repo.files.set('../../escape/config.json', Buffer.from('{}'));
    hub.commit(repo);
  });

  test('is downloaded into the shared cache, what Rose reads of it, and opens', async () => {
    const directory = await resolve();
    assert.equal(directory, join(cache, 'snapshots', repo.sha));
    const fetched = hub.takeFetched();
    assert.deepEqual(fetched.toSorted(), [
      '1_Pooling/config.json',
      'config.json',
      'model.safetensors',
      'modules.json',
      'sentence_bert_config.json',
      'tokenizer.json',
    ]);
    assert.equal(fetched.at(-1), WEIGHTS);
    assert.equal(readFileSync(join(cache, 'refs', 'main'), 'utf8'), repo.sha);
    assert.equal(blobs().length, 6);
    assert.ok(lstatSync(join(directory, '1_Pooling', 'config.json')).isSymbolicLink());
    assert.ok(!existsSync(join(home, 'hub', 'escape')));
    const checkpoint = await openCheckpoint(directory);
    assert.equal(checkpoint.spec.head.kind, 'embedding');
    await checkpoint.close();
  });

  test('is used from the cache without a request', async () => {
    const first = await resolve();
    hub.requests.length = 0;
    assert.equal(await resolve(), first);
    assert.equal(await resolve(`org/model@${repo.sha}`), first);
    assert.deepEqual(hub.requests, []);
    await hub.stop();
    process.env['HF_HUB_OFFLINE'] = '1';
    assert.equal(await resolve(), first);
  });

  test('tells how far each file is', async () => {
    const events: DownloadProgress[] = [];
    await resolve('org/model', { onProgress: (event) => events.push(event) });
    const size = repo.files.get(WEIGHTS)!.byteLength;
    const weights = events.filter(({ file }) => file === WEIGHTS);
    assert.deepEqual(weights[0], { file: WEIGHTS, bytes: 0, total: size });
    assert.deepEqual(weights.at(-1), { file: WEIGHTS, bytes: size, total: size });
    assert.equal(new Set(events.map(({ file }) => file)).size, 6);
  });

  test('is brought up to date on demand, fetching only what changed', async () => {
    const first = await resolve();
    hub.takeFetched();
    repo.files.set('tokenizer.json', Buffer.from('{"new": true}'));
    hub.commit(repo);
    assert.equal(await resolve(), first);
    const second = await resolve('org/model', { update: true });
    assert.notEqual(second, first);
    assert.deepEqual(hub.takeFetched(), ['tokenizer.json']);
    assert.equal(await resolve(), second);
  });

  test('goes on after a lost connection from where it stopped', async () => {
    hub.breakOff = { times: 3, after: 10_000 };
    const directory = await resolve();
    const fetched = hub.takeFetched().filter((entry) => entry.startsWith(WEIGHTS));
    const starts = fetched.map((entry) => Number(/bytes=(\d+)-$/.exec(entry)?.[1] ?? 0));
    assert.equal(starts.length, 4);
    // What a connection brought last may be lost with it, but never what was written.
    assert.ok(
      starts.every((start, i) => i === 0 || start > starts[i - 1]),
      starts.join(),
    );
    assert.deepEqual(readFileSync(join(directory, WEIGHTS)), Buffer.from(repo.files.get(WEIGHTS)!));
  });

  test('goes on where an earlier attempt was cancelled', async () => {
    hub.breakOff = { times: 1, after: 20_000 };
    const incomplete = join(cache, 'blobs', `${sha256(repo.files.get(WEIGHTS)!)}.incomplete`);
    const sizeOf = (): number => (existsSync(incomplete) ? statSync(incomplete).size : 0);
    const controller = new AbortController();
    // After the connection is lost, it waits for its second try.
    const cancelled = refuses('cancelled', /what was fetched is kept/, 'org/model', {
      signal: controller.signal,
      retryMs: 60_000,
    });
    while (sizeOf() === 0) await sleep(5);
    controller.abort();
    await cancelled;
    const kept = sizeOf();
    assert.ok(!existsSync(join(cache, 'refs', 'main')));
    hub.takeFetched();
    hub.breakOff.times = 0;
    const events: DownloadProgress[] = [];
    await resolve('org/model', { onProgress: (event) => events.push(event) });
    assert.deepEqual(hub.takeFetched(), [`model.safetensors bytes=${kept}-`]);
    assert.equal(events[0].bytes, kept);
    assert.ok(!existsSync(incomplete));
  });

  test('gives up when the connection does not come back, and keeps what came', async () => {
    hub.breakOff = { times: 1000, after: 0 };
    await refuses('unavailable', /cannot be reached.*0 of \d+ bytes are kept; try again/);
  });

  test('starts over where a server knows no ranges', async () => {
    hub.breakOff = { times: 1, after: 10_000 };
    hub.ranges = false;
    const directory = await resolve();
    assert.deepEqual(readFileSync(join(directory, WEIGHTS)), Buffer.from(repo.files.get(WEIGHTS)!));
  });

  test('starts over where what was kept is damaged or too long', async () => {
    const oid = sha256(repo.files.get(WEIGHTS)!);
    const incomplete = join(cache, 'blobs', `${oid}.incomplete`);
    mkdirSync(dirname(incomplete), { recursive: true });
    writeFileSync(incomplete, new Uint8Array(5000));
    const directory = await resolve();
    const ranges = hub.takeFetched().filter((entry) => entry.startsWith(WEIGHTS));
    assert.deepEqual(ranges, ['model.safetensors bytes=5000-', 'model.safetensors']);

    rmSync(join(cache, 'blobs', oid));
    writeFileSync(incomplete, new Uint8Array(repo.files.get(WEIGHTS)!.byteLength + 1));
    assert.equal(await resolve(), directory);
    assert.deepEqual(hub.takeFetched(), [WEIGHTS]);
    assert.deepEqual(readFileSync(join(directory, WEIGHTS)), Buffer.from(repo.files.get(WEIGHTS)!));
  });

  test('is refused where the content is not what is listed', async () => {
    repo.listed.set(WEIGHTS, { oid: 'a'.repeat(64) });
    await refuses('invalid', /model\.safetensors of org\/model is not what the hub says.*expected aaaa/);
    assert.deepEqual(
      blobs().filter((name) => name.startsWith('aaaa')),
      [],
    );
    repo.listed.set(WEIGHTS, { size: 1000 });
    await refuses('invalid', /has not the 1000 bytes/);
    repo.listed.set(WEIGHTS, { oid: '../../../escape' });
    await refuses('invalid', /gives no hash for model\.safetensors/);
  });

  test('is refused where the disk is too small', async () => {
    repo.listed.set(WEIGHTS, { size: 2 ** 52 });
    await refuses('unavailable', /the disk is too full: 4503599\.\d GB are to come.*HF_HUB_CACHE/);
    assert.ok(!hub.takeFetched().includes(WEIGHTS));
  });

  test('is refused before its weights come where Rose cannot run it', async () => {
    repo.files.set('config.json', Buffer.from('{"architectures": ["MambaForCausalLM"]}'));
    hub.commit(repo);
    await refuses('unsupported', /does not run MambaForCausalLM/);
    assert.ok(!hub.takeFetched().includes(WEIGHTS));
  });

  test('is refused where it has no safetensors', async () => {
    repo.files.delete(WEIGHTS);
    repo.files.set('model-q4.gguf', new Uint8Array(10));
    hub.commit(repo);
    await refuses('unsupported', /org\/model has neither.*It has pytorch_model\.bin, which/);
    assert.deepEqual(hub.takeFetched(), []);
  });

  test('that another tool fetched in part is completed, or used as it is offline', async () => {
    const snapshot = await resolve();
    rmSync(join(cache, '.rose'), { recursive: true });
    rmSync(join(snapshot, 'modules.json'));
    process.env['HF_HUB_OFFLINE'] = 'true';
    assert.equal(await resolve(), snapshot);
    delete process.env['HF_HUB_OFFLINE'];
    hub.takeFetched();
    assert.equal(await resolve(), snapshot);
    assert.ok(existsSync(join(snapshot, 'modules.json')));
    assert.deepEqual(hub.takeFetched(), []);
    // And while the hub is away.
    writeFileSync(join(cache, '.rose', `${repo.sha}.json`), '["config.js');
    await hub.stop();
    assert.equal(await resolve(), snapshot);
    await refuses('unavailable', /cannot be reached/, 'org/model', { update: true });
    rmSync(join(snapshot, WEIGHTS));
    await refuses('unavailable', /cannot be reached/);
    process.env['HF_HUB_OFFLINE'] = '1';
    await refuses('unavailable', /not in the cache.*HF_HUB_OFFLINE/);
  });
});

test('a sharded model comes with the shards of its index', async () => {
  const repo = hub.add('org/model', reference('llama-sharded'));
  repo.files.set('original/consolidated.safetensors', new Uint8Array(10));
  repo.files.set('consolidated.safetensors', new Uint8Array(10));
  hub.commit(repo);
  const checkpoint = await openCheckpoint(await resolve());
  await checkpoint.close();
  assert.equal(hub.takeFetched().filter((path) => path.endsWith('.safetensors')).length, 3);

  repo.files.delete('model-00002-of-00003.safetensors');
  hub.commit(repo);
  await refuses('invalid', /names "model-00002-of-00003\.safetensors", which is not/, 'org/model', { update: true });
});

describe('access', () => {
  beforeEach(() => {
    hub.add('org/model', reference('qwen3'));
  });

  test('no such model', async () => {
    await refuses('not_found', /there is no model org\/none on http.*set HF_TOKEN/, 'org/none');
  });

  test('no such revision', async () => {
    await refuses('not_found', /org\/model has no revision "v2"/, 'org/model@v2');
  });

  test('a gated model', async () => {
    hub.repos.get('org/model')!.refuse = { status: 403, code: 'GatedRepo' };
    await refuses('not_found', /org\/model is gated\. Accept its terms/);
    process.env['HF_TOKEN'] = 'hf_some';
    await refuses('not_found', /org\/model is gated\. The account of your HF_TOKEN has no access/);
  });

  test('a private model, with a token of the environment or of a file, for the hub alone', async () => {
    hub.repos.get('org/model')!.token = 'secret';
    await refuses('not_found', /there is no model org\/model/);
    process.env['HF_TOKEN'] = 'secret';
    await resolve();
    assert.ok(hub.storage.length > 0);
    assert.ok(hub.storage.every(({ authorization }) => authorization === undefined));
    delete process.env['HF_TOKEN'];
    writeFileSync(join(home, 'token'), 'secret\n');
    await resolve('org/model', { update: true });
  });

  test('a hub in trouble', async () => {
    hub.repos.get('org/model')!.refuse = { status: 503 };
    await refuses('unavailable', /answered with status 503/);
    hub.repos.get('org/model')!.refuse = { status: 429 };
    await refuses('unavailable', /slow down \(429\)/);
  });

  test('something that is no hub', async () => {
    hub.nonsense = '<html>';
    await refuses('unavailable', /does not answer like a hub/);
    hub.nonsense = '{}';
    await refuses('invalid', /names no commit/);
  });

  test('no network', async () => {
    await hub.stop();
    await refuses('unavailable', /cannot be reached: .*ECONNREFUSED/);
    process.env['HF_HUB_OFFLINE'] = '1';
    await refuses('unavailable', /org\/model is not in the cache/);
  });

  test('cancelled before it began', async () => {
    await refuses('cancelled', /cancelled/, 'org/model', { signal: AbortSignal.abort() });
  });
});

describe('names', () => {
  test('a directory is itself', async () => {
    assert.equal(await resolve(reference('qwen3')), reference('qwen3'));
  });

  for (const path of ['./none', '../none/at/all', '/none', '~/none', 'a\\b']) {
    test(`${path} is a path`, async () => {
      await refuses('not_found', /no such directory/, path);
    });
  }

  test('a file is no model', async () => {
    await refuses('not_found', /not a directory/, join(reference('qwen3'), 'config.json'));
  });

  for (const name of ['model', 'a/b/c', 'org/', 'org/mo del', 'org/a..b', 'org/a--b', '-org/a', 'org/a.git', '']) {
    test(`${JSON.stringify(name)} is no name`, async () => {
      await refuses('invalid', /neither a directory that exists nor the name of a model/, name);
    });
  }

  for (const revision of ['', '../x', 'a b', '.hidden', 'a//b', 'x/../y']) {
    test(`${JSON.stringify(revision)} is no revision`, async () => {
      await refuses('invalid', /is not the name of a revision/, `org/model@${revision}`);
    });
  }
});
