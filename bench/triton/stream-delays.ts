import { request } from 'node:http';
import { quantileOf } from './connection.ts';

export interface Delays {
  readonly tokens: number;
  /** Microseconds from the engine's token to its event in the client. */
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

/** Streams of `generate_stream` side by side, each of so many tokens; what is first of each is left out. */
export async function streamDelays(host: string, port: number, streams: number, tokens: number): Promise<Delays> {
  const each = await Promise.all(Array.from({ length: streams }, () => readStream(host, port, tokens)));
  const delays = each.flatMap((list) => list.slice(Math.floor(list.length / 5))).sort((a, b) => a - b);
  const quantile = (share: number): number => Number(quantileOf(delays, share).toFixed(1));
  return { tokens: delays.length, p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99) };
}

function readStream(host: string, port: number, tokens: number): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const path = '/v2/models/chat/generate_stream';
    const headers = { 'content-type': 'application/json' };
    const call = request({ host, port, path, method: 'POST', headers }, (response) => {
      if (response.statusCode !== 200) return reject(new Error(`status ${response.statusCode}`));
      const delays: number[] = [];
      response.on('data', (chunk: Buffer) => {
        const now = process.hrtime.bigint();
        // The clock is the machine's: what one process reads the other may compare with.
        for (const [, text] of chunk.toString('latin1').matchAll(/"text_output":"(\d+)"/g)) {
          delays.push(Number(now - BigInt(text)) / 1000);
        }
      });
      response.on('error', reject);
      response.on('end', () => {
        if (delays.length === tokens) resolve(delays);
        else reject(new Error(`${delays.length} events of one token each, not ${tokens}`));
      });
    });
    call.on('error', reject);
    call.end(JSON.stringify({ text_input: 'x', stream: true, max_tokens: tokens }));
  });
}
