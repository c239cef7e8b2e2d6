import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Step } from './runner.ts';

/** Seconds that a step may take where nothing else is said. */
const LIMIT = 300;
/** Test files that run beside each other on one GPU. */
const CONCURRENCY = 4;

/**
 * All that has to be seen on a GPU, in the order of what tells most.
 * @param root of the checkout
 * @param noGpu why there is no GPU: then tests are skipped, while benchmarks say so themselves
 */
export function gpuSteps(root: string, noGpu: string | undefined): readonly Step[] {
  const node = [process.execPath, '--disable-warning=ExperimentalWarning', '--conditions=development'];
  const language = ['--import', './packages/cute/src/register.ts'];
  const skip = noGpu === undefined ? {} : { skip: `no GPU: ${noGpu}` };
  const files = (directory: string, pattern: RegExp): string[] =>
    readdirSync(join(root, directory))
      .filter((file) => pattern.test(file))
      .toSorted()
      .map((file) => `${directory}/${file}`);
  const tests = (name: string, group: string, list: readonly string[], more: Partial<Step> = {}): Step => {
    const options = ['--test', `--test-concurrency=${CONCURRENCY}`, `--test-timeout=${1000 * LIMIT}`];
    return { name, group, command: [...node, ...language, ...options, ...list], limitSeconds: LIMIT, ...skip, ...more };
  };
  const bench = (name: string, words: readonly string[], limitSeconds = LIMIT): Step => ({
    ...{ name: `bench-${name}`, group: 'benches', limitSeconds },
    command: [...node, ...language, ...words],
  });
  const onGpu = { env: { ROSE_DEVICE: 'cuda' } };
  const rose = 'packages/rose/test';
  // The page needs a browser, and is the same on every device.
  const server = files('packages/server/test', /^(?!page\.).*\.test\.ts$/);
  const half = Math.ceil(server.length / 2);
  return [
    tests('driver', 'tests', files('packages/cuda/test', /^(gpu|tensor-cores|cublaslt)\.test\.ts$/)),
    ...files(rose, /-gpu\.test\.ts$/).map((file) =>
      tests(file.slice(rose.length + 1, -'.test.ts'.length), 'tests', [file]),
    ),
    tests('models', 'tests', files('packages/engine/test', /^cuda-.*\.test\.ts$/), { limitSeconds: 580 }),
    // A file that waits for many answers takes minutes where each of its servers loads its kernels.
    tests('protocols-server-1', 'protocols', server.slice(0, half), { ...onGpu, limitSeconds: 580 }),
    tests('protocols-server-2', 'protocols', server.slice(half), { ...onGpu, limitSeconds: 580 }),
    tests('protocols-rose', 'protocols', files(rose, /^(serve.*|bench-serve)\.test\.ts$/), {
      ...onGpu,
      limitSeconds: 580,
    }),
    ...files('bench/tune', /\.json$/).map((file): Step => {
      const name = `tune-${file.slice('bench/tune/'.length, -'.json'.length)}`;
      const words = ['packages/rose/src/main.ts', 'tune', '--shapes', file, '--missing', '--budget', '240'];
      return { name, group: 'tune', command: [...node, ...words], limitSeconds: LIMIT };
    }),
    bench('gemm', ['bench/gemm/run.ts']),
    bench('fp8', ['bench/gemm/fp8.ts']),
    bench('grouped', ['bench/gemm/grouped.ts']),
    bench('attention', ['bench/attention/run.ts']),
    bench('kernels', ['bench/kernels/run.ts']),
    bench('sample', ['bench/kernels/sample.ts']),
    bench('encoder-kernels', ['bench/encoder/run.ts']),
    bench('encoder', ['bench/cuda/encoder.ts']),
    bench('steps', ['bench/cuda/steps.ts'], 580),
    bench('steps-fp8', ['bench/cuda/steps.ts', '--fp8', '--shape', 'llama-8b'], 580),
    bench('start', ['bench/cuda/start.ts', '--shape', 'llama-8b,llama-1b']),
    bench('serve', ['bench/cuda/serve.ts'], 580),
    bench(
      'serve-small',
      ['bench/cuda/serve.ts', '--shape', 'llama-1b,qwen3-0.6b', '--peer-seconds', '120', '--name', 'cuda-serve-small'],
      580,
    ),
    bench('profile', ['bench/profile/run.ts']),
    bench('soak', ['bench/soak.ts', '--device', 'cuda', '--seconds', '540', '--write'], 595),
  ];
}
