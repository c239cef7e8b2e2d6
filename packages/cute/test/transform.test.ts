import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fileName } from '../src/ir/file-name.ts';
import { TransformError } from '../src/transform/syntax.ts';
import { transform } from '../src/transform/transform.ts';
import { rose, roseEsbuild } from '../src/vite.ts';

const OPTIONS = { runtime: 'runtime' };

function refused(body: string): TransformError {
  const code = `export const f = (a, b) => {\n  'use gpu';\n${body}\n};\n`;
  try {
    transform(code, 'kernel.ts', OPTIONS);
  } catch (error) {
    assert.ok(error instanceof TransformError, String(error));
    return error;
  }
  return assert.fail('it was not refused');
}

const REFUSED: Readonly<Record<string, readonly [code: string, line: number, what: RegExp]>> = {
  try: ['  try { a(); } catch { b(); }', 3, /try in a 'use gpu' function: .*assert\(\)/],
  'a generator': ['  function* g() { yield 1; }', 3, /a generator .*: return an array/],
  'an async function': ['  const g = async () => 1;', 3, /an async function .*outside of the kernel/],
  delete: ['  const o = { x: 1 };\n  delete o.x;', 4, /delete .*without the property/],
  'two indices in brackets': ['  a(b[i, j]);', 3, /a comma inside of \[ \] .*x\(i, _\)\[j\]/],
  'two indices in brackets that are assigned': ['  a[i, j] = b;', 3, /a comma inside of \[ \]/],
  'two indices in brackets that are called': ['  a[i, j]();', 3, /a comma inside of \[ \]/],
  var: ['  var x = 1;', 3, /'var' .*'let' or 'const'/],
  'for var': ['  for (var x of a) b(x);', 3, /'var'/],
  'a default value that keeps a reassigned parameter': [
    '  const g = (x, h = () => x) => {\n    x += 1;\n    return h();\n  };',
    3,
    /keeps the reassigned parameter 'x'.*copy the parameter/,
  ],
  'a private field of another object': [
    '  class C {\n    #x = 1;\n    set(o) {\n      o.#x = 2;\n    }\n  }',
    6,
    /#x of another object/,
  ],
  'a directive after other statements': ["  const g = () => {\n    a();\n    'use gpu';\n  };", 5, /first in the body/],
};

for (const [name, [code, line, what]] of Object.entries(REFUSED)) {
  test(`refuses ${name}, with the line and what to write instead`, () => {
    const error = refused(code);
    assert.match(error.message, what);
    assert.equal(error.line, line);
    assert.match(error.message, new RegExp(`^kernel\\.ts:${line}:\\d+: `));
  });
}

test('refuses await where a module may have one', () => {
  assert.throws(
    () => transform("async function f() {\n  'use gpu';\n}\n", 'kernel.ts', OPTIONS),
    /kernel\.ts:1:1: an async function/,
  );
});

test('a directive that marks nothing is refused, not ignored', () => {
  assert.throws(
    () => transform("const a = 1;\n'use gpu';\n", 'kernel.ts', OPTIONS),
    /kernel\.ts:2:1: 'use gpu' marks nothing here/,
  );
  assert.throws(() => transform("'use gpu';\nexport const f = 1;\n", 'kernel.ts', OPTIONS), /marks nothing here/);
});

test('an error of syntax says where it is', () => {
  assert.throws(() => transform("function f() {\n  'use gpu';\n  a b\n}\n", 'kernel.js', OPTIONS), /kernel\.js:3:5: /);
});

test('so does one that the stripping of types finds', () => {
  assert.throws(
    () => transform("function f() {\n  'use gpu';\n  enum A {}\n}\n", 'kernel.ts', OPTIONS),
    (error) => error instanceof TransformError && error.file === 'kernel.ts' && error.line === 3 && error.column > 1,
  );
});

test('files without kernels are left alone', () => {
  assert.equal(transform('export const a = 1 + 2;\n', 'a.ts', OPTIONS), undefined);
  assert.equal(transform("export const a = 'use gpu kernels';\n", 'a.ts', OPTIONS), undefined);
});

test('only marked functions and what is inside of them change', () => {
  const code = "const plain = (a, b) => a + b;\nfunction f(a) {\n  'use gpu';\n  return a + 1;\n}\n";
  const out = transform(code, 'a.js', OPTIONS) ?? '';
  assert.match(out, /const plain = \(a, b\) => a \+ b;\n/);
  assert.doesNotMatch(out, /return a \+ 1/);
  assert.doesNotMatch(out, /use gpu/);
});

test('what was transformed is not transformed again', () => {
  const out = transform("export function f(a) {\n  'use gpu';\n  return a + 1;\n}\n", 'a.js', OPTIONS) ?? '';
  assert.equal(transform(out, 'a.js', OPTIONS), undefined);
});

