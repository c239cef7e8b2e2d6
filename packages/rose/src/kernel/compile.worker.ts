import { parentPort, workerData } from 'node:worker_threads';
import { Context, Kernel, listDevices, loadDriver } from '@rose/cuda';
import type { Program } from '@rose/cute';

/** A thread of CompilerPool: compiles what it is sent, which leaves it in the caches, and says when it is done. */

const context = new Context(listDevices(loadDriver())[workerData as number]);

parentPort!.on('message', (program: Program) => {
  let why: string | undefined;
  try {
    new Kernel(context, program)[Symbol.dispose]();
  } catch (error) {
    why = (error as Error).message;
  }
  parentPort!.postMessage(why);
});
