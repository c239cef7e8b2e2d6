import type { DeviceModel } from '../../packages/engine/src/device/device.ts';

/** A model as an engine sees it, whose steps go through `step`: to time them. It is closed by its owner. */
export function steppedBy(model: DeviceModel, step: DeviceModel['step']): DeviceModel {
  const { capacity, cache, memory, answersApart } = model;
  return { capacity, cache, memory, answersApart, step, close: () => {} };
}
