import { temporaryFolder } from '../../cuda/test/fake/folder.ts';

/**
 * Runs `body` with caches of kernels of its own, and compiled by the driver whatever the environment says: a driver in TypeScript
 * loads no image that NVIDIA's ptxas made.
 */
export async function withOwnCaches(body: () => Promise<void>): Promise<void> {
  using folder = temporaryFolder();
  const { ROSE_CACHE_DIR, ROSE_PTXAS } = process.env;
  process.env.ROSE_CACHE_DIR = folder.path;
  delete process.env.ROSE_PTXAS;
  try {
    await body();
  } finally {
    for (const [name, value] of Object.entries({ ROSE_CACHE_DIR, ROSE_PTXAS })) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}
