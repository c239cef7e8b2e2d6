/** What `grpc-timeout` says: at most eight digits and a unit, with the milliseconds of each (gRPC over HTTP/2, Requests). */
const TIMEOUT = /^(\d{1,8})\s*([HMSmun])$/;
const UNITS_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };
/** The longest that Node.js waits, 24 days. */
const LONGEST_MS = 2 ** 31 - 1;

/** Milliseconds that a call may take; infinite where no timer waits so long; undefined: that is no timeout. */
export function timeoutOf(header: string): number | undefined {
  const [, digits, unit] = TIMEOUT.exec(header) ?? [];
  if (unit === undefined) return undefined;
  const ms = Number(digits) * UNITS_MS[unit];
  return ms > LONGEST_MS ? Infinity : ms;
}
