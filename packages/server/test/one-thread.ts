/** One thread where the CPU computes; a GPU (`ROSE_DEVICE`) has no such option. */
export const oneThread: { readonly threads?: number } = process.env.ROSE_DEVICE === undefined ? { threads: 1 } : {};
