import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KernelError } from '../src/ir/error.ts';
import { parseKernel } from '../src/ir/parse.ts';
import { verifyKernel } from '../src/ir/verify.ts';
import { archOf } from '../src/ptx/arch.ts';

const HEAD = `kernel "k" (384, 1, 1)
param tensor "x" f32 align 16 readwrite
param value "n" i32
shared 0 "tile" f32 bytes 1024 align 16
shared 1 "bar" b64 bytes 8 align 8
slot $0 f32 "sum"
slot $1 i32 "i"
body {
  %0: ptr.global = param() {index: 0}
  %1: i32 = param() {index: 1}
  %2: i32 = special() {name: "tid.x"}
  %3: pred = compare(%2, %1) {test: "lt"}
  %4: f32 = load(%0) {count: 1, align: 4}
  %5: pred = compare(%1, %1) {test: "lt"}
  %6: ptr.shared = shared_address() {id: 0}
  %7: ptr.shared = shared_address() {id: 1}
  %8: i32 = const() {value: 5}
  %9: i32 = shr(%2, %8)
`;

function verify(body: string, arch = 'sm_90a'): void {
  verifyKernel(parseKernel(`${HEAD}${body}\n}\n`, 'k.ir'), archOf(arch));
}

function refused(body: string, message: RegExp, arch?: string): void {
  assert.throws(
    () => verify(body, arch),
    (error) => {
      assert.ok(error instanceof KernelError, String(error));
      assert.match(error.message, message);
      assert.match(error.message, /k\.ir:\d+/, 'says where');
      return true;
    },
  );
}

test('types and number of operands', () => {
  verify('%20: i32 = add(%1, %2)');
  refused('%20: i32 = add(%1)', /add has 1 operands; it takes 2/);
  refused('%20: i32 = add(%1, %4)', /operand 2 is f32, but i32 goes before it/);
  refused('%20: f32 = add(%1, %2)', /result 1 is f32/);
  refused('%20: i32 = mulwide(%1, %2)', /result 1 is i32; it must be i64\|u64/);
  refused('store(%1, %4) {count: 1}', /operand 1 is i32; it must be ptr/);
  refused('frobnicate()', /operation frobnicate is unknown/);
});

test('values are used where they are computed', () => {
  refused(
    'if(%3) then {\n %20: i32 = add(%1, %2)\n} else {\n}\n%21: i32 = add(%20, %2)',
    /inside of a branch or loop that has ended/,
  );
  // A latch sees what the body has computed before a continue, and not what comes after it.
  const loop = (first: string, second: string): string =>
    `loop() {label: "l"} body {\n ${first}\n if(%3) then {\n continue() {label: "l"}\n } else {\n }\n ${second}\n break() {label: "l"}\n} latch {\n %30: i32 = add(%20, %20)\n}`;
  verify(loop('%20: i32 = add(%1, %2)', ''));
  refused(loop('', '%20: i32 = add(%1, %2)'), /ended/);
});

test('labels', () => {
  refused('break() {label: "l"}', /break to l, which is not around it/);
  refused('block() {label: "b"} body {\n continue() {label: "b"}\n}', /which is a block and no loop/);
  refused('block() {label: "b"} body {\n block() {label: "b"} body {\n }\n}', /inside of another b/);
});

test('slots are set before they are read, on every way', () => {
  const declare = 'slot() [$0]\n';
  refused(`${declare}%20: f32 = get() [$0]`, /variable sum is read, but not set on every way/);
  refused('set(%4) [$0]', /not declared/);
  refused(`${declare}set(%1) [$0]`, /holds f32, not i32/);
  const half = `${declare}if(%3) then {\n set(%4) [$0]\n} else {\n OTHER\n}\n%20: f32 = get() [$0]`;
  refused(half.replace('OTHER', ''), /not set on every way/);
  verify(half.replace('OTHER', 'set(%4) [$0]'));
  verify(half.replace('OTHER', 'return()'));
  verify(
    `${declare}loop() {label: "l"} body {\n set(%4) [$0]\n break() {label: "l"}\n} latch {\n}\n%20: f32 = get() [$0]`,
  );
});

test('warps stay together for what they do together', () => {
  const under = (condition: string, node: string): string => `if(${condition}) then {\n ${node}\n} else {\n}`;
  refused(under('%3', 'barrier()'), /barrier is executed by a whole warp together, but the condition at .* differs/);
  refused(under('%3', '%20: f32 = shuffle(%4, %1) {mode: "bfly"}'), /shuffle is executed/);
  verify(under('%3', 'barrier() {aligned: false}'));
  verify(under('%5', 'barrier()'));
  // Whole warps: by number, and by a border between them.
  verify(`%20: pred = compare(%9, %1) {test: "eq"}\n${under('%20', '%21: f32 = shuffle(%4, %1) {mode: "bfly"}')}`);
  verify(`%19: i32 = const() {value: 128}\n%20: pred = compare(%2, %19) {test: "lt"}\n${under('%20', 'warp_sync()')}`);
  refused(
    `%19: i32 = const() {value: 100}\n%20: pred = compare(%2, %19) {test: "lt"}\n${under('%20', 'warp_sync()')}`,
    /warp_sync/,
  );
  // Threads that left the loop are missing in its later rounds.
  refused(
    `loop() {label: "l"} body {\n ${under('%3', 'break() {label: "l"}')}\n warp_sync()\n} latch {\n}`,
    /warp_sync/,
  );
  verify(`loop() {label: "l"} body {\n ${under('%3', 'break() {label: "l"}')}\n} latch {\n}\nwarp_sync()`);
  // A variable that threads wrote under different conditions differs.
  refused(
    `slot() [$1]\nset(%1) [$1]\n${under('%3', 'set(%8) [$1]')}\n%20: i32 = get() [$1]\n%21: pred = compare(%20, %1) {test: "eq"}\n${under('%21', 'warp_sync()')}`,
    /warp_sync/,
  );
});

