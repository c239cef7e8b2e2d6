/** The message in an error's body, whichever protocol's it is. */
export function errorText(body: unknown): string {
  const error = (body as { error?: unknown } | null)?.error ?? body;
  const message = (error as { message?: unknown } | null)?.message ?? error;
  const text = typeof message === 'string' ? message : JSON.stringify(message);
  return text.length > MOST ? `${text.slice(0, MOST)}...` : text;
}

const MOST = 300;