test('names that begin with $ and a first line for the shell are kept', () => {
  const code = "#!/usr/bin/env node\nconst $ = 1;\nexport const f = (a) => {\n  'use gpu';\n  return a + $;\n};\n";
  const out = transform(code, 'a.js', OPTIONS) ?? '';
  assert.match(out, /^#!\/usr\/bin\/env node\nimport \{ traceRuntime as \$_make \}/);
  assert.equal(out.split('\n').length, code.split('\n').length);
});

/** Statements spread over lines in every way that a template could lose a line break. */
const SPREAD = `
import { a } from './a.ts'
export function f(
  x: number,
  y: number = 1 +
    2,
): number {
  'use gpu'
  let s
    = x
    + y
  if (
    s
    < 3
  )
    s += 1
  else if (s > 4) {
    s = -
      s
  }
  else
  {
    ++
      s
  }
  for (
    let i = 0
    ;
    i < 3
    ;
    i++
  )
    s += a(
      i,
      s,
    )
  for (
    const v
    of
    [1,
     2]
  ) s += v
  while (
    s < 10
  )
  {
    s += 1
    if (s === 5)
      continue
    else
      break
  }
  do
    s -= 1
  while (
    s > 8
  )
  outer:
  for (;;)
  {
    switch (
      s
    ) {
      case
        1:
        s = 2
        break
      case 2:
      default:
        break outer
    }
  }
  let [
    p,
    q,
  ] = [
    1,
    s]
  ;[p, q] =
    [q, p]
  const o = {
    p,
    get: (
      z: number,
    ) =>
      z
      ? p
      : q,
    m() {
      return (
        this
          .p
      )
    },
  }
  o
    .p
    += 1
  const t = \`a\${
    p
  }b\`
  return (
    s +
    (p && q
      || o.get(1)) + (o
        ?.m?.() ?? 1) + t.length
  )
}
`;

test('lines stay where they are', () => {
  const out = transform(SPREAD, 'a.ts', OPTIONS) ?? '';
  assert.equal(out.split('\n').length, SPREAD.split('\n').length);
  for (const [what, find] of [
    ['the first statement', '= x'],
    ['the template', 'const t ='],
    ['the method', 'm()'],
    ['the object', 'const o ='],
  ]) {
    const lineOf = (text: string): number => text.split('\n').findIndex((line) => line.includes(find));
    if (what === 'the first statement') continue;
    assert.equal(lineOf(out), lineOf(SPREAD), what);
  }
});

test('the rewritten text is JavaScript', async () => {
  const out = transform(SPREAD, 'a.ts', OPTIONS) ?? '';
  const plain = out
    .replace(/^import \{ traceRuntime.*?; const \$ = .*?;/, 'const $ = undefined;')
    .replace(/import \{ a \}.*/, 'const a = 1;');
  await assert.doesNotReject(import(`data:text/javascript,${encodeURIComponent(plain)}`));
});

test("positions are those of the author's text", () => {
  const out =
    transform("export const f = (a) => {\n  'use gpu';\n  return a +\n    g(a * 2);\n};\n", 'a.js', OPTIONS) ?? '';
  // Line and column of `a + ...`, of the product and of the call.
  for (const [line, column] of [
    [3, 9],
    [4, 6],
    [4, 4],
  ]) {
    assert.match(out, new RegExp(`\\b${line * 4096 + column}\\b`));
  }
});

test('the plugins of bundlers transform the same files', async () => {
  const code = "export function f(a: number): number {\n  'use gpu';\n  return a + 1;\n}\n";
  const plugin = rose();
  const out = plugin.transform(code, 'dir/kernel.ts?v=1');
  assert.match(out?.code ?? '', /from "@rose\/cute\/runtime"/);
  assert.equal(plugin.transform(code, 'kernel.css'), undefined);
  assert.equal(plugin.transform('export {};', 'a.ts'), undefined);
  const loads: ((args: { path: string }) => Promise<{ contents: string } | undefined>)[] = [];
  roseEsbuild().setup({ onLoad: (_options, load) => loads.push(load) });
  const path = fileURLToPath(new URL('programs/control.ts', import.meta.url));
  assert.match((await loads[0]({ path }))?.contents ?? '', /\$\.enter\(/);
  assert.equal(await loads[0]({ path: fileURLToPath(new URL('ptxas.ts', import.meta.url)) }), undefined);
});

test('files with line ends of Windows are transformed, and their lines stay', () => {
  const code =
    "#!/usr/bin/env node\nexport function f(a, b) {\n  'use gpu';\n  let s = 0;\n  for (const i of a)\n    s += i *\n      b;\n  return s;\n}\n";
  const unix = transform(code, 'a.js', OPTIONS) ?? '';
  const windows = transform(code.replaceAll('\n', '\r\n'), 'C:\\kernels\\a.js', OPTIONS) ?? '';
  assert.equal(windows.replaceAll('\r', ''), unix);
  assert.equal(windows.split('\n').length, code.split('\n').length);
  assert.equal(windows.indexOf('import '), windows.indexOf('\n') + 1);
  assert.throws(
    () => transform("function f() {\r\n  'use gpu';\r\n  with (a) b;\r\n}", 'C:\\kernels\\a.js', OPTIONS),
    /C:\\kernels\\a\.js:3:/,
  );
});

test('a file by its URL, as people write it', () => {
  for (const [url, name] of [
    ['file:///src/me/kernel.ts', '/src/me/kernel.ts'],
    ['file:///src/my%20kernels/%C3%A4.ts?v=2', '/src/my kernels/\u00e4.ts'],
    ['file:///C:/src/me/kernel.ts', 'C:/src/me/kernel.ts'],
    ['file://server/share/kernel.ts', '//server/share/kernel.ts'],
    ['file:///100%/kernel.ts', '/100%/kernel.ts'],
    ['kernel axpy', 'kernel axpy'],
    ['https://host/kernel.js', 'https://host/kernel.js'],
  ]) {
    assert.equal(fileName(url), name);
  }
});
