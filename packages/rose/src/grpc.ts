import type { Command } from 'commander';
import type { ServerOptions } from '@rose/server';
import { CommandError, ExitCode } from './errors.ts';
import { integer } from './options.ts';

/** What the command line says of gRPC. */
export interface GrpcFlags {
  grpc: boolean;
  /** Undefined: the port after HTTP's. */
  grpcPort?: number;
  grpcKeepaliveTime: number;
  grpcKeepaliveTimeout: number;
  grpcMaxConnectionIdle?: number;
  grpcMaxConnectionAge?: number;
  grpcMaxConnectionAgeGrace?: number;
  grpcMaxMessageBytes: number;
}

const MOST_BYTES = 2 ** 31 - 1;
/** Longer timers end at once. */
const MOST_MS = 2 ** 31 - 1;

export function addGrpcOptions(command: Command): Command {
  return command
    .option(
      '--grpc-port <number>',
      "port of Triton's gRPC protocol; 0 takes a free one (default: the one after --port)",
      integer(0, 65_535),
    )
    .option('--no-grpc', 'do not serve gRPC')
    .option('--grpc-keepalive-time <ms>', 'ping a silent gRPC client after so long', integer(1, MOST_MS), 7_200_000)
    .option('--grpc-keepalive-timeout <ms>', 'how long it may take to answer a ping', integer(1, MOST_MS), 20_000)
    .option(
      '--grpc-max-connection-idle <ms>',
      'end gRPC connections without a call for so long (default: never)',
      integer(1, MOST_MS),
    )
    .option(
      '--grpc-max-connection-age <ms>',
      'end gRPC connections after so long (default: never)',
      integer(1, MOST_MS),
    )
    .option(
      '--grpc-max-connection-age-grace <ms>',
      'how long their last calls may go on (default: to their end)',
      integer(1, MOST_MS),
    )
    .option(
      '--grpc-max-message-bytes <n>',
      'largest message that a client may send',
      integer(1, MOST_BYTES),
      MOST_BYTES,
    );
}

/** A port that nobody chose follows HTTP's, as in Triton (8000 and 8001). Undefined: no gRPC. */
export function grpcOptions(flags: GrpcFlags, httpPort: number): ServerOptions['grpc'] {
  const { grpc, grpcPort, grpcMaxConnectionIdle: idle } = flags;
  const { grpcMaxConnectionAge: age, grpcMaxConnectionAgeGrace: grace } = flags;
  if (!grpc) {
    if (grpcPort === undefined) return undefined;
    throw new CommandError(ExitCode.usage, '--grpc-port and --no-grpc contradict each other: leave one out.');
  }
  if (grace !== undefined && age === undefined) {
    const needed = '--grpc-max-connection-age';
    throw new CommandError(ExitCode.usage, `--grpc-max-connection-age-grace has no effect without ${needed}.`);
  }
  const port = grpcPort ?? (httpPort === 0 ? 0 : httpPort + 1);
  if (port > 65_535) {
    throw new CommandError(
      ExitCode.usage,
      'there is no port after 65535 for gRPC: name one with --grpc-port, or --no-grpc.',
    );
  }
  return {
    port,
    maxMessageBytes: flags.grpcMaxMessageBytes,
    keepaliveTimeMs: flags.grpcKeepaliveTime,
    keepaliveTimeoutMs: flags.grpcKeepaliveTimeout,
    ...(idle !== undefined && { maxConnectionIdleMs: idle }),
    ...(age !== undefined && { maxConnectionAgeMs: age }),
    ...(grace !== undefined && { maxConnectionAgeGraceMs: grace }),
  };
}
