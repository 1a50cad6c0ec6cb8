# Sourced first by a case that must not reach what else runs on this machine (`xenloop off`, an /etc
# of its own, attacks on every agent): starts the case again in a network namespace with lo up and a
# mount namespace with an empty /run.
if [[ -z ${E2E_INSIDE:-} ]]; then
  own=(unshare -nm)
  [[ $(id -u) == 0 ]] || own=(unshare -rnm)
  export E2E_INSIDE=1
  exec "${own[@]}" bash -c 'PATH=$PATH:/usr/sbin:/sbin; ip link set lo up; mount -t tmpfs none /run; exec bash "$0" "$@"' \
    "$0" "$@"
fi
