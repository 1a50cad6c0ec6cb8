# Grants and event channels between the guests, in both directions.
for pair in 'a b' 'b a'; do
  read -r owner mapper <<<"$pair"
  owner_domid=$(domid "$owner") mapper_domid=$(domid "$mapper")
  guest "$owner" "setsid grant_probe owner $mapper_domid >/tmp/owner.log 2>&1 </dev/null &
    for i in \$(seq $((50 * patience))); do [ -s /tmp/owner.log ] && break; usleep 50000; done"
  read -r reference port <<<"$(guest "$owner" 'cat /tmp/owner.log')"
  note "$mapper to $owner: $(guest "$mapper" "grant_probe mapper $owner_domid $reference $port")"
done
