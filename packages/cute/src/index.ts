/** Filled step by step. */
export const VERSION = '0.1.0';
