import assert from 'node:assert/strict';
import { Context, Device, Driver } from '../../src/index.ts';
import { FakeDriver, type FakeOptions } from './driver.ts';

/** A context on a fake driver, whose disposal asserts that nothing leaked and nothing was used wrongly. */
export interface FakeSetup extends Disposable {
  readonly fake: FakeDriver;
  readonly driver: Driver;
  readonly context: Context;
}

export function fakeContext(options: FakeOptions = {}): FakeSetup {
  const fake = new FakeDriver(options);
  const driver = new Driver(fake);
  const context = new Context(new Device(driver, 0));
  return {
    fake,
    driver,
    context,
    [Symbol.dispose](): void {
      assert.deepEqual(context.live(), {}, 'objects that nobody disposed');
      context[Symbol.dispose]();
      assert.deepEqual(fake.live(), {}, 'objects that the driver still has');
      assert.deepEqual(fake.faults, []);
    },
  };
}

/** An image that the fake's loader takes, with these kernels. */
export function fakeImage(...names: string[]): Uint8Array {
  return Buffer.from(`FAKE CUBIN\n${names.join('\n')}`);
}
