#!/usr/bin/env bash
# Boots one machine, also one that has crashed: boot.sh w2 10.77.8.12. SIGKILL to the process that $SHARED/run/w2.pid
# names is a crash of the whole machine.
set -euo pipefail
: "${SHARED:?}" "${BIN:?}"
here=$(cd "$(dirname "$0")" && pwd)
name=$1 address=$2

setsid ip netns exec "emotune-$name" unshare --mount --pid --uts --ipc --fork --kill-child --mount-proc \
    bash "$here/init.sh" "$name" "$address" >>"$SHARED/run/$name.log" 2>&1 </dev/null &
echo $! >"$SHARED/run/$name.pid"
for _ in $(seq 600); do
    if (exec 3<>"/dev/tcp/$address/22") 2>/dev/null; then exit 0; fi
    sleep 0.1
done
echo "$name does not boot:" >&2
tail "$SHARED/run/$name.log" >&2
exit 1
