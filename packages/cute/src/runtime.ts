/** What transformed files import. Nothing in it is for authors of kernels. */
export { traceRuntime } from './trace/runtime.ts';
