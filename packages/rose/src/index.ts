/** Rose as a library: what the `rose` command itself is made of. */
export * from '@rose/engine';
export * from '@rose/server';
