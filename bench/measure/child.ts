/** The child's half of `contender.ts`: answers the parent's calls one after the other, as they come. */
export interface Call {
  readonly method: string;
  readonly argument: unknown;
}

export type Answer = { readonly value: unknown } | { readonly error: string };

export function answerCalls(methods: Readonly<Record<string, (argument: never) => Promise<unknown>>>): void {
  const answer = async ({ method, argument }: Call): Promise<Answer> => {
    try {
      return { value: await methods[method](argument as never) };
    } catch (error) {
      return { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
  };
  process.on('message', (call: Call) => void answer(call).then((result) => process.send?.(result)));
  // The parent has gone: native threads would keep this process alive.
  process.on('disconnect', () => process.exit());
}
