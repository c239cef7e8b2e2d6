/** What `object[i]` and `object[i] = v` call in a kernel, on objects of the language. */
export interface Indexed {
  getElement(index: unknown): unknown;
  putElement(index: unknown, value: unknown): void;
}

export function isIndexed(value: unknown): value is Indexed {
  return value !== null && (typeof value === 'object' || typeof value === 'function') && 'getElement' in value;
}
