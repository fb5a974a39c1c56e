#!/usr/bin/env bash
# The first process of a machine: its own /tmp and shared memory, its home, which outlives a crash as a disk does; sshd.
set -euo pipefail
name=$1 address=$2
hostname "emotune-$name"

own=$SHARED/run/tmp-$name home=$SHARED/run/home-$name
mkdir -p "$own" "$home"
mount -t tmpfs -o size=2g,mode=1777 tmpfs "$own"
echo "export PATH=$BIN:\$PATH" >"$home/.bashrc"
IFS=: read -ra kept <<<"$SHARED:${KEEP:-}"
for folder in "${kept[@]}"; do
    case $folder in
        /tmp/*)
            mkdir -p "$own${folder#/tmp}"
            mount --bind "$folder" "$own${folder#/tmp}"
            ;;
    esac
done
sed "s|^\(root:.*\):[^:]*:\([^:]*\)\$|\1:$home:\2|" /etc/passwd >"$own/passwd"
mount --bind "$own/passwd" /etc/passwd
mount --rbind "$own" /tmp
mount -t tmpfs -o size=1g tmpfs /dev/shm

cat >"/tmp/sshd.conf" <<CONFIGURATION
Port 22
ListenAddress $address
HostKey $SHARED/hostkey
AuthorizedKeysFile $SHARED/authorized_keys
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
PidFile none
MaxStartups 100
MaxSessions 100
CONFIGURATION
exec /usr/sbin/sshd -D -e -f /tmp/sshd.conf
