import { RoseError } from '../errors.ts';
import type { DeviceModel } from '../device/device.ts';
import type { ModelSpec } from '../model/spec.ts';

/**
 * Most tokens a sequence of the model can have: its context, or less where a group's pages are fewer.
 * @throws RoseError `unavailable` if not even one page of each group is there
 */
export function contextOf(spec: ModelSpec, model: DeviceModel): number {
  const { pageTokens, groups } = model.cache;
  let context = spec.contextLength;
  for (const { window, pages } of groups) {
    // What a window sees, and the page that is being written.
    const enough = window !== undefined && pages > Math.ceil(window / pageTokens) + 1;
    if (!enough) context = Math.min(context, pages * pageTokens);
  }
  if (context === 0) throw new RoseError('unavailable', 'the model has no pages for keys and values');
  return context;
}
