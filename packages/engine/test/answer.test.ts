import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Dialect, ToolFormat } from '../src/answer/dialect.ts';
import { append, AnswerParser, type AnswerOptions } from '../src/answer/parser.ts';
import type { AnswerPart } from '../src/answer/parts.ts';
import { random } from './tokenizers.ts';

const think = { open: '<think>', close: '</think>' };
const dialect = (tools: ToolFormat | undefined, reasoning: Dialect['reasoning'] = think): Dialect => ({
  takesTools: true,
  tools,
  reasoning,
});
const tools = ['weather', 'time'];

function parse(pieces: readonly string[], of: Dialect, options: AnswerOptions): AnswerPart[] {
  const parser = new AnswerParser(of, options);
  const parts: AnswerPart[] = [];
  for (const piece of pieces) for (const part of parser.push(piece)) append(parts, part);
  for (const part of parser.end()) append(parts, part);
  return parts;
}

/** A short notation of parts, for tables. */
function shown(parts: readonly AnswerPart[]): string[] {
  return parts.map((part) => {
    if (part.kind === 'call') return `call ${part.call} ${part.name}`;
    if (part.kind === 'arguments') return `arguments ${part.text}`;
    return `${part.kind} ${part.text}`;
  });
}

/** Format, text, and what it says. */
const CASES: readonly [ToolFormat | undefined, string, string[]][] = [
  [undefined, 'Hello.\n', ['content Hello.\n']],
  [undefined, '<think>\nIt is\n\ntwo.\n</think>\n\nTwo. <think>', ['reasoning It is\n\ntwo.', 'content Two. <think>']],
  [undefined, '<think>\n\n</think>\n\nTwo.', ['content Two.']],
  [undefined, ' \n<think>cut off </thi', ['reasoning cut off </thi']],
  [undefined, '<thin', ['content <thin']],
  [undefined, '', []],
  [undefined, '<tool_call>{"name": "f"}</tool_call>', ['content <tool_call>{"name": "f"}</tool_call>']],
  [
    'hermes',
    '<think>hm <tool_call></think>Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Köln \\"}{", "n": [1, {}]}}\n</tool_call>\n<tool_call>{"arguments": {"a": -1.5e3}, "name": "time"}</tool_call>\n',
    [
      'reasoning hm <tool_call>',
      'content Let me see.',
      'call 0 weather',
      'arguments {"city": "Köln \\"}{", "n": [1, {}]}',
      'call 1 time',
      'arguments {"a": -1.5e3}',
    ],
  ],
  ['hermes', '<tool_call>{"name": "time"}</tool_call>', ['call 0 time', 'arguments {}']],
  ['hermes', '<tool_call>{"name": "time", "arguments": {"a"', ['call 0 time', 'arguments {"a"']],
  ['hermes', '<tool_call>{"name": "time", "arguments": "{\\"a\\": 1}"}', ['call 0 time', 'arguments {"a": 1}']],
  [
    'hermes',
    '<tool_call>{"name": "time", "arguments": {a: 1}}</tool_call> done',
    ['call 0 time', 'arguments {a: 1}}', 'content  done'],
  ],
  ['hermes', 'x <tool_call>\nno</tool_call>', ['content x <tool_call>\nno</tool_call>']],
  ['hermes', '<tool_call>{"na', ['content <tool_call>{"na']],
  ['hermes', 'a <tool_cal\n', ['content a <tool_cal\n']],
  ['hermes', '<<tool_call>{"name":"a","arguments":3 }', ['content <', 'call 0 a', 'arguments 3']],
  [
    'llama3',
    ' {"name": "weather", "parameters": {"city": "Bonn"}}; {"name": "time", "parameters": {}}\n',
    ['call 0 weather', 'arguments {"city": "Bonn"}', 'call 1 time', 'arguments {}'],
  ],
  ['llama3', '{"type": "function", "name": "time", "parameters": {}}', ['call 0 time', 'arguments {}']],
  ['llama3', '{"name": "Ann", "age": 3}', ['content {"name": "Ann", "age": 3}']],
  ['llama3', '{"answer": {"name": "time"}}', ['content {"answer": {"name": "time"}}']],
  ['llama3', 'It is {"name": "time"}', ['content It is {"name": "time"}']],
  ['llama3', '{"name": "time"}; later', ['call 0 time', 'arguments {}', 'content ; later']],
  ['llama3', '<|python_tag|>{"name": "time", "parameters": {}}', ['call 0 time', 'arguments {}']],
  [
    'llama3',
    'Well:\n<|python_tag|>weather.call(city="Bonn", n=2, now=True)\n',
    ['content Well:', 'call 0 weather', 'arguments {"city":"Bonn","n":2,"now":true}'],
  ],
  ['llama3', '<|python_tag|>print(1)', ['content print(1)']],
  [
    'mistral',
    '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "a]b"}}, {"name": "time", "arguments": {}}]',
    ['call 0 weather', 'arguments {"city": "a]b"}', 'call 1 time', 'arguments {}'],
  ],
  [
    'mistral',
    'Hm.[TOOL_CALLS]weather[ARGS]{"city": "x"}[TOOL_CALLS]time[CALL_ID]abc123def[ARGS]{}',
    ['content Hm.', 'call 0 weather', 'arguments {"city": "x"}', 'call 1 time', 'arguments {}'],
  ],
  ['mistral', '[TOOL_CALLS]{"name": "time", "arguments": {}}', ['call 0 time', 'arguments {}']],
  ['mistral', '[TOOL_CALLS] what?', ['content  what?']],
  ['mistral', '[TOOL_CALLS]time{"a": 1x}', ['call 0 time', 'arguments {"a": 1x}']],
];

