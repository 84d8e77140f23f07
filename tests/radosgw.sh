#!/usr/bin/env bash
# A Ceph of one machine, in memory, with its S3 server (radosgw) on loopback, to test the object store against a real one.
# Debian: radosgw ceph-mon ceph-osd ceph-mgr ceph-common uuid-runtime curl
#   tests/radosgw.sh FOLDER up ACCESS_KEY SECRET_KEY    prints http://127.0.0.1:PORT when it answers
#   tests/radosgw.sh FOLDER down
set -euo pipefail
folder=$1 action=$2

if [ "$action" = down ]; then
    for file in "$folder"/*.pid; do [ ! -f "$file" ] || kill "$(cat "$file")" 2>/dev/null || true; done
    rm -rf "$folder"
    exit
fi

free_port() { python3 -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"; }
mkdir -p "$folder/mon" "$folder/osd"
monitor=$(free_port) web=$(free_port) cluster=$(uuidgen) disk=$(uuidgen)
cat > "$folder/ceph.conf" <<CONF
[global]
fsid = $cluster
mon initial members = a
mon host = v2:127.0.0.1:$monitor
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
osd objectstore = memstore
memstore device bytes = 1073741824
osd class load list = *
osd class default list = *
rgw enable usage log = false
keyring = $folder/keyring
mon data = $folder/mon
osd data = $folder/osd
run dir = $folder
log file = $folder/\$name.log
admin socket = $folder/\$name.asok
pid file = $folder/\$name.pid
CONF
export CEPH_CONF=$folder/ceph.conf
conf=(-c "$folder/ceph.conf")
{
    ceph-authtool -C "$folder/keyring" -g -n mon. --cap mon 'allow *'
    for name in client.admin client.rgw osd.0; do
        ceph-authtool "$folder/keyring" -g -n "$name" --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
    done
    monmaptool --create --fsid "$cluster" --addv a "[v2:127.0.0.1:$monitor]" "$folder/monmap"
    ceph-mon "${conf[@]}" -i a --mkfs --monmap "$folder/monmap" --keyring "$folder/keyring"
    ceph-mon "${conf[@]}" -i a
    ceph "${conf[@]}" osd new "$disk"
    ceph-osd "${conf[@]}" -i 0 --mkfs --osd-uuid "$disk"
    ceph-osd "${conf[@]}" -i 0
    ceph "${conf[@]}" osd crush add 0 1 root=default host=h
    timeout 60 radosgw-admin "${conf[@]}" user create --uid=t --display-name=t "--access-key=$3" "--secret=$4"
    radosgw "${conf[@]}" -n client.rgw --rgw-frontends "beast endpoint=127.0.0.1:$web"
} > "$folder/start.log" 2>&1
for _ in $(seq 150); do
    if curl -s -o /dev/null "http://127.0.0.1:$web"; then
        echo "http://127.0.0.1:$web"
        exit
    fi
    sleep 0.2
done
echo "radosgw does not answer; its log is in $folder/start.log" >&2
exit 1
