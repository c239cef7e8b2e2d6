import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseKernel } from '../src/ir/parse.ts';
import { runPasses } from '../src/passes/passes.ts';
import { printKernel } from '../src/ir/print.ts';
import { verifyKernel } from '../src/ir/verify.ts';
import type { KernelIR } from '../src/ir/ir.ts';

function kernel(body: string, head = ''): KernelIR {
  return parseKernel(`kernel "k" (128, 1, 1)
param tensor "x" f32 align 16 readwrite
param value "n" i32
${head}
slot $0 f32 "sum"
slot $1 i32 "i"
body {
  %0: ptr.global = param() {index: 0}
  %1: i32 = param() {index: 1}
  %2: i32 = special() {name: "tid.x"}
${body}
}
`);
}

/** Operations of a kernel after the passes, in order. */
function after(body: string, head?: string): string[] {
  const text = printKernel(runPasses(kernel(body, head)));
  return text
    .slice(text.indexOf('body {'))
    .split('\n')
    .flatMap(
      (line) =>
        /^ +(?:%.* = )?(\w+\(.*?) @\d+/
          .exec(line.replaceAll(/%(\d+)(\/\d+)?/g, '%$1'))?.[1]
          .replaceAll(/\(.*?\)/g, '') ?? [],
    );
}

const keep = (value: string): string => `store(%0, ${value}) {count: 1, align: 4}`;

test('constants fold as the device computes', () => {
  const folded = (op: string, type: string, a: string, b: string): string => {
    const list = after(
      `%10: ${type} = const() {value: ${a}}\n%11: ${type} = const() {value: ${b}}\n%12: ${type} = ${op}(%10, %11)\n${keep('%12')}`,
    );
    return list.find((line) => line.startsWith('const')) ?? list.join('; ');
  };
  assert.equal(folded('add', 'i32', '2147483647', '1'), 'const {value: -2147483648}');
  assert.equal(folded('mul', 'u32', '65536', '65537'), 'const {value: 65536}');
  assert.equal(folded('div', 'i32', '-7', '2'), 'const {value: -3}');
  assert.equal(folded('rem', 'i32', '-7', '2'), 'const {value: -1}');
  assert.equal(folded('add', 'f32', '16777216', '1'), 'const {value: 16777216}');
  assert.equal(folded('add', 'bf16', '256', '1'), 'const {value: 256}');
  assert.equal(folded('mul', 'f32', '-1', '0'), 'const {value: -0}');
  assert.equal(folded('add', 'i64', '9007199254740991', '2'), 'const {value: "9007199254740993"}');
});

test('NaN, division by zero and sums of floats with zero are left to the device', () => {
  const floats = after(`%10: f32 = const() {value: 0}\n%11: f32 = div(%10, %10)\n${keep('%11')}`);
  assert.ok(floats.includes('div'));
  const zero = after(
    `%10: f32 = const() {value: 0}\n%11: f32 = load(%0) {count: 1}\n%12: f32 = add(%11, %10)\n${keep('%12')}`,
  );
  assert.ok(zero.includes('add'), '-0 + 0 is 0');
  const whole = after(`%10: i32 = const() {value: 0}\n%11: i32 = div(%1, %10)\n${keep('%11')}`);
  assert.ok(whole.includes('div'));
});

test('divisions of what is not negative become shifts, masks and products', () => {
  const by = (value: string, divisor: number, op: string): string[] =>
    after(`%10: i32 = const() {value: ${divisor}}\n%11: i32 = ${op}(${value}, %10)\n${keep('%11')}`).filter((line) =>
      /^(div|rem|shr|and|mulhi)/.test(line),
    );
  assert.deepEqual(by('%2', 8, 'div'), ['shr']);
  assert.deepEqual(by('%2', 8, 'rem'), ['and']);
  assert.deepEqual(by('%2', 12, 'div'), ['mulhi', 'shr']);
  // A parameter may be negative.
  assert.deepEqual(by('%1', 8, 'div'), ['div']);
});

test('equal computations are made once, where one dominates the other', () => {
  const twice = `%10: i32 = add(%1, %2)\n%11: i32 = add(%1, %2)\n%12: i32 = mul(%10, %11)\n${keep('%12')}`;
  assert.equal(after(twice).filter((line) => line === 'add').length, 1);
  const branch = `%9: pred = compare(%1, %2) {test: "lt"}
if(%9) then {
 %10: i32 = add(%1, %2)
 ${keep('%10')}
} else {
 %11: i32 = add(%1, %2)
 ${keep('%11')}
}`;
  assert.equal(after(branch).filter((line) => line === 'add').length, 2);
});

test('slots that hold a known value are not read, and those nobody reads are gone', () => {
  const straight = `slot() [$1]\nset(%1) [$1]\n%10: i32 = get() [$1]\n${keep('%10')}`;
  assert.deepEqual(after(straight), ['param {index: 0}', 'param {index: 1}', 'store {count: 1, align: 4}']);
});

test('neighbouring accesses become one where the alignment is known', () => {
  const at = (i: number, base = '%0'): string =>
    `%${20 + i}: ptr.global = ptr_add(${base}) {bytes: ${4 * i}}\n%${30 + i}: f32 = load(%${20 + i}) {count: 1, align: 4}\n`;
  const sum = '%40: f32 = add(%30, %31)\n%41: f32 = add(%32, %33)\n%42: f32 = mul(%40, %41)\n';
  const loads = (body: string): string[] => after(body).filter((line) => line.startsWith('load'));
  assert.deepEqual(loads(at(0) + at(1) + at(2) + at(3) + sum + keep('%42')), ['load {count: 4, align: 16, bytes: 0}']);
  // An index that only 8 bytes divide allows pairs.
  const base = '%9: ptr.global = ptr_add(%0, %2) {scale: 8}\n';
  assert.equal(loads(base + [0, 1, 2, 3].map((i) => at(i, '%9')).join('') + sum + keep('%42')).length, 2);
  // A store in between may have changed what the later ones read.
  const store = '%15: f32 = const() {value: 1}\nstore(%0, %15) {count: 1, align: 4}\n';
  assert.equal(loads(at(0) + at(1) + store + at(2) + at(3) + sum + keep('%42')).length, 2);
  // A load of what was stored keeps the store before it.
  const read = '%16: f32 = load(%0) {count: 1, align: 4, bytes: 4}\nstore(%0, %16) {count: 1, align: 4, bytes: 8}\n';
  const order = after(
    `%15: f32 = const() {value: 1}\nstore(%0, %15) {count: 1, align: 4}\nstore(%0, %15) {count: 1, align: 4, bytes: 4}\n${read}store(%0, %15) {count: 1, align: 4, bytes: 12}`,
  );
  assert.deepEqual(
    order.filter((line) => /^(load|store)/.test(line)),
    [
      'store {count: 2, align: 8, bytes: 0}',
      'load {count: 1, align: 4, bytes: 4}',
      'store {count: 2, align: 8, bytes: 8}',
    ],
  );
});

test('floats that are stored side by side are converted in pairs', () => {
  const values = [0, 1, 2, 3]
    .map((i) => `%${10 + i}: f32 = load(%0) {count: 1, bytes: ${64 * i}}\n%${20 + i}: TYPE = convert(%${10 + i})\n`)
    .join('');
  const store = 'store(%0, %20, %21, %22, %23) {count: 4, align: 4}';
  const converts = (type: string): string[] => {
    const text = printKernel(runPasses(kernel(values.replaceAll('TYPE', type) + store)));
    return [...text.matchAll(/: (\w+) = convert/g)].map((match) => match[1]);
  };
  assert.deepEqual(converts('bf16'), ['bf16x2', 'bf16x2']);
  assert.deepEqual(converts('e4m3'), ['e4m3x4']);
});

test('shared memory is used twice where a barrier lies between', () => {
  const use = (id: number): string =>
    `%${10 * id + 10}: ptr.shared = shared_address() {id: ${id}}\n%${10 * id + 11}: f32 = load(%0) {count: 1}\nstore(%${10 * id + 10}, %${10 * id + 11}) {count: 1, align: 4}\n`;
  const head = 'shared 0 "a" f32 bytes 1000 align 16\nshared 1 "b" f32 bytes 512 align 1024';
  const offsets = (body: string): (number | undefined)[] =>
    runPasses(kernel(body, head)).shared.map(({ offset }) => offset);
  assert.deepEqual(offsets(`${use(0)}barrier()\n${use(1)}`), [0, 0]);
  assert.deepEqual(offsets(use(0) + use(1)), [512, 0]);
  assert.deepEqual(offsets(`${use(0)}barrier() {id: 1, count: 64}\n${use(1)}`), [512, 0]);
  // A copy that runs on its own may still be under way after the barrier.
  const copy = `%40: i32 = const() {value: 16}\n%41: ptr.shared = shared_address() {id: 0}\nbulk_store(%0, %41, %40)\nbulk_commit()\nbulk_wait() {groups: 0}\n`;
  assert.deepEqual(offsets(`${use(0)}${copy}barrier()\n${use(1)}`), [512, 0]);
});

test('writes that the async proxy reads get a fence before the barrier, and only one', () => {
  const head = 'shared 0 "a" f32 bytes 1024 align 128\nshared 1 "b" f32 bytes 512 align 16';
  const program = (id: number, fence: string): string => `%10: ptr.shared = shared_address() {id: ${id}}
%11: f32 = load(%0) {count: 1}
store(%10, %11) {count: 1, align: 4}
${fence}
barrier()
%12: ptr.shared = shared_address() {id: 0}
%13: i32 = const() {value: 16}
bulk_store(%0, %12, %13)
bulk_commit()
bulk_wait() {groups: 0}`;
  const order = (id: number, fence = ''): string =>
    after(program(id, fence), head)
      .filter((line) => /^(store|fence|barrier|bulk_store)/.test(line))
      .map((line) => line.split(' ')[0])
      .join(' ');
  assert.equal(order(0), 'store fence_proxy_async barrier bulk_store');
  assert.equal(order(0, 'fence_proxy_async() {space: "shared"}'), 'store fence_proxy_async barrier bulk_store');
  assert.equal(order(1), 'store barrier bulk_store');
});

test('a loop that asks for it runs several rounds in one', () => {
  const loop = (latch: string, jump = ''): string => `%9: i32 = const() {value: 1}
slot() [$1]
set(%1) [$1]
loop() {label: "l", unroll: 3} body {
 %10: i32 = get() [$1]
 %11: pred = compare(%10, %2) {test: "ge"}
 if(%11) then {
  break() {label: "l"}
 } else {
 }
 ${jump}
 store(%0, %10) {count: 1, align: 4}
} latch {
 %20: i32 = get() [$1]
 %21: i32 = add(${latch}, %9)
 set(%21) [$1]
}`;
  const jump = 'if(%11) then {\n continue() {label: "l"}\n } else {\n }';
  const count = (body: string): number => after(body).filter((line) => line.startsWith('store')).length;
  assert.equal(count(loop('%20')), 3);
  assert.equal(count(loop('%10')), 3);
  assert.equal(count(loop('%20', jump)), 3);
  verifyKernel(runPasses(kernel(loop('%20', jump))));
  // The latch needs a value of the body, out of which a jump leads: it stays as it is.
  assert.equal(count(loop('%10', jump)), 1);
});

test('the trace shows the kernel after each pass', () => {
  const seen: string[] = [];
  runPasses(kernel(keep('%1')), { trace: (pass, text) => seen.push(`${pass} ${text.startsWith('kernel "k"')}`) });
  assert.deepEqual(seen, [
    'unroll true',
    'simplify true',
    'vectorise true',
    'pairs true',
    'roles true',
    'dead true',
    'fences true',
    'shared true',
  ]);
});

test('roles have their own addresses of shared memory', () => {
  const use = (address: string): string => `store(${address}, %1) {count: 1, align: 4}`;
  const body = `
%10: ptr.shared = shared_address() {id: 0}
%11: ptr.shared = shared_address() {id: 1}
${use('%10')}
%12: i32 = const() {value: 256}
%13: pred = compare(%2, %12) {test: "lt"}
if(%13) then {
set_max_registers() {direction: "inc", count: 240}
${use('%10')}
${use('%11')}
} else {
set_max_registers() {direction: "dec", count: 24}
${use('%11')}
${use('%11')}
}`;
  const head = 'shared 0 "a" i32 bytes 16 align 16\nshared 1 "b" i32 bytes 16 align 16';
  assert.deepEqual(
    after(body, head).filter((op) => !/^(param|special|const|compare)/.test(op)),
    [
      'shared_address {id: 0}',
      'store {count: 1, align: 4}',
      'if',
      'set_max_registers {direction: "inc", count: 240}',
      'shared_address {id: 0}',
      'shared_address {id: 1}',
      'store {count: 1, align: 4}',
      'store {count: 1, align: 4}',
      'set_max_registers {direction: "dec", count: 24}',
      'shared_address {id: 1}',
      'store {count: 1, align: 4}',
      'store {count: 1, align: 4}',
    ],
  );
});
