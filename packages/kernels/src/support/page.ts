/** Tokens of a page of the cache. */
export const PAGE = 16;
