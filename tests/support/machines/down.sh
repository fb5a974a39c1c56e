#!/usr/bin/env bash
# Takes the three machines away, with everything that runs on them.
: "${SHARED:?}"
for name in head w1 w2; do
    if [ -f "$SHARED/run/$name.pid" ]; then kill -9 "$(cat "$SHARED/run/$name.pid")" 2>/dev/null; fi
    ip link del "emotune-$name" 2>/dev/null
done
sleep 0.5
for name in head w1 w2; do ip netns del "emotune-$name" 2>/dev/null; done
ip link del emotune0 2>/dev/null
rm -rf --one-file-system "$SHARED/run"
