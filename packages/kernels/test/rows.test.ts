import { test } from 'node:test';
import { compareRows, ROWS_CASES, textOf } from './rows-cases.ts';
import { MULTIPROCESSORS, SIMULATOR } from './support.ts';

for (const wanted of ROWS_CASES) {
  test(`${textOf(wanted)}: the rows are a parameter, and those behind the last do no harm`, async () => {
    await compareRows(wanted, (module, s, args) =>
      SIMULATOR.run(module.trace(s), args, module.grid(s, { multiprocessors: MULTIPROCESSORS })),
    );
  });
}
