#!/usr/bin/env bash
# A Postgres server on loopback, thrown away afterwards, to test a farm on. Debian: postgresql
#   tests/postgres.sh FOLDER up        prints postgresql://postgres@127.0.0.1:PORT/postgres when it answers
#   tests/postgres.sh FOLDER crash     ends it at once, as a power cut would, and starts it again
#   tests/postgres.sh FOLDER down
set -euo pipefail
folder=$1
programs=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
as_postgres() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
control() { as_postgres "$programs/pg_ctl" -D "$folder/data" -l "$folder/log" -s -w "$@"; }

case $2 in
up)
    mkdir -p "$folder"
    [ "$(id -u)" != 0 ] || chown postgres "$folder"
    port=$(python3 -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
    as_postgres "$programs/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C > "$folder/initdb.log"
    printf "port = %s\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 300\n" "$port" |
        as_postgres tee -a "$folder/data/postgresql.conf" > /dev/null
    control start
    echo "postgresql://postgres@127.0.0.1:$port/postgres"
    ;;
crash)
    control -m immediate restart
    ;;
down)
    control -m immediate stop || true
    rm -rf "$folder"
    ;;
esac
