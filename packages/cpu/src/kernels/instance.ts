/** A kernel as JavaScript calls it: addresses, counts, and float32 arguments as their bits. */
export type KernelCall = (...args: number[]) => void;
export type Kernels = Readonly<Record<string, KernelCall>>;

/** Kernels over an arena's memory. All instances of a module share its code, and what V8 has optimised of it. */
export function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): Kernels {
  return new WebAssembly.Instance(module, { '': { m0: memory } }).exports as Kernels;
}
