#!/usr/bin/env bash
# The browser test wants a Chromium. Does nothing where one is found; installs Debian's as root; else says what to do.
set -euo pipefail

for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
    if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then exit 0; fi
done

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends chromium
    exit 0
fi

echo "The browser test needs Chromium. Install it (Debian: apt-get install chromium), or name one: CHROMIUM=/path/to/chromium make test" >&2
exit 1
