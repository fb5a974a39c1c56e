#!/usr/bin/env bash
# Three machines on one: each has its own network, mounts, processes, host name and shared memory, and sshd as its only
# service. They are called head, w1 and w2 and have the addresses 10.77.8.10 to 10.77.8.12 on a bridge, 10.77.8.1.
#
#   SHARED   a folder that all of them see, like NFS; its keys let `ssh -i $SHARED/id root@ADDRESS` in
#   KEEP     folders under /tmp that they see too, with colons between; the rest of /tmp is each machine's own
#   BIN      folder of the python and ray that their shells find
set -euo pipefail
: "${SHARED:?}" "${BIN:?}"
here=$(cd "$(dirname "$0")" && pwd)

mkdir -p "$SHARED/run" /run/sshd
for key in id hostkey; do
    [ -f "$SHARED/$key" ] || ssh-keygen -q -t ed25519 -N '' -f "$SHARED/$key"
done
cp "$SHARED/id.pub" "$SHARED/authorized_keys"
chmod 600 "$SHARED/authorized_keys"

ip link add emotune0 type bridge
ip addr add 10.77.8.1/24 dev emotune0
ip link set emotune0 up
for machine in head:10 w1:11 w2:12; do
    name=${machine%%:*} address=10.77.8.${machine##*:} space=emotune-${machine%%:*}
    ip netns add "$space"
    ip link add "$space" type veth peer name eth0 netns "$space"
    ip link set "$space" master emotune0 up
    ip -n "$space" link set lo up
    ip -n "$space" addr add "$address/24" dev eth0
    ip -n "$space" link set eth0 up
    ip -n "$space" route add default via 10.77.8.1  # lets Ray find out its own address; nothing is forwarded
    bash "$here/boot.sh" "$name" "$address"
done
