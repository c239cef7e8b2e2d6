import { createRequire } from 'node:module';

/** The flags under which the `rose` command runs Node.js. */
export function roseFlags(): string[] {
  const launcher = createRequire(import.meta.url)('../../packages/rose/bin/launch.cjs') as {
    nodeFlags(options: { development: boolean }): string[];
  };
  return launcher.nodeFlags({ development: true });
}
