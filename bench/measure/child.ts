/** The child's half of `contender.ts`: answers the parent's calls one after the other, as they come. */
export interface Call {
  readonly method: string;
  readonly argument: unknown;
}

export type Answer = { readonly value: unknown } | { readonly error: string };

export function answerCalls(methods: Readonly<Record<string, (argument: never) => Promise<unknown>>>): void {
  process.on('message', async ({ method, argument }: Call) => {
    let answer: Answer;
    try {
      answer = { value: await methods[method](argument as never) };
    } catch (error) {
      answer = { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
    process.send?.(answer);
  });
  // The parent has gone: native threads would keep this process alive.
  process.on('disconnect', () => process.exit());
}
