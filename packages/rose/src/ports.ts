import { CommandError, ExitCode } from './errors.ts';

/** A place to listen at, and how a person chooses it. */
export interface Listener {
  /** What is served there. */
  readonly what: string;
  readonly option: string;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

/**
 * What is served at different places must not be told to share one.
 * @throws CommandError naming both options
 */
export function checkPortsDiffer(listeners: readonly Listener[]): void {
  for (const [i, one] of listeners.entries()) {
    const other = listeners.slice(i + 1).find((candidate) => sharesPort(one, candidate));
    if (other === undefined) continue;
    const both = `${one.what} (${one.option}) and ${other.what} (${other.option}) cannot both listen on port ${one.port}`;
    throw new CommandError(
      ExitCode.usage,
      `${both}: name another with one of these options (0 takes a free one). Where none is named, gRPC's is the one after --port, and that of metrics the one after that.`,
    );
  }
}

const ALL_ADDRESSES: ReadonlySet<string> = new Set(['0.0.0.0', '::', '']);

function sharesPort(one: Listener, other: Listener): boolean {
  if (one.port !== other.port || one.port === 0) return false;
  return one.host === other.host || ALL_ADDRESSES.has(one.host) || ALL_ADDRESSES.has(other.host);
}
