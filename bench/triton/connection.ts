/** One client: at most one request under way. */
export interface Connection {
  /** Send the request once more and have its answer checked; `done` is called when all of it is there. */
  request(done: (error?: Error) => void): void;
  close(): void;
}

export interface LoadFigures {
  readonly requestsPerSecond: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly requests: number;
  readonly seconds: number;
  /** Cores that the load's own process took. */
  readonly loadBusy: number;
}

/** Each connection sends its next request when it has the answer to the one before. */
export async function closedLoop(
  connections: readonly Connection[],
  { warmUpSeconds, seconds }: { readonly warmUpSeconds: number; readonly seconds: number },
): Promise<LoadFigures> {
  let latencies: number[] = [];
  let counting = false;
  let stopping = false;
  const run = (connection: Connection): Promise<void> =>
    new Promise((resolve, reject) => {
      let sent = 0;
      const done = (error?: Error): void => {
        if (error) return reject(error);
        if (counting) latencies.push(performance.now() - sent);
        if (stopping) return resolve();
        send();
      };
      const send = (): void => {
        sent = performance.now();
        connection.request(done);
      };
      send();
    });
  const all = Promise.all(connections.map(run));
  await Promise.race([all, sleep(1000 * warmUpSeconds)]);
  latencies = [];
  counting = true;
  const began = performance.now();
  const cpu = process.cpuUsage();
  await Promise.race([all, sleep(1000 * seconds)]);
  counting = false;
  const { user, system } = process.cpuUsage(cpu);
  const took = (performance.now() - began) / 1000;
  stopping = true;
  await all;
  for (const connection of connections) connection.close();
  latencies.sort((a, b) => a - b);
  const quantile = (share: number): number => Number(quantileOf(latencies, share).toFixed(3));
  return {
    requestsPerSecond: Math.round(latencies.length / took),
    ...{ p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99) },
    ...{ requests: latencies.length, seconds: Number(took.toFixed(2)) },
    loadBusy: Number(((user + system) / 1e6 / took).toFixed(2)),
  };
}

/** @param sorted ascending; not empty */
export function quantileOf(sorted: readonly number[], share: number): number {
  return sorted[Math.floor(share * (sorted.length - 1))];
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
