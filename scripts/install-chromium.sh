#!/bin/sh
# Makes sure there is a Chromium for the page's tests: Debian's package, where it is missing and may be installed.
set -eu

for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null 2>&1; then
    exit 0
  fi
done

give_up() {
  echo "install-chromium: $1" >&2
  echo "install-chromium: install Chromium yourself, or set ROSE_SKIP_BROWSER=1 to leave out the page's tests" >&2
  exit 1
}

command -v apt-get >/dev/null 2>&1 || give_up 'there is no Chromium here, and no apt-get to install it with'
as_root=
if [ "$(id -u)" != 0 ]; then
  # Never ask for a password in the middle of a test run.
  command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null ||
    give_up 'there is no Chromium here, and this user may not install packages'
  as_root='sudo -n'
fi

echo 'install-chromium: installing the package chromium' >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium >>"$log" 2>&1
}
# The package lists of a fresh machine may be empty or old.
install || { $as_root apt-get update >>"$log" 2>&1 && install; } || {
  tail -n 5 "$log" >&2
  give_up 'the package could not be installed'
}
