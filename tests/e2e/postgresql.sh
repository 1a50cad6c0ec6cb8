#!/usr/bin/env bash
# PostgreSQL over TCP: pgbench with four clients and fixed seeds (the sums at the end are the same
# in every run), large rows, COPY in and out, a dump by checksum, a cancelled query.
. "$(dirname "$0")/lib.sh"
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[[ -x $bin/postgres ]] || skip "postgresql is not installed"
PATH=$bin:$PATH
need initdb psql pgbench pg_dump

as=()                     # postgres refuses to be root
[[ $(id -u) != 0 ]] || as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
export PGHOST=127.0.0.1 PGUSER=tester PGDATABASE=postgres PGCONNECT_TIMEOUT=10
cd /

query() { run "${as[@]}" psql -XqAt -v ON_ERROR_STOP=1 "$@"; }

scenario() {
  pick_port port
  export PGPORT=$port
  local data=$work/$mode.data
  mkdir "$data"
  [[ $(id -u) != 0 ]] || chown postgres "$data"
  "${as[@]}" initdb -D "$data" -U tester -A trust -N --no-locale -E UTF8 >"$work/initdb.log" 2>&1
  start postgres "${as[@]}" "$bin/postgres" -D "$data" -p "$port" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c fsync=off -c autovacuum=off -c ssl=off
  eventually pg_isready -q
  run "${as[@]}" pgbench -q -i -s 2 2>"$work/$mode.pgbench-i.log"
  run "${as[@]}" pgbench -c 4 -j 2 -t 500 --random-seed=7 >"$work/$mode.pgbench.log" 2>&1
  grep -E 'transactions actually|failed transactions' "$work/$mode.pgbench.log"
  query -c "select count(*), sum(abalance) from pgbench_accounts" \
    -c "select sum(delta), count(*) from pgbench_history"
  run "${as[@]}" pgbench -c 4 -j 2 -T 3 -S -M prepared >"$work/$mode.pgbench2.log" 2>&1
  grep -E 'failed transactions' "$work/$mode.pgbench2.log" || true   # before PostgreSQL 15 it does not count them
  query -c "create table big(id int, body text)"
  seq 1 200000 | awk '{ print $1 "\t" $1 * 31 "-" $1 * 77 "-abcdefghijklmnopqrstuvwxyz" }' |
    query -c "copy big from stdin"
  query -c "copy (select * from big order by id) to stdout" | sha256sum
  query -c "select string_agg(body, ',' order by id) from big" | sha256sum
  query -c "select repeat(md5(i::text), 1000) from generate_series(1, 300) i" | sha256sum
  run "${as[@]}" pg_dump -t big -t pgbench_branches -t pgbench_tellers -t pgbench_accounts |
    grep -vE '^\\(un)?restrict ' | sort | sha256sum     # rows lie where the updates left them
  query -c "set statement_timeout = 200" -c "select pg_sleep(60)" 2>&1 || echo "psql: exit $?"
  stop postgres INT
}

both scenario XENLOOP_OTHER_USERS=on
expect_fifo postgres pgbench psql pg_dump
