/**
 * A source file's URL as people and debuggers write it: a path with `/` between its parts on every system, with a drive's
 * letter or a server's name in front on Windows. Whatever is no file URL stays as it is.
 */
export function fileName(url: string): string {
  if (!url.startsWith('file://')) return url;
  const path = decoded(url.slice('file://'.length).replace(/[?#].*$/, ''));
  if (/^\/[A-Za-z]:(\/|$)/.test(path)) return path.slice(1);
  return path.startsWith('/') ? path : `//${path}`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
