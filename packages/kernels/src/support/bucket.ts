/** Up to which size each has its own bucket; from there on a device is full and more of the same takes its time only. */
const LARGEST = 16384;

/** The bucket of a number of rows in tables of tunings: the next power of two, 16384 and more being one. */
export function rowBucket(rows: number): number {
  return Math.min(LARGEST, 2 ** Math.ceil(Math.log2(rows)));
}