test('warpgroups stay together for what they do together', () => {
  const under = (shift: number, number: number, test = 'eq'): string =>
    `%17: i32 = const() {value: ${shift}}\n%18: i32 = shr(%2, %17)\n%19: i32 = const() {value: ${number}}\n%20: pred = compare(%18, %19) {test: "${test}"}\nif(%20) then {\n wgmma_fence()\n} else {\n}`;
  verify(under(7, 1));
  verify(under(5, 4, 'lt'));
  refused(under(5, 1), /wgmma_fence is executed by a whole warpgroup together/);
  refused(under(5, 2, 'lt'), /differs between threads of a warpgroup/);
});

test('a kernel that overlaps the one before it waits for it', () => {
  const text = (body: string): string => `kernel "k" (32, 1, 1)\noverlaps_previous true\nbody {\n${body}\n}`;
  verifyKernel(parseKernel(text('grid_dependency_wait()')), archOf('sm_90a'));
  assert.throws(
    () => verifyKernel(parseKernel(text('fence()')), archOf('sm_90a')),
    /k overlaps .* call grid_dependency_wait/,
  );
});

test('barriers have numbers up to 15 and whole warps', () => {
  refused('barrier() {id: 16}', /barriers 0 to 15/);
  refused('barrier() {id: 1, count: 100}', /multiple of 32/);
  refused('barrier() {id: 1, count: 512}', /up to the CTA's 384/);
  refused('barrier_arrive() {id: 1}', /count is missing/);
});

test('alignment of what is known', () => {
  refused(
    '%20: ptr.shared = ptr_add(%6) {bytes: 8}\n%21: f32, %22: f32, %23: f32, %24: f32 = load(%20) {count: 4, align: 16}',
    /multiple of 16 bytes; it is at byte 8 of tile/,
  );
  refused(
    '%20: ptr.shared = ptr_add(%7) {bytes: 4}\nmbarrier_init(%20) {count: 1}',
    /a barrier must lie at a multiple of 8/,
  );
  refused('bulk_load(%6, %0, %8, %7)', /multiple of 16/);
});

test('registers that warpgroups ask for', () => {
  refused('set_max_registers() {count: 100, direction: "dec"}', /multiple of 8/);
  const each = (...counts: number[]): string =>
    counts.map((count) => `set_max_registers() {count: ${count}, direction: "inc"}`).join('\n');
  verify(each(24, 240, 240));
  refused(
    each(40, 240, 240),
    /the 3 warpgroups ask for 66560 registers together \(40 \+ 240 \+ 240 a thread\); there are 65536/,
  );
  refused(each(256), /ask for 98304 registers/);
});

test('bytes that a barrier expects are those that are copied', () => {
  const copy = (bytes: number): string =>
    `%19: i32 = const() {value: 512}\nmbarrier_expect(%7) {bytes: ${bytes}}\nbulk_load(%6, %0, %19, %7)`;
  verify(copy(512));
  refused(copy(1024), /waits for 1024 bytes, but the copies to it move 512/);
});

test('accumulators are left alone while the tensor cores write them', () => {
  const product =
    'slot() [$0]\n%20: u64 = wgmma_descriptor(%6) {leading: 16, stride: 1024, swizzle: "128"}\nset(%4) [$0]\nwgmma_fence()\nwgmma(%20, %20, %5) {shape: "m64n8k16", d: "f32", a: "bf16", b: "bf16"} [$0]\nwgmma_commit()\n';
  refused(`${product}%21: f32 = get() [$0]`, /accumulator sum is read while the wgmma at .* may still write it/);
  verify(`${product}wgmma_wait() {groups: 0} [$0]\n%21: f32 = get() [$0]`);
  refused(`${product}wgmma_wait() {groups: 1} [$0]\n%21: f32 = get() [$0]`, /may still write/);
});

test('copies out of shared memory are waited for, and architectures have what is used', () => {
  refused('bulk_store(%0, %6, %8)', /multiple of 16/);
  refused('%19: i32 = const() {value: 64}\nbulk_store(%0, %6, %19)', /never waited for/);
  refused('%20: pred = elect()', /elect needs sm_90; the kernel is compiled for sm_80/, 'sm_80');
  refused('wgmma_fence()', /needs sm_90a/, 'sm_100a');
});

test('text that is no kernel', () => {
  const text =
    (source: string): (() => void) =>
    () =>
      parseKernel(source, 't.ir');
  assert.throws(text('kernel "k" (1, 1, 1)\nbody {\n  %0: i33 = const()\n}'), /"i33" is no type\n {2}at t\.ir:3/);
  assert.throws(text('kernel "k" (1, 1, 1)\nbody {\n  trap(%1)\n}'), /%1 is not there before its use/);
  assert.throws(text('kernel "k" (1, 1, 1)\nbody {\n'), /missing|no part/);
});
