import { parentPort, workerData } from 'node:worker_threads';
import { CompileError, Context, CudaError, listDevices, loadDriver, makeImage, ProgramCache } from '@rose/cuda';
import type { CompilerAnswer, CompilerData, CompilerJob, ToldError } from './compiler-thread.ts';

/** A thread of CompilerPool: makes what it is sent, and ends when it is told to. */

// In a checkout kernels are transformed as they are imported.
await import('@rose/cute/register');
const [{ kernelNamed }, { Programs }] = await Promise.all([import('./kernels.ts'), import('./programs.ts')]);

const { ordinal, arch, version } = workerData as CompilerData;
const programs = new Programs(new ProgramCache(), version);
/** Made when there is something to compile: tracing needs no GPU. */
let context: Context | undefined;
const port = parentPort!;

port.on('message', (job: CompilerJob) => {
  if (job.kind === 'end') {
    context?.[Symbol.dispose]();
    process.exit();
  }
  port.postMessage(answer(job));
});

function answer(job: Exclude<CompilerJob, { kind: 'end' }>): CompilerAnswer {
  try {
    if (job.kind === 'compile') {
      context ??= new Context(listDevices(loadDriver())[ordinal]);
      return { kind: 'made', made: makeImage(context, job.program) };
    }
    const { name, specialisation } = job.kernel;
    return { kind: 'made', made: programs.programOf(kernelNamed(name), specialisation, arch) };
  } catch (error) {
    return { kind: 'failed', error: tell(error) };
  }
}

function tell(error: unknown): ToldError {
  if (error instanceof CompileError) return { kind: 'compile', what: error.what, log: error.log };
  if (error instanceof CudaError) return { kind: 'driver', call: error.call, code: error.code, detail: error.detail };
  return { kind: 'other', error };
}
