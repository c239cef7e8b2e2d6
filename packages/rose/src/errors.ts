/** Exit codes of the `rose` command; `rose --help` lists them. */
export const ExitCode = {
  ok: 0,
  internal: 1,
  usage: 2,
  model: 3,
  address: 4,
  device: 5,
  interrupted: 130,
} as const;

/** Ends the command with this code and this message, one paragraph for the person who typed it. */
export class CommandError extends Error {
  readonly exitCode: number;

  constructor(exitCode: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'CommandError';
    this.exitCode = exitCode;
  }
}

/** Codes of the engine's errors (see RoseError) while a request runs; others are faults of Rose. */
const REQUEST_CODES: Readonly<Record<string, number>> = {
  invalid: ExitCode.usage,
  too_large: ExitCode.usage,
  unsupported: ExitCode.usage,
  not_found: ExitCode.model,
  unavailable: ExitCode.device,
  cancelled: ExitCode.interrupted,
};

/** The engine's error code. By name, so that asking does not load the engine. */
export function roseCode(error: unknown): string | undefined {
  return error instanceof Error && error.name === 'RoseError' ? (error as Error & { code: string }).code : undefined;
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof CommandError) return error.exitCode;
  return REQUEST_CODES[roseCode(error) ?? ''] ?? ExitCode.internal;
}

/** Runs `work`; an error of the engine in it ends the command with the code that `codes` gives its own code. */
export async function withExitCodes<T>(codes: Readonly<Record<string, number>>, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const exitCode = codes[roseCode(error) ?? ''];
    if (exitCode === undefined) throw error;
    throw new CommandError(exitCode, (error as Error).message, { cause: error });
  }
}

/** The paragraph to show for an error: its message; with ROSE_DEBUG=1 also where it came from. */
export function explain(error: unknown): string {
  if (process.env.ROSE_DEBUG === '1') return error instanceof Error ? (error.stack ?? error.message) : String(error);
  const message = error instanceof Error ? error.message : String(error);
  if (exitCodeOf(error) !== ExitCode.internal) return message;
  return `${message} (This is a fault of Rose; ROSE_DEBUG=1 shows where it happened.)`;
}
