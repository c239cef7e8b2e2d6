// The page: chat, embed, rerank and what the server is doing, over the same HTTP API that everybody uses.

const STATUS_INTERVAL_MS = 2000;

const $ = (selector, root = document) => root.querySelector(selector);

/** An element with properties and children. Text is always text, never markup. */
function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Whether nobody wants to be asked for a key again. */
let declined = false;

/** A request with the API key, which the reader is asked for where the server wants one; the tab keeps it. */
async function ask(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem('key');
    const headers = { ...options.headers, ...(key !== null && { authorization: `Bearer ${key}` }) };
    const response = await fetch(path, { ...options, headers });
    if (response.status !== 401 || declined) return response;
    // Another request may have asked meanwhile.
    if (sessionStorage.getItem('key') !== key) continue;
    const given = prompt(
      key === null ? 'This server needs an API key:' : 'The server does not know this key. Another one:',
    );
    declined = given === null;
    if (given !== null) sessionStorage.setItem('key', given.trim());
  }
}

/** POST JSON; an answer that is not OK throws what the server said. */
async function post(path, body, signal) {
  const response = await ask(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal,
  });
  if (response.ok) return response;
  const reply = await response.json().catch(() => undefined);
  throw new Error(reply?.error?.message ?? `the server answered ${response.status} ${response.statusText}`);
}

function showError(panel, error) {
  const place = $('.error', panel);
  place.hidden = error === undefined;
  if (error === undefined) return;
  // A fetch that never got an answer says so differently in every browser.
  place.textContent = error instanceof TypeError ? 'The server does not answer. Is it still running?' : error.message;
}

// Tabs ---------------------------------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll('[role=tab]')];

function select(tab) {
  for (const other of tabs) {
    const selected = other === tab;
    other.setAttribute('aria-selected', String(selected));
    other.tabIndex = selected ? 0 : -1;
    $(`#${other.getAttribute('aria-controls')}`).hidden = !selected;
  }
}

tabs.forEach((tab, i) => {
  tab.addEventListener('click', () => {
    select(tab);
    history.replaceState(undefined, '', `#${tab.getAttribute('aria-controls')}`);
  });
  tab.addEventListener('keydown', (event) => {
    const moves = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 };
    const next = moves[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const target = tabs[(next + tabs.length) % tabs.length];
    target.click();
    target.focus();
  });
});

const wanted = tabs.find((tab) => `#${tab.getAttribute('aria-controls')}` === location.hash);
if (wanted !== undefined) select(wanted);

// Chat ---------------------------------------------------------------------------------------------------------------

const chat = $('#chat');
const chatForm = $('form', chat);
const log = $('#messages');
const conversation = [];
let running;

chatForm.addEventListener('submit', (event) => {
  event.preventDefault();
  if (running === undefined) void say(chatForm.elements.text.value.trim());
});

chatForm.elements.text.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  chatForm.requestSubmit();
});

$('#chat-stop').addEventListener('click', () => running?.abort());

$('#chat-clear').addEventListener('click', () => {
  running?.abort();
  conversation.length = 0;
  log.replaceChildren();
  showError(chat, undefined);
  chatForm.elements.text.focus();
});

async function say(text) {
  if (text === '') return;
  showError(chat, undefined);
  chatForm.elements.text.value = '';
  const before = conversation.length;
  conversation.push({ role: 'user', content: text });
  const question = element('div', { className: 'message user', textContent: text });
  const answer = element('div', { className: 'message assistant writing' });
  log.append(question, answer);
  log.scrollTop = log.scrollHeight;

  const request = new AbortController();
  running = request;
  setWriting(true);
  let content = '';
  let failure;
  let figures;
  const written = answer.appendChild(document.createTextNode(''));
  const show = () => {
    // Follow the text unless the reader has scrolled up.
    const following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    written.data = content;
    if (following) log.scrollTop = log.scrollHeight;
  };
  let frame;
  try {
    figures = await stream(request.signal, (piece) => {
      content += piece;
      // Tokens may come faster than frames: the page is laid out once a frame.
      frame ??= requestAnimationFrame(() => {
        frame = undefined;
        show();
      });
    });
  } catch (error) {
    if (request.signal.aborted) figures = 'stopped';
    else failure = error;
  }
  show();
  running = undefined;
  setWriting(false);
  answer.classList.remove('writing');
  if (conversation[before]?.content !== text) return; // A new chat began meanwhile.
  if (failure !== undefined) {
    showError(chat, failure);
    if (content === '') {
      // Nothing was answered: the message goes back to where it can be sent again.
      conversation.length = before;
      question.remove();
      answer.remove();
      chatForm.elements.text.value = text;
      return;
    }
  }
  conversation.push({ role: 'assistant', content });
  if (figures !== undefined) log.append(element('p', { className: 'figures', textContent: figures }));
  log.scrollTop = log.scrollHeight;
}

