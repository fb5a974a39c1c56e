#!/usr/bin/env bash
# The test of `ray up` makes three machines out of network namespaces. Does nothing where their tools are found; installs
# Debian's as root; else says that the test will be skipped.
set -euo pipefail

missing=""
for name in /usr/sbin/sshd ssh-keygen rsync ip unshare; do
    command -v "$name" >/dev/null 2>&1 || missing="$missing $name"
done
if [ -z "$missing" ]; then exit 0; fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends openssh-server openssh-client rsync iproute2 util-linux
    exit 0
fi

echo "The test of \`ray up\` will be skipped: it needs root and$missing" >&2
