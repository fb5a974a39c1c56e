#!/usr/bin/env bash
# The test of `ray up` makes three machines out of network namespaces, others start a PostgreSQL server. Does nothing where
# what they need is found; installs Debian's as root; else says that these tests will be skipped.
set -euo pipefail

missing=""
for name in /usr/sbin/sshd ssh-keygen rsync ip unshare; do
    command -v "$name" >/dev/null 2>&1 || missing="$missing $name"
done
command -v postgres >/dev/null 2>&1 || compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null || missing="$missing postgres"
if [ -z "$missing" ]; then exit 0; fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends openssh-server openssh-client rsync iproute2 util-linux postgresql
    exit 0
fi

echo "Tests of \`ray up\` and PostgreSQL will be skipped: they need$missing (and root, for \`ray up\`)" >&2