describe('answers are read', () => {
  it('as reasoning, content and calls', () => {
    for (const [format, text, expected] of CASES) {
      assert.deepEqual(shown(parse([text], dialect(format), { tools })), expected, `${format}: ${text}`);
    }
  });

  it('as reasoning from the start where the prompt has opened it', () => {
    const options = { reasoningOpened: true };
    assert.deepEqual(shown(parse(['\nA.\n</think>\nB'], dialect(undefined), options)), ['reasoning A.', 'content B']);
    assert.deepEqual(shown(parse(['A'], dialect(undefined), options)), ['reasoning A']);
  });

  it('with one call at most, if asked', () => {
    const call = '<tool_call>{"name": "time", "arguments": {}}</tool_call>';
    const parts = parse([call + call], dialect('hermes'), { tools, oneCall: true });
    assert.deepEqual(shown(parts), ['call 0 time', 'arguments {}']);
  });

  it('as text where no tools were given', () => {
    const text = '<tool_call>{"name": "time", "arguments": {}}</tool_call>';
    assert.deepEqual(shown(parse([text], dialect('hermes'), {})), [`content ${text}`]);
  });
});

describe('answers are read alike however they are split', () => {
  it('at any one place, and into single characters', () => {
    for (const [format, text] of CASES) {
      for (const reasoningOpened of [false, true]) {
        const options = { tools, reasoningOpened };
        const whole = parse([text], dialect(format), options);
        for (let at = 0; at <= text.length; at++) {
          const pieces = [text.slice(0, at), text.slice(at)];
          assert.deepEqual(parse(pieces, dialect(format), options), whole, `${format}: ${JSON.stringify(pieces)}`);
        }
        assert.deepEqual(parse(text.split(''), dialect(format), options), whole);
      }
    }
  });

  it('at random, also texts that are put together wrongly', () => {
    const rng = random(7);
    const scraps = CASES.flatMap(
      ([, text]) => text.match(/<\/?[^>]*>|\[[A-Z_]*\]|"[^"]*"|[{}:,;[\]]|\s+|[^\s"{}<[]+/g) ?? [],
    );
    const formats = ['hermes', 'llama3', 'mistral'] as const;
    for (let round = 0; round < 3000; round++) {
      const mixed = Array.from({ length: rng.below(20) }, () => rng.pick(scraps)).join('');
      const [format, text] =
        rng.below(2) === 0 ? [rng.pick(formats), mixed] : mutated(rng.pick(CASES), mixed, (n) => rng.below(n));
      const options = { tools, reasoningOpened: rng.below(5) === 0, oneCall: rng.below(5) === 0 };
      const whole = parse([text], dialect(format), options);
      const pieces: string[] = [];
      for (let at = 0; at < text.length;) {
        const length = rng.below(8);
        pieces.push(text.slice(at, at + length));
        at += length;
      }
      assert.deepEqual(parse(pieces, dialect(format), options), whole, `${format}: ${JSON.stringify(pieces)}`);
      assert.ok(whole.every((part) => part.kind === 'call' || part.text !== ''));
    }
  });
});

/** A case with a piece taken out and another put in. */
function mutated(
  [format, text]: (typeof CASES)[number],
  mixed: string,
  below: (n: number) => number,
): [ToolFormat | undefined, string] {
  const at = below(text.length + 1);
  const gone = below(4);
  return [format, text.slice(0, at) + mixed.slice(0, below(6)) + text.slice(at + gone)];
}