function setWriting(writing) {
  $('#chat-stop').hidden = !writing;
  $('[type=submit]', chatForm).hidden = writing;
}

/** Streams an answer to the conversation; resolves to its figures. */
async function stream(signal, onText) {
  const { elements } = chatForm;
  const body = { model: modelOf(chat), messages: conversation, stream: true, stream_options: { include_usage: true } };
  for (const name of ['temperature', 'top_p', 'seed', 'max_tokens']) {
    if (elements[name].value !== '') body[name] = elements[name].valueAsNumber;
  }
  const started = performance.now();
  let first;
  let last = started;
  let usage;
  let reason;
  const response = await post('/v1/chat/completions', body, signal);
  for await (const event of eventsOf(response)) {
    if (event.error !== undefined) throw new Error(event.error.message);
    const choice = event.choices[0];
    if (choice?.delta.content) {
      last = performance.now();
      first ??= last;
      onText(choice.delta.content);
    }
    reason = choice?.finish_reason ?? reason;
    usage = event.usage ?? usage;
  }
  if (usage === undefined) throw new Error('the answer broke off');
  const tokens = usage.completion_tokens;
  const parts = [`${tokens} tokens`];
  if (first !== undefined) parts.push(`first after ${Math.round(first - started)} ms`);
  if (first !== undefined && tokens > 1 && last > first) {
    parts.push(`${(((tokens - 1) / (last - first)) * 1000).toFixed(1)} tokens/s`);
  }
  if (reason === 'length') parts.push('cut off at the limit');
  return parts.join(' · ');
}

/** The JSON of server-sent events, up to `[DONE]`. */
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value;
    const events = buffer.split('\n\n');
    buffer = events.pop();
    for (const event of events) {
      const data = event.slice('data: '.length);
      if (data === '[DONE]') return;
      yield JSON.parse(data);
    }
  }
}

// Embed --------------------------------------------------------------------------------------------------------------

const embed = $('#embed');

onSubmit(embed, async ({ a, b }) => {
  const body = { model: modelOf(embed), input: [a.value, b.value], encoding_format: 'float' };
  const { data, usage } = await (await post('/v1/embeddings', body)).json();
  const similarity = cosine(data[0].embedding, data[1].embedding);
  const output = $('#similarity');
  output.replaceChildren(
    element('strong', { textContent: similarity.toFixed(4) }),
    `cosine similarity · ${data[0].embedding.length} dimensions · ${usage.prompt_tokens} tokens`,
    gauge(Math.max(0, similarity)),
  );
  output.hidden = false;
});

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

// Rerank -------------------------------------------------------------------------------------------------------------

const rerank = $('#rerank');
let ranking;

onSubmit(rerank, async ({ query, passages }) => {
  const documents = passages.value.split('\n').filter((line) => line.trim() !== '');
  const body = { model: modelOf(rerank), query: query.value, documents, return_documents: true };
  const { results, usage } = await (await post('/v1/rerank', body)).json();
  ranking = results;
  $('#ranking-note').textContent = `${results.length} passages · ${usage.total_tokens} tokens`;
  showRanking();
});

for (const button of document.querySelectorAll('[data-order]')) {
  button.addEventListener('click', () => {
    for (const other of document.querySelectorAll('[data-order]')) {
      other.setAttribute('aria-pressed', String(other === button));
    }
    showRanking();
  });
}

function showRanking() {
  const given = $('[data-order=given]').getAttribute('aria-pressed') === 'true';
  const rows = given ? ranking.toSorted((a, b) => a.index - b.index) : ranking;
  $('#ranking ol').replaceChildren(
    ...rows.map(({ document, relevance_score: score }) =>
      element(
        'li',
        {},
        element('span', { textContent: document.text }),
        element('span', { className: 'score', textContent: score.toFixed(4) }),
        gauge(score),
      ),
    ),
  );
  $('#ranking').hidden = false;
}

