import { execFileSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { arch, availableParallelism, cpus, platform, release, totalmem } from 'node:os';
import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** `bench/results`, or the folder that ROSE_BENCH_RESULTS names. */
const RESULTS = process.env['ROSE_BENCH_RESULTS']
  ? pathToFileURL(`${resolve(process.env['ROSE_BENCH_RESULTS'])}/`)
  : new URL('../results/', import.meta.url);

/** What numbers need beside them to mean anything. */
export async function circumstances(): Promise<object> {
  return {
    date: new Date().toISOString(),
    command: ['node', ...process.argv.slice(1).map((word) => word.replace(repositoryRoot(), ''))].join(' '),
    machine: {
      cpu: cpus()[0]?.model.trim(),
      vectorExtensions: await vectorExtensions(),
      cores: availableParallelism(),
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      system: `${platform()} ${release()} ${arch()}`,
    },
    versions: {
      node: process.version,
      rose: commit(),
      'node-llama-cpp': await installedVersion('node-llama-cpp'),
      'onnxruntime-node': await installedVersion('onnxruntime-node'),
    },
  };
}

/**
 * Begin to watch the machine; the function returned says how many cores other programs took on average since. Undefined
 * where the system does not tell (not Linux).
 */
export async function watchOthers(): Promise<() => Promise<number | undefined>> {
  const start = await busySeconds();
  const own = process.cpuUsage();
  const began = performance.now();
  return async () => {
    const end = await busySeconds();
    if (start === undefined || end === undefined) return undefined;
    const { user, system } = process.cpuUsage(own);
    const others = end - start - (user + system) / 1e6;
    return Number(Math.max(0, (1000 * others) / (performance.now() - began)).toFixed(2));
  };
}

/** Seconds that all cores together have worked since the system started. */
async function busySeconds(): Promise<number | undefined> {
  try {
    // Hundredths of seconds: user, nice, system, idle, waiting for disks, interrupts (two kinds), taken by the host.
    const [user, nice, system, , , interrupts, softInterrupts, taken] = (await readFile('/proc/stat', 'utf8'))
      .split('\n')[0]
      .split(/\s+/)
      .slice(1)
      .map(Number);
    return (user + nice + system + interrupts + softInterrupts + taken) / 100;
  } catch {
    return undefined;
  }
}

/** Write YYYY-MM-DD-NAME.json into the folder of results. */
export async function writeResult(name: string, result: object): Promise<void> {
  await mkdir(RESULTS, { recursive: true });
  const file = new URL(`${new Date().toISOString().slice(0, 10)}-${name}.json`, RESULTS);
  await writeFile(file, `${compactArrays(JSON.stringify(result, undefined, 2))}\n`);
  console.log(`written to ${fileURLToPath(file).replace(repositoryRoot(), '')}`);
}

/** Lists of numbers on one line each. */
function compactArrays(json: string): string {
  return json.replaceAll(/\[[\d\s.,e+-]+\]/g, (list) => list.replaceAll(/\s+/g, ' '));
}

function repositoryRoot(): string {
  return fileURLToPath(new URL('../../', import.meta.url));
}

/** Rose's commit, with `+` when files differ from it; undefined where the sources are a copy without a repository. */
function commit(): string | undefined {
  const git = (...words: string[]): string =>
    execFileSync('git', words, { cwd: repositoryRoot(), encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    return git('rev-parse', '--short', 'HEAD').trim() + (git('status', '--porcelain', '-uno') === '' ? '' : '+');
  } catch {
    return undefined;
  }
}

/** Undefined where the peer is not installed: not every benchmark needs it. */
async function installedVersion(name: string): Promise<string | undefined> {
  const file = new URL(`../node_modules/${name}/package.json`, import.meta.url);
  try {
    const { version } = JSON.parse(await readFile(file, 'utf8')) as { version: string };
    return version;
  } catch {
    return undefined;
  }
}

/** Those that native engines choose kernels by. Known on Linux and x86 only. */
async function vectorExtensions(): Promise<string | undefined> {
  try {
    const flags = /^flags\s*: (.*)$/m.exec(await readFile('/proc/cpuinfo', 'utf8'))?.[1].split(' ') ?? [];
    return flags.filter((flag) => /^(avx2|fma|avx512f|avx512_bf16|avx512_vnni|avx_vnni|amx_.*)$/.test(flag)).join(' ');
  } catch {
    return undefined;
  }
}
