import type { Device } from './device.ts';
import { call, type Driver } from './driver.ts';
import { CudaError, CudaUsageError, DeviceLostError } from './errors.ts';
import { Out } from './out.ts';
import type { Resource, ResourceKind } from './resource.ts';
import { resultOf } from './results.ts';
import type { CallArguments, CallName } from './table.ts';

/**
 * A thread's hold on a device: its primary context, which all threads and libraries of the process share. Everything
 * else of this package is made in one. Every call sees to it that the right context is current on the thread.
 *
 * After a sticky error (an illegal address, a failed kernel, ...) no call reaches the driver any more: each throws
 * DeviceLostError, which names the first error.
 */
export class Context implements Disposable {
  readonly driver: Driver;
  readonly device: Device;
  /** The error that made the device unusable, if one did. */
  lost: CudaError | undefined;
  #handle: number;
  readonly #live = new Set<Resource>();

  constructor(device: Device) {
    const out = new Out();
    device.driver.run('cuDevicePrimaryCtxRetain', out.data, device.id);
    this.driver = device.driver;
    this.device = device;
    this.#handle = out.word;
  }

  /** CUcontext. */
  get handle(): number {
    if (this.#handle === 0) throw new CudaUsageError(`the context of ${this.device.toString()} was disposed already`);
    return this.#handle;
  }

  /** Makes this the thread's context for the call `name`. Cheap: one comparison where it is already. */
  enter(name: CallName): void {
    if (this.lost) throw new DeviceLostError(name, this.device.toString(), this.lost);
    if (this.driver.current === this.#handle && this.#handle !== 0) return;
    const handle = this.handle;
    const code = this.driver.calls.cuCtxSetCurrent(handle);
    if (code !== 0) this.fail('cuCtxSetCurrent', code);
    this.driver.current = handle;
  }

  /** Calls a function of the driver. Throws CudaError. */
  run<Name extends CallName>(name: Name, ...values: CallArguments<Name>): void {
    this.enter(name);
    const code = call(this.driver.calls, name, values);
    if (code !== 0) this.fail(name, code);
  }

  /** Calls a function of the driver where `expected` is an answer and no error. */
  ask<Name extends CallName>(expected: number, name: Name, ...values: CallArguments<Name>): boolean {
    this.enter(name);
    const code = call(this.driver.calls, name, values);
    if (code !== 0 && code !== expected) this.fail(name, code);
    return code === expected;
  }

  /** Throws the error of a call that gave `code`; remembers it if it is sticky. `detail` follows the code's name. */
  fail(name: CallName, code: number, detail = ''): never {
    const error = new CudaError(name, code, ` on ${this.device.toString()}${detail}`);
    if (resultOf(code).sticky) this.lost = error;
    throw error;
  }

  /** Waits until all work on the device that this process gave it is done. */
  synchronize(): void {
    this.run('cuCtxSynchronize');
  }

  /** Free and total bytes of the device's memory. */
  memory(): { free: number; total: number } {
    const free = new Out();
    const total = new Out();
    this.run('cuMemGetInfo_v2', free.data, total.data);
    return { free: free.word, total: total.word };
  }

  /** The numbers that streams' priorities lie between; the lower number goes first. */
  streamPriorities(): { lowest: number; highest: number } {
    const lowest = new Out();
    const highest = new Out();
    this.run('cuCtxGetStreamPriorityRange', lowest.data, highest.data);
    return { lowest: lowest.i32, highest: highest.i32 };
  }

  /** How many objects are alive, by kind. Empty when nothing leaks. */
  live(): Partial<Record<ResourceKind, number>> {
    const counts: Partial<Record<ResourceKind, number>> = {};
    for (const { kind } of this.#live) counts[kind] = (counts[kind] ?? 0) + 1;
    return counts;
  }

  /** For Resource alone. */
  adopt(resource: Resource): void {
    this.#live.add(resource);
  }

  /** For Resource alone. */
  disown(resource: Resource): void {
    this.#live.delete(resource);
  }

  [Symbol.dispose](): void {
    if (this.#handle === 0) return;
    for (const resource of [...this.#live].reverse()) resource[Symbol.dispose]();
    if (!this.lost) {
      this.run('cuCtxSetCurrent', 0);
      this.driver.current = 0;
      this.#handle = 0;
      this.driver.run('cuDevicePrimaryCtxRelease_v2', this.device.id);
    }
    this.#handle = 0;
  }
}