/** A bar from 0 to 1. The number stands beside it, so it is for the eye alone. */
function gauge(share) {
  const bar = element('div', { className: 'gauge', ariaHidden: 'true' });
  bar.style.setProperty('--share', share);
  return bar;
}

function onSubmit(panel, work) {
  const form = $('form', panel);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const button = $('[type=submit]', form);
    if (button.disabled) return;
    button.disabled = true;
    showError(panel, undefined);
    try {
      await work(form.elements);
    } catch (error) {
      showError(panel, error);
    }
    button.disabled = false;
  });
}

// Models and live counters -------------------------------------------------------------------------------------------

const PANELS = { generate: chat, embed, score: rerank };
const TASKS = { generate: 'generates text', embed: 'computes embeddings', score: 'ranks texts' };
let previous;

function modelOf(panel) {
  return $('[name=model]', panel).value;
}

async function refresh() {
  const health = $('#health');
  try {
    const response = await ask('/rose/status');
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const status = await response.json();
    const now = performance.now();
    health.dataset.state = status.ready ? 'ready' : 'failing';
    health.textContent = status.ready ? 'ready' : 'not ready';
    $('#device').textContent = status.device;
    $('#version').textContent = `version ${status.version}`;
    $('#metrics').hidden = status.metricsPort === null;
    $('#metrics').href = `//${location.hostname}:${status.metricsPort}/metrics`;
    offerModels(status.models);
    $('#models').replaceChildren(...status.models.map((model) => card(model, now)));
    previous = { now, counters: new Map(status.models.map(({ name, counters }) => [name, counters])) };
  } catch {
    health.dataset.state = 'failing';
    health.textContent = 'no answer';
  }
}

/** Which models each panel can use. Rebuilt only when they change, so that a choice stays. */
function offerModels(models) {
  for (const [task, panel] of Object.entries(PANELS)) {
    const fitting = models.filter((model) => model.task === task && (task !== 'score' || model.labels.length === 1));
    const names = fitting.map(({ name }) => name);
    const choice = $('[name=model]', panel);
    if ([...choice.options].map(({ value }) => value).join('\n') !== names.join('\n')) {
      choice.replaceChildren(...names.map((name) => element('option', { value: name, textContent: name })));
    }
    $('.model', panel).hidden = names.length === 0;
    $('.absent', panel).hidden = names.length > 0;
    if (running === undefined || panel !== chat) $('[type=submit]', panel).disabled = names.length === 0;
  }
}

function card({ name, task, labels, architecture, contextLength, layers, hiddenSize, memory, counters }, now) {
  const does = labels.length > 1 ? `sorts into ${labels.join(', ')}` : TASKS[task];
  const facts = [
    does,
    architecture,
    `${layers} layers of ${hiddenSize}`,
    `${contextLength.toLocaleString('en')} tokens`,
  ];
  const rate = (counter) => {
    const before = previous?.counters.get(name)?.[counter];
    if (before === undefined) return '–';
    const perSecond = ((counters[counter] - before) / (now - previous.now)) * 1000;
    return perSecond < 10 ? perSecond.toFixed(1) : Math.round(perSecond).toLocaleString('en');
  };
  const rows = [
    ['running · waiting', `${counters.running} · ${counters.waiting}`],
    ['prompt tokens/s', rate('promptTokens')],
    ...(task === 'generate' ? [['generated tokens/s', rate('generatedTokens')]] : []),
    ['requests', counters.requests.toLocaleString('en')],
    ['failed · cancelled', `${counters.failures} · ${counters.cancelled}`],
    ['mean batch', counters.steps === 0 ? '–' : (counters.stepSequences / counters.steps).toFixed(2)],
    ['weights', bytes(memory.weights)],
    ['sequences', bytes(memory.sequences)],
  ];
  return element(
    'div',
    { className: 'card' },
    element('h3', { textContent: name }),
    element('p', { textContent: facts.join(' · ') }),
    element(
      'dl',
      {},
      ...rows.flatMap(([term, value]) => [element('dt', { textContent: term }), element('dd', { textContent: value })]),
    ),
  );
}

function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

async function watch() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((resolve) => setTimeout(resolve, STATUS_INTERVAL_MS));
  }
}

void watch();
