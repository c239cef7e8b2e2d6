/**
 * What this package needs of a foreign function interface. There is one for the real driver (`openLibrary`, koffi) and
 * one in the tests, which puts a driver written in TypeScript in its place.
 */

/** How a value crosses into C. */
export type Word =
  /** `int` and enumerations. */
  | 'i32'
  /** `unsigned int`. */
  | 'u32'
  /** `size_t`. */
  | 'size'
  /** A handle, a device address or a host address, as a number: addresses of a process are exact in a double. */
  | 'word'
  /** A pointer to host memory: a typed array, an address, or null. */
  | 'data'
  /** `const char *`. */
  | 'text'
  /** A struct of 64 bytes by value (CUipcMemHandle, CUipcEventHandle). */
  | 'handle64';

/** Host memory in a call. The callee writes through it where C's signature says so. */
export type HostData = NodeJS.TypedArray | DataView | number | null;

/** A C function of the driver: takes what its row of the table says and gives a CUresult. */
export type ForeignFunction = (...values: never[]) => number;

export interface Ffi {
  /** The function `name`, or undefined where the library has none of this name. */
  find(name: string, words: readonly Word[]): ForeignFunction | undefined;
  /** Address of the first byte of `view`; it holds for as long as the view's buffer lives. */
  address(view: NodeJS.TypedArray | DataView): number;
  /** `bytes` of host memory at `address` as a buffer, not copied. The caller detaches it before the memory goes. */
  view(address: number, bytes: number): ArrayBuffer;
}
