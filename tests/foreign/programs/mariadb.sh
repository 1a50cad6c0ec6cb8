#!/usr/bin/env bash
# MariaDB over TCP: sysbench with several threads, large values both ways, and a client that is
# killed in the middle of its transaction.
. "$(dirname "$0")/../../e2e/lib.sh"
need mariadbd mariadb-install-db mariadb sysbench
user=()
[[ $(id -u) != 0 ]] || user=(--user=root)
mariadb-install-db --no-defaults "${user[@]}" --datadir="$work/fresh" --skip-test-db \
  --auth-root-authentication-method=normal >"$work/install.log" 2>&1 || fail "no data base could be made"

scenario() {
  pick_port port
  rm -rf "$work/db"
  cp -r "$work/fresh" "$work/db"
  start mariadbd mariadbd --no-defaults "${user[@]}" --datadir="$work/db" --bind-address=127.0.0.1 --port="$port" \
    --socket="$work/socket" --pid-file="$work/db/pid" --max-allowed-packet=64M --innodb-flush-log-at-trx-commit=0 \
    --innodb-buffer-pool-size=32M
  listening "$port"
  local client=(mariadb --no-defaults -h 127.0.0.1 -P "$port" -u root --max-allowed-packet=64M -N -B)
  run "${client[@]}" -e 'create database sbtest'
  local bench=(--db-driver=mysql --mysql-host=127.0.0.1 --mysql-port="$port" --mysql-user=root --tables=2
    --table-size=3000 --time=0 --threads=4 --rand-seed=7)
  run sysbench oltp_read_only "${bench[@]}" prepare | grep -c '^Inserting'
  local test
  for test in "oltp_read_only --events=300" "oltp_point_select --events=8000" "oltp_update_index --events=1500" \
    "select_random_ranges --events=300"; do
    # shellcheck disable=SC2086
    run sysbench $test "${bench[@]}" run >"$work/$mode.sysbench.log" 2>&1
    grep -E '^ +(read|total number of events|reconnects):' "$work/$mode.sysbench.log" | sed 's/ *(.*//'
  done
  run sysbench oltp_read_write "${bench[@]}" --events=200 run >"$work/$mode.sysbench.log" 2>&1  # may deadlock
  grep -E '^ +(total number of events|reconnects):' "$work/$mode.sysbench.log" | sed 's/ *(.*//'
  run "${client[@]}" -e 'select count(*), sum(id) from sbtest.sbtest1'
  run "${client[@]}" sbtest -e 'create table big (id int primary key, value longblob)'
  { for i in 1 2 3; do echo "insert into big values ($i, repeat('line $i;', 2000000));"; done
    echo "insert into big values (4, '$(numbers 3000000 | tr '\n' ' ')');"; } >"$work/big.sql"
  run "${client[@]}" sbtest <"$work/big.sql"
  run "${client[@]}" sbtest -e 'select id, length(value), sha2(value, 256) from big order by id'
  run "${client[@]}" sbtest -e 'select value from big order by id' | sha256sum
  run "${client[@]}" --quick sbtest -e 'select id, k, c, pad from sbtest2 where id <= 3000 and id % 2 = 3' | sha256sum
  run timeout -s KILL 0.5 "${client[@]}" sbtest -e 'begin; update big set value = 0; select sleep(30)' >/dev/null || true
  eventually alone "${client[@]}"
  run "${client[@]}" sbtest -e "select sha2(group_concat(sha2(value, 256)), 256) from big"
  stop mariadbd
}

# alone CLIENT...: the server has noticed that nobody else is there.
alone() {
  [[ $(run "$@" -e "select count(*) from information_schema.processlist where db = 'sbtest'") == 0 ]]
}

both scenario
expect_fifo mariadbd sysbench mariadb
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo mariadbd sysbench mariadb
